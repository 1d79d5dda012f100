"""Golden curves: ten training steps of every model, likelihood and estimator, in float64.

A refactoring leaves them as they are, to a relative 1e-9. A change that moves them on purpose makes
them again and says so in the changelog under Numbers, with before and after::

    python tests/test_golden.py

The same command adds the curves of a newly registered name.
"""

import json
from pathlib import Path

import pytest
from tiny import images, make_vae

from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS
from vaebench.training import OPTIMIZERS, SCHEDULES, Plan, State, train

GOLDEN = Path(__file__).with_name("golden.json")
CELLS = [f"{m} / {x} / {e}" for m in MODELS for x in LIKELIHOODS for e in ESTIMATORS]
Curves = dict[str, list[float | None]]


def curves(cell: str) -> Curves:
    """Return five epochs of two steps (batches of 4 and 3 images), from the defaults of a run."""
    model, loss, estimator = cell.split(" / ")
    vae = make_vae(model, loss)
    optimizer = OPTIMIZERS["adam"](vae, 1e-2)
    state = State(vae, optimizer, SCHEDULES["constant"](optimizer, 5))
    plan = Plan(epochs=5, batch_size=4, samples=ESTIMATORS[estimator].samples)
    found: Curves = {}
    x, validation = images(7), images(5, name="validation")
    for epoch in train(state, ESTIMATORS[estimator], x, validation, plan, seed=0):
        assert epoch.validation is not None
        for split, means in (("train", epoch.train), ("val", epoch.validation)):
            for name, value in means._asdict().items():
                found.setdefault(f"{split}/{name}", []).append(value)
    return found


def as_text(golden: dict[str, Curves]) -> str:
    """Return the content of the file: JSON with one curve a line."""
    cells = []
    for cell, curves_of_cell in golden.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(c)}" for name, c in curves_of_cell.items()]
        cells.append(f" {json.dumps(cell)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(cells) + "\n}\n"


@pytest.mark.parametrize("cell", CELLS)
def test_ten_steps_follow_the_golden_curve(cell: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert cell in golden, f"no golden curve of {cell}: python tests/test_golden.py"
    found = curves(cell)
    assert set(found) == set(golden[cell])
    for name, expected in golden[cell].items():
        if None in expected:
            assert found[name] == expected, name
        else:
            assert found[name] == pytest.approx(expected, rel=1e-9), name


def test_every_golden_curve_is_of_a_registered_cell() -> None:
    assert set(json.loads(GOLDEN.read_text(encoding="utf-8"))) <= set(CELLS)


def test_the_file_has_one_curve_a_line() -> None:
    text = GOLDEN.read_text(encoding="utf-8")
    assert text == as_text(json.loads(text))
    assert sum("[" in line for line in text.splitlines()) == sum(
        map(len, json.loads(text).values())
    )


def test_no_two_golden_curves_are_the_same() -> None:  # trap 5: every switch really switches
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    ends = [curve["train/elbo"][-1] for curve in golden.values()]
    assert len(set(ends)) == len(golden)


if __name__ == "__main__":
    GOLDEN.write_text(as_text({cell: curves(cell) for cell in CELLS}), encoding="utf-8")
    print(f"{GOLDEN}: {len(CELLS)} cells")
