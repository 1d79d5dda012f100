"""Images of one's own: folders and archives, their splits, labels, and what is kept of them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from small_runs import in_this_process_only, without_figures
from small_runs import task as small_task

from vaebench import datasets, load_run, repeat, report, run_grid
from vaebench.config import make_grid
from vaebench.datasets import load, own
from vaebench.errors import ConfigError, DataError
from vaebench.grid import Options, plan
from vaebench.run import run
from vaebench.run.declared import outdated
from vaebench.seeding import stream

COUNT = 120
CLASSES = ("cats", "dogs", "owls")


def pixels(i: int, side: int = 8) -> NDArray[np.uint8]:
    """A colour picture, (H, W, C)."""
    drawn = torch.rand((side, side, 3), generator=stream(0, "test/own", i))
    return (drawn * 255).byte().numpy()


def picture(path: Path, i: int, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(i, side)).save(path)


def fill(folder: Path, count: int = COUNT, *, labelled: bool = True, first: int = 0) -> Path:
    for i in range(first, first + count):
        below = CLASSES[i % 3] if labelled else "."
        picture(folder / below / f"{i:04d}.png", i)
    return folder


def of(folder: Path, data: Path, **options: Any) -> datasets.Splits:
    return load("folder", data_dir=data, path=str(folder), **{"size": 8, **options})


def by_content(splits: datasets.Splits) -> dict[bytes, str]:
    """The split of each image."""
    return {
        image.numpy().tobytes(): part
        for part in ("train", "validation", "test")
        for image in getattr(splits, part).x
    }


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_read_in_colour_with_subfolders_as_labels(tmp_path: Path) -> None:
    splits = of(fill(tmp_path / "pictures"), tmp_path)
    assert splits.shape == (3, 8, 8)
    assert splits.labelled
    found = by_content(splits)
    assert len(found) == COUNT
    shown = torch.from_numpy(pixels(5)).permute(2, 0, 1).float() / 255
    assert shown.numpy().tobytes() in found
    for part in (splits.train, splits.validation, splits.test):
        assert set(part.y.tolist()) == {0, 1, 2}
    share = len(splits.test.x) / COUNT, len(splits.validation.x) / COUNT
    assert 0.07 < share[0] < 0.25
    assert 0.04 < share[1] < 0.2


def test_more_images_move_no_image_to_another_split(tmp_path: Path) -> None:
    folder = fill(tmp_path / "pictures")
    before = of(folder, tmp_path)
    fill(folder, 60, first=COUNT)
    after = of(folder, tmp_path)
    assert after.digest != before.digest
    found = by_content(after)
    assert len(found) == COUNT + 60
    assert {image: found[image] for image in by_content(before)} == by_content(before)


def test_splits_depend_on_content_not_on_names_size_or_channels(tmp_path: Path) -> None:
    folder = fill(tmp_path / "pictures", labelled=False)
    before = of(folder, tmp_path)
    for file in sorted(folder.iterdir()):
        file.rename(folder / f"renamed-{file.name[::-1].replace('gnp.', '')}.png")
    after = of(folder, tmp_path)
    assert after.digest == before.digest
    gray = of(folder, tmp_path, channels=1, size=16)
    assert gray.shape == (1, 16, 16)
    assert [len(getattr(gray, part).x) for part in ("train", "validation", "test")] == [
        len(getattr(before, part).x) for part in ("train", "validation", "test")
    ]


def test_equal_pictures_share_a_split(tmp_path: Path) -> None:
    folder = fill(tmp_path / "pictures", labelled=False)
    for i in range(COUNT):
        picture(folder / f"again-{i}.png", i)
    parts = of(folder, tmp_path)
    seen: list[set[bytes]] = [
        {image.numpy().tobytes() for image in getattr(parts, part).x}
        for part in ("train", "validation", "test")
    ]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_a_validation_split_may_be_left_out_and_not_be_chosen(tmp_path: Path) -> None:
    folder = fill(tmp_path / "pictures")
    whole = of(folder, tmp_path)
    without = of(folder, tmp_path, validation=0)
    assert len(without.train.x) == len(whole.train.x) + len(whole.validation.x)
    assert len(of(folder, tmp_path, validation="test").validation.x) == len(whole.test.x)
    assert torch.equal(of(folder, tmp_path, train=10).train.x, whole.train.x[:10])
    assert "content of its images" in error_of(lambda: of(folder, tmp_path, validation=20))


def test_a_folder_is_decoded_once_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "pictures")
    decoded: list[Path] = []
    real = own._decoded

    def counted(file: Path, *others: Any) -> Any:
        decoded.append(file)
        return real(file, *others)

    monkeypatch.setattr(own, "_decoded", counted)
    first = of(folder, tmp_path)
    assert len(decoded) == COUNT
    datasets.forget()  # as another process would begin
    assert of(folder, tmp_path).digest == first.digest
    assert len(decoded) == COUNT
    picture(folder / "cats" / "0000.png", 999)
    changed = of(folder, tmp_path)
    assert len(decoded) == 2 * COUNT
    assert changed.digest != first.digest
    [kept] = (tmp_path / "folders").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    datasets.forget()
    assert of(folder, tmp_path).digest == changed.digest, "a damaged array is made anew"
    assert len(decoded) == 3 * COUNT


def test_relative_paths_are_in_the_data_directory_or_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data" / "pictures")
    fill(tmp_path / "here" / "others")
    monkeypatch.chdir(tmp_path / "here")
    assert of(Path("pictures"), tmp_path / "data").shape == (3, 8, 8)
    assert of(Path("others"), tmp_path / "data").shape == (3, 8, 8)
    message = error_of(lambda: of(Path("nowhere"), tmp_path / "data"))
    assert str(tmp_path / "data" / "nowhere") in message
    assert str(tmp_path / "here" / "nowhere") in message


def spoil_empty(folder: Path) -> str:
    folder.mkdir()
    (folder / "notes.txt").write_text("no picture")
    return "no pictures in it"


def spoil_damaged(folder: Path) -> str:
    (fill(folder) / "cats" / "0000.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    return "0000.png: no picture that can be read"


def spoil_mixed(folder: Path) -> str:
    picture(fill(folder) / "loose.png", 7)
    return "loose.png lies beside subfolders"


def spoil_deep(folder: Path) -> str:
    fill(folder)
    Image.fromarray(np.zeros((8, 8), np.int32)).save(folder / "cats" / "deep.tif")
    return "more than 8 bits"


def spoil_few(folder: Path) -> str:
    fill(folder, 2)
    return "some dozens are needed"


@pytest.mark.parametrize("spoil", [spoil_empty, spoil_damaged, spoil_mixed, spoil_deep, spoil_few])
def test_what_is_wrong_with_a_folder_is_named(spoil: Callable[[Path], str], tmp_path: Path) -> None:
    said = spoil(tmp_path / "pictures")
    assert said in error_of(lambda: of(tmp_path / "pictures", tmp_path))


def archive(path: Path, **arrays: Any) -> Path:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.write_bytes(buffer.getvalue())
    return path


X = np.stack([pixels(i).transpose(2, 0, 1) for i in range(COUNT)])


@pytest.mark.parametrize(
    "x", [X, X.transpose(0, 2, 3, 1), X.astype(np.float64) / 255], ids=["first", "last", "floats"]
)
def test_an_archive_is_read_with_channels_first_or_last(x: NDArray[Any], tmp_path: Path) -> None:
    file = archive(tmp_path / "x.npz", x=x, y=np.arange(COUNT) % 3)
    splits = load("npz", data_dir=tmp_path, path=str(file), shape=(3, 8, 8))
    assert splits.shape == (3, 8, 8)
    assert splits.labelled
    both = torch.cat([splits.train.x, splits.validation.x, splits.test.x])
    expected = torch.from_numpy(X.astype(np.float32)) / 255
    torch.testing.assert_close(both.sum(0), expected.sum(0))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": X}, "has no array x, but images"),
        ({"x": X[:, :2]}, "set dataset.npz.shape"),
        ({"x": X.astype(np.int64)}, "store uint8"),
        ({"x": X.astype(np.float32)}, "not in [0, 1]"),
        ({"x": X, "y": np.zeros(3, int)}, "one for each image"),
        ({"x": X, "y": np.array(["cat"] * COUNT)}, "<U3"),
    ],
)
def test_what_is_wrong_with_an_archive_is_named(
    arrays: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = archive(tmp_path / "x.npz", **arrays)
    wrong = error_of(lambda: load("npz", data_dir=tmp_path, path=str(file), shape=(3, 8, 8)))
    assert said in wrong


def test_images_without_labels_are_trained_measured_and_reported_without_what_needs_them(
    tmp_path: Path,
) -> None:
    folder = fill(tmp_path / "pictures", labelled=False)
    data = {"name": "folder", "folder": {"path": str(folder), "size": 8}}
    task = small_task(tmp_path / "run", dataset=data, training__epochs=1)
    record = run(task)
    assert record["status"] == "complete", record["reason"]
    assert record["environment"]["dataset"]["labelled"] is False
    assert "classifier" not in record["environment"]
    lacking = {"test/knn_accuracy", "test/classifier_frechet", "test/precision", "test/recall"}
    assert not lacking & record["metrics"].keys()
    assert {"test/elbo", "test/ssim", "test/psnr"} <= record["metrics"].keys()
    [note] = [note for note in record["notes"] if "no labels" in note]
    assert "5-NN accuracy" in note
    assert any("colour pixels" in note for note in record["notes"])
    assert outdated(task.config, record) == [], "nothing is lacking for ever"
    assert (tmp_path / "run" / "figures" / "latent.png").exists()
    folder.rename(tmp_path / "away")
    assert load_run(tmp_path / "run").model.decode(torch.zeros(1, 2)).shape == (1, 3, 8, 8)


def test_changed_images_make_runs_stale_and_two_folders_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    without_figures(monkeypatch)
    folders = [fill(tmp_path / "one"), fill(tmp_path / "two", first=500)]
    raw = {
        "name": "own",
        "dataset": {"name": "folder", "folder": {"size": 8}},
        "axes": {"dataset.folder.path": [str(folder) for folder in folders]},
        "model": {"name": "fnn", "latent_dim": 2, "fnn": {"hidden": [8]}},
        "training": {"epochs": 1, "batch_size": 32},
    }
    options = Options(results=tmp_path / "results", data_dir=tmp_path / "data", device="cpu")
    results = run_grid(raw, options)
    assert [record["status"] for record in results.records] == ["complete"] * 2
    assert report.status(results.folder)[0].stale == 0
    assert [entry.why for entry in plan(make_grid(raw), options)] == ["complete"] * 2
    picture(folders[0] / "cats" / "more.png", 77)
    whys = [entry.why for entry in plan(make_grid(raw), options)]
    assert whys[0].startswith("stale: the data have changed")
    assert whys[1] == "complete"
    old = results.folder / "runs" / results.records[0]["run_id"]
    with pytest.raises(ConfigError, match="another folder"):
        repeat(old, data_dir=tmp_path / "data")


def test_colour_is_named_as_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process_only(monkeypatch)
    folder = fill(tmp_path / "pictures")
    raw = {
        "name": "own",
        "axes": {"loss": ["bce", "mse"]},
        "model": {"name": "fnn", "latent_dim": 2, "fnn": {"hidden": [8]}},
        "training": {"epochs": 1, "batch_size": 32},
    }
    for channels, said, other in ((3, "colour", "gray"), (1, "gray", "colour")):
        data = {"name": "folder", "folder": {"path": str(folder), "size": 8, "channels": channels}}
        options = Options(results=tmp_path / said, data_dir=tmp_path / "data", device="cpu")
        results = run_grid(raw | {"dataset": data}, options)
        text = (results.folder / "report.md").read_text(encoding="utf-8")
        assert f"{said} pixels, not binarised" in text
        assert f"bce on {said} pixels is the relaxed Bernoulli" in text
        assert f"{other} pixels" not in text
