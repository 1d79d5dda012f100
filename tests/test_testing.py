"""What ``vaebench new`` writes works at once; ``vaebench check`` finds what is planted in it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from plugin_files import forgotten, write

from vaebench import testing
from vaebench.cli import main
from vaebench.cli.plugins import KINDS
from vaebench.errors import ConfigError

EXAMPLES = Path(__file__).parents[1] / "experiments" / "plugins"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with forgotten():
        yield


def invoked(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_works_at_once(kind: str) -> None:
    made = invoked("new", kind, "my_own")
    assert made.exit_code == 0, made.output
    source = Path("my_own.py").read_text(encoding="utf-8")
    assert "example" not in source.lower().replace("an example", "")
    checked = invoked("check", "my_own.py")
    assert checked.exit_code == 0, checked.output
    assert f"{kind} my_own" in checked.stdout.splitlines()
    assert "FAILS" not in checked.stdout


@pytest.mark.slow
def test_its_test_runs_with_pytest() -> None:
    invoked("new", "model", "my_own")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "my_own.py"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    spoil("model", ("self.mean(features), self", "self.mean(features * x.sum()), self"))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "moves by" in done.stdout


@pytest.mark.parametrize("name", ["fnn", "Upper", "1st", "a-b", "class", "../up", "x" * 50, ""])
def test_a_name_that_is_none_or_taken_writes_nothing(name: str, tmp_path: Path) -> None:
    assert invoked("new", "model", name).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept() -> None:
    Path("my_own.py").write_text("mine")
    assert invoked("new", "model", "my_own").exit_code == 2
    assert Path("my_own.py").read_text() == "mine"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_worked_examples_hold(path: Path) -> None:
    testing.require(path)


def spoil(kind: str, *edits: tuple[str, str]) -> None:
    """Write what ``new`` writes, with mistakes."""
    Path("my_own.py").unlink(missing_ok=True)
    invoked("new", kind, "my_own")
    source = Path("my_own.py").read_text(encoding="utf-8")
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    Path("my_own.py").write_text(source, encoding="utf-8")


MISTAKES = {  # kind, edits, what does not hold, and what is said
    "wrong size": (
        "model",
        [("nn.Linear(width, maps * pixels)", "nn.Linear(width, maps * pixels + 1)")],
        "shapes fit",
        "Provided sizes",
    ),
    "transposed": (
        "model",
        [("(maps * channels, height, width_px)", "(maps * channels, width_px, height)")],
        "shapes fit",
        "its decoder's output of 2 images has the shape",
    ),
    "no pair": (
        "model",
        [("return self.mean(features), self.log_var(features)", "return self.mean(features)")],
        "shapes fit",
        "an encoder returns (mean, log_var)",
    ),
    "by batch": (
        "model",
        [("features = self.body(x)", "features = self.body(x - x.mean(dim=0))")],
        "evaluation depends neither",
        "moves by",
    ),
    "random in evaluation": (
        "model",
        [("features = self.body(x)", "features = nn.functional.dropout(self.body(x))")],
        "evaluation depends neither",
        "another value each time",
    ),
    "no gradient": (
        "model",
        [("self.log_var(features)", "self.log_var(features).detach()")],
        "gradients reach every parameter",
        "no gradient reaches encoder.network.log_var",
    ),
    "wrong gradient": (
        "model",
        [("features = self.body(x)", "features = self.body(x) * self.body(x).mean().detach()")],
        "finite differences",
        "the gradient says",
    ),
    "global seed": (
        "model",
        [("pixels = channels", "import torch; torch.manual_seed(1); pixels = channels")],
        "seeds no global random stream",
        "torch.manual_seed (line",
    ),
    "seed at import": (
        "model",
        [('MODELS["my_own"]', 'import random; random.random(); MODELS["my_own"]')],
        "importing it draws nothing",
        "Python's random",
    ),
    "numpy's stream": (
        "model",
        [("features = self.body(x)", "__import__('numpy').random.rand(); features = self.body(x)")],
        "shapes fit",
        "moves the global random state of numpy",
    ),
    "state beside the weights": (
        "model",
        [
            (
                "features = self.body(x)",
                "self.n += self.training; features = self.body(x) * self.n",
            ),
            ("super().__init__()", "super().__init__(); self.n = 1.0"),
        ],
        "resumes bit for bit",
        "after an interruption",
    ),
    "constant left out": (
        "loss",
        [(" - math.log(2 * self.scale)", "")],
        "totals one",
        "totals 0.2",
    ),
    "mean over pixels": (
        "loss",
        [(".sum(dim=1)", ".mean(dim=1)")],
        "summed over its pixels",
        "twice as high",
    ),
    "sum over the batch": (
        "loss",
        [("density.flatten(1).sum(dim=1)", "density.sum()")],
        "summed over its pixels",
        "log_prob has the shape ()",
    ),
    "overflow": (
        "loss",
        [("torch.sigmoid(params)", "params.exp() / (1 + params.exp())")],
        "large outputs stay finite",
        "where the decoder returns 100",
    ),
    "wrong sign": (
        "estimator",
        [("bound = -(rate + distortion)", "bound = rate - distortion")],
        "bound splits",
        "not -(rate + distortion)",
    ),
    "above the evidence": (
        "estimator",
        [("rate = q.kl_to_standard_normal()", "rate = 0 * q.kl_to_standard_normal()")],
        "not above log p(x)",
        "its mean is",
    ),
    "own noise": (
        "estimator",
        [("z = q.sample(draws)", "z = q.sample(draws.new_empty(draws.shape).normal_())")],
        "one value an image",
        "depends on its batch",
    ),
    "mean over the batch": (
        "estimator",
        [("surrogate=bound, bound=bound", "surrogate=bound, bound=bound.mean()")],
        "one value an image",
        "has the shape ()",
    ),
    "other shape": (
        "dataset",
        [("shape=(1, 8, 8)", "shape=(1, 8, 9)")],
        "as declared",
        "but the entry says (1, 8, 9)",
    ),
    "out of range": (
        "dataset",
        [("return Arrays(x[test:]", "x = x / 128; return Arrays(x[test:]")],
        "as declared",
        "pixels go from",
    ),
    "others each time": (
        "dataset",
        [("default_rng(0)", "default_rng()")],
        "same when it is read again",
        "another digest",
    ),
    "not finite": (
        "metric",
        [("off.double().mean().item()", "float('nan')")],
        "finite number",
        "is nan",
    ),
    "random": (
        "metric",
        [("off.double().mean().item()", "__import__('random').random()")],
        "finite number",
        "moves the global random state of Python's random",
    ),
    "by place": (
        "metric",
        [
            ('"dataset", version=1)', '"dataset", version=1), part="evidence"'),
            ("off = (e.x - e.reconstruction).abs() > 0.1", "import time; off = e.bound"),
            ("off.double().mean().item()", "off.mean().item() + time.perf_counter()"),
        ],
        "depends neither",
        "another number when measured again",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found_and_named(name: str) -> None:
    kind, edits, what, said = MISTAKES[name]
    spoil(kind, *edits)
    with forgotten():
        done = invoked("check", "my_own.py")
    assert done.exit_code == 1, done.output
    failed = [line for line in done.stdout.splitlines() if line.startswith("  FAILS  ")]
    assert [line for line in failed if what in line and said in line], done.stdout
    with forgotten(), pytest.raises(AssertionError) as refused:
        testing.require("my_own.py")
    assert said in str(refused.value)


def test_an_option_that_must_be_given_is_given_by_set(tmp_path: Path) -> None:
    spoil(
        "dataset",
        ("count: Annotated[int, Ge(100)] = 1000", 'path: str = "", count: int = 1000'),
    )
    refused = invoked("check", "my_own.py")
    assert refused.exit_code == 2
    assert "my_own.path must be given" in refused.output
    with forgotten():
        done = invoked("check", "my_own.py", "--set", "dataset.my_own.path=here")
    assert done.exit_code == 0, done.output


def test_what_enters_nothing_or_is_not_there_is_no_plugin(tmp_path: Path) -> None:
    write(tmp_path / "empty.py", "x = 1")
    for plugin in ("empty.py", "no_such.py"):
        with pytest.raises(ConfigError):
            testing.check(plugin)
