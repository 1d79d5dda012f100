"""Fréchet distance, precision and recall of what is generated, and the classifier behind them."""

import dataclasses
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from tiny import assert_exact, draws, make_subject, make_vae
from torch import Tensor

from vaebench import datasets
from vaebench.errors import DataError
from vaebench.metrics import (
    Generation,
    Reference,
    classifier,
    classifier_frechet,
    precision,
    recall,
)
from vaebench.metrics.classifier import reference
from vaebench.metrics.generation import squared_radii

DIGITS = datasets.load("digits")


def correlated(count: int, width: int, name: str) -> Tensor:
    return draws(count, width, name=name) @ draws(width, width, name=f"{name}/mix") + draws(width)


# ---------------------------------------------------------------- Fréchet distance


def test_frechet_distance_is_that_of_the_closed_form() -> None:
    a, b = correlated(60, 5, "a"), correlated(80, 5, "b")
    mean = (a.mean(0) - b.mean(0)).square().sum().item()
    c, d = (np.cov(t.numpy(), rowvar=False) for t in (a, b))
    expected = mean + np.trace(c + d - 2 * sqrtm(c @ d).real)
    assert classifier_frechet(Generation(a, b)) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_two_gaussians_on_a_line() -> None:
    x = draws(1000)
    standard = torch.stack([(x - x.mean()) / x.std(), torch.zeros(1000)], dim=1)
    shift = torch.tensor([2.0, 0.0])
    found = classifier_frechet(Generation(3 * standard + shift, standard))
    assert found == pytest.approx(2**2 + (3 - 1) ** 2, rel=1e-9)  # (m1 - m2)^2 + (s1 - s2)^2


def test_frechet_distance_to_itself_is_zero_and_a_collapse_stays_finite() -> None:
    a = correlated(50, 4, "a")
    assert classifier_frechet(Generation(a, a)) == pytest.approx(0.0, abs=1e-9)
    flat = torch.zeros(50, 4, dtype=torch.float64)  # one image, again and again
    expected = a.mean(0).square().sum() + torch.cov(a.T).trace()
    assert classifier_frechet(Generation(flat, a)) == pytest.approx(expected.item(), rel=1e-9)


# ---------------------------------------------------------------- precision and recall


def brute_force(points: Tensor, manifold: Tensor, k: int = 3) -> float:
    """Equation 2 of Kynkäänniemi et al., point by point."""
    inside = 0
    for point in points:
        for i, centre in enumerate(manifold):
            others = [(centre - m).norm().item() for j, m in enumerate(manifold) if j != i]
            if (point - centre).norm().item() <= sorted(others)[k - 1]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("rows", [1, 7, 500])
def test_precision_and_recall_are_those_of_the_definition(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaebench.metrics.generation._ROWS", rows)
    g = Generation(1.5 * draws(25, 2, name="g"), draws(25, 2, name="r"))
    assert precision(g) == brute_force(g.generated, g.real)
    assert recall(g) == brute_force(g.real, g.generated)
    assert 0.2 < precision(g) < recall(g)


def test_equal_sets_have_precision_and_recall_one_and_distant_ones_zero() -> None:
    a = correlated(40, 6, "a")
    assert (precision(Generation(a, a)), recall(Generation(a, a))) == (1.0, 1.0)
    apart = Generation(a, a + 1000)
    assert (precision(apart), recall(apart)) == (0.0, 0.0)


def test_half_of_the_modes_is_precise_and_recalls_half() -> None:
    near, far = draws(40, 3, name="near"), draws(40, 3, name="far") + 100
    g = Generation(torch.cat([near, near + 1e-6]), torch.cat([near, far]))
    assert precision(g) == 1.0
    assert recall(g) == 0.5


def test_as_many_generated_as_real_images_are_compared() -> None:
    real = draws(10, 2, name="r")
    g = Generation(torch.cat([real, real + 1000]), real)
    assert (precision(g), recall(g)) == (1.0, 1.0)


def test_known_radii_of_the_real_images_change_nothing() -> None:
    generated, real = 1.5 * draws(25, 2, name="g"), draws(25, 2, name="r")
    radii = squared_radii(real)
    distances = torch.cdist(real, real).square().fill_diagonal_(torch.inf)
    assert_exact(radii, distances.sort(dim=1).values[:, 2])
    for count in (25, 15):  # with fewer generated than real images, radii of all real ones are void
        few, known = Generation(generated[:count], real), Generation(generated[:count], real, radii)
        assert precision(known) == precision(few) == brute_force(few.generated, real[:count])
        assert recall(known) == recall(few)


def test_radii_of_the_test_images_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebench.metrics.subject.GENERATED", 20)
    first = make_subject(make_vae())
    again = dataclasses.replace(first, seed=1)
    assert first.generation.radii is again.generation.radii
    assert_exact(first.reference().radii, squared_radii(first.reference().features))


# ---------------------------------------------------------------- the classifier


def test_the_classifier_of_the_digits_knows_them() -> None:
    found = reference("digits", DIGITS.digest)
    assert found.accuracy > 0.93
    assert found.features.shape == (300, 64)
    features = found.features_of(DIGITS.test.x, batch_size=7)
    torch.testing.assert_close(features, found.features, rtol=1e-4, atol=1e-4)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trains in a moment, in no process's memory; lists every training."""
    trained: list[str] = []
    real = classifier._trained

    def counted(name: str, *others: Any) -> dict[str, Any]:
        trained.append(name)
        return real(name, *others)

    monkeypatch.setattr(classifier, "_trained", counted)
    monkeypatch.setattr(classifier, "EPOCHS", (1, 1))
    monkeypatch.setattr(classifier, "reference", reference.__wrapped__)
    return trained


@pytest.mark.slow
def test_a_classifier_is_trained_once_and_kept(quick: list[str], tmp_path: Path) -> None:
    first, second = (classifier.reference("digits", DIGITS.digest, tmp_path) for _ in range(2))
    assert quick == ["digits"]
    assert (tmp_path / "classifiers" / f"{first.recipe}.pt").is_file()
    assert first.describe() == second.describe()
    assert torch.equal(first.features, second.features)


def test_the_same_recipe_gives_the_same_bits_at_any_number_of_threads(
    quick: list[str], tmp_path: Path
) -> None:
    one = classifier.reference("digits", DIGITS.digest, tmp_path / "one")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = classifier.reference("digits", DIGITS.digest, tmp_path / "two")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(quick) == 2
    assert one.weights == two.weights
    assert torch.equal(one.features, two.features)


def test_two_that_want_a_classifier_train_it_once(quick: list[str], tmp_path: Path) -> None:
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(classifier.reference("digits", DIGITS.digest, tmp_path))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert quick == ["digits"]
    assert len({entry.weights for entry in found}) == 1


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def changed(**values: Any) -> Callable[[Path], object]:
    """Another content for the file of a classifier, written as torch writes it."""

    def change(path: Path) -> None:
        path.write_bytes(saved(torch.load(path, weights_only=True) | values))

    return change


def of_another_network(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["model"]["0.weight"] = state["model"]["0.weight"][:4]
    path.write_bytes(saved(state))


def with_a_flipped_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # whoever reads it waits for ever


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(b"PK\x03\x04 torn"),
    "a list": lambda path: path.write_bytes(saved([1, 2])),
    "huge": lambda path: os.truncate(path, 10**11),
    "flipped bit": with_a_flipped_bit,
    "pipe": a_pipe,
    "another network": of_another_network,
    "no weights": changed(model={}),
    "a billion classes": changed(model={"7.bias": torch.zeros(1).expand(10**9)}),
    "flat features": changed(features=torch.zeros(3)),
    "whole numbers as features": changed(features=torch.zeros(3, classifier.FEATURES).long()),
    "no accuracy": changed(accuracy="high"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_classifier_is_trained_anew(
    quick: list[str], tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    whole = classifier.reference("digits", DIGITS.digest, tmp_path)
    path = tmp_path / "classifiers" / f"{whole.recipe}.pt"
    damage(path)
    assert classifier.reference("digits", DIGITS.digest, tmp_path).weights == whole.weights
    assert len(quick) == 2
    assert not list(tmp_path.rglob("*.tmp"))
    assert classifier.reference("digits", DIGITS.digest, tmp_path).weights == whole.weights
    assert len(quick) == 2, "what was trained anew is kept"


def test_a_data_directory_that_cannot_be_written_is_no_obstacle(
    quick: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()  # root may write into any folder, but not into a file
    assert classifier.reference("digits", DIGITS.digest, tmp_path / "file").accuracy > 0
    assert quick == ["digits"]


def test_another_recipe_or_other_data_is_another_classifier(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = classifier.reference("digits", DIGITS.digest, tmp_path).recipe
    other = classifier.reference("digits", "another digest", tmp_path).recipe
    monkeypatch.setattr(classifier, "RECIPE", classifier.RECIPE + 1)
    raised = classifier.reference("digits", DIGITS.digest, tmp_path).recipe
    assert len({before, other, raised}) == 3
    assert len(quick) == 3


def test_a_data_set_that_is_not_there_is_the_error_that_it_is(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_MNIST_MIRROR", str(tmp_path / "empty"))
    with pytest.raises(DataError, match="cannot download"):
        classifier.reference("mnist", "digest", tmp_path)


# ---------------------------------------------------------------- what is generated


def test_what_is_generated_are_clipped_decoder_means_of_prior_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vaebench.metrics.subject.GENERATED", 4000)
    vae = make_vae(loss="mse", loss_options={"output": "linear"}, dtype=torch.float32)
    subject = make_subject(vae)
    monkeypatch.setattr(vae, "decode", lambda z: z[..., :2].unflatten(-1, (1, 1, 2)))
    known = dataclasses.replace(subject.reference(), body=torch.nn.Flatten())
    monkeypatch.setattr(Reference, "features_of", lambda self, images: self.body(images))
    subject = make_subject(vae, reference=lambda: known)
    generated = subject.generation.generated
    assert generated.shape == (4000, 2)
    assert (generated.min(), generated.max()) == (0.0, 1.0)  # clipped
    below = (generated == 0).double().mean().item()
    assert below == pytest.approx(0.5, abs=4 * 0.5 / 8000**0.5)  # of a standard normal
    assert torch.equal(subject.generation.real, known.features.double())
