"""``report.html``: its data, that nothing in a record can run in it, and what it does when used."""

import base64
import hashlib
import io
import json
import re
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pages import browser, train_grid, watched
from PIL import Image
from records import EPOCHS, assign, edit_manifest, edit_record, fail, make_results, run_dirs
from safetensors.torch import load as load_tensors

from vaebench import report
from vaebench.cli import main
from vaebench.report.page import answers, bundle, decoders, sprites
from vaebench.report.page import data as page_data
from vaebench.run import load_run
from vaebench.run.decoder_export import decoder_bytes
from vaebench.run.decoder_file import make_decoder
from vaebench.run.pictures import tile
from vaebench.schema.labels import median_seed

CSS = bundle.asset("page.css")
NEAR = 0.02  # of the range of a pixel


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cells of two seeds, trained for five epochs."""
    return train_grid(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def page(chromium: Any, grid: Path) -> Iterator[Any]:
    with watched(chromium, grid / "report.html") as opened:
        yield opened


def html(folder: Path) -> str:
    return report.render(report.load(folder), "html")


def embedded(text: str) -> dict[str, Any]:
    """The data in a page."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    content: dict[str, Any] = json.loads(found)
    return content


def unpacked(sprite: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The images of a sprite, (R, N, H, W)."""
    raw = base64.b64decode(sprite["src"].partition(",")[2])
    with Image.open(io.BytesIO(raw)) as picture:
        pixels = np.asarray(picture.convert("L"))
    rows, columns, height, width = (sprite[k] for k in ("rows", "columns", "height", "width"))
    return pixels.reshape(rows, height, columns, width).transpose(0, 2, 1, 3)


# ---------------------------------------------------------------- the data


def test_the_numbers_of_the_data_are_those_of_the_cells(grid: Path) -> None:
    content = embedded(html(grid))
    for cell, told in zip(report.load(grid).cells, content["cells"], strict=True):
        for name, summary in cell.summaries.items():
            mean, width, n = told["values"][name]
            assert mean == pytest.approx(summary.mean, rel=1e-5)
            assert width == pytest.approx(summary.ci95, rel=1e-5)
            assert n == summary.n
            assert content["metrics"][name]["title"]
    groups = [cell["groups"] for cell in content["cells"]]
    assert [g["likelihood"] for g in groups] == [0, 1, 0, 1]  # bce and mse never compare
    assert [g["dataset"] for g in groups] == [0] * 4


def test_curves_are_the_median_over_seeds_between_the_lowest_and_the_highest(grid: Path) -> None:
    told = embedded(html(grid))["cells"]
    loaded = report.load(grid)
    for cell, content in zip(loaded.cells, told, strict=True):
        journals = [
            [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
            for run in (loaded.run_dir(record["run_id"]) for record in cell.records)
        ]
        assert content["curves"]["epochs"] == [1, 2, 3, 4, 5]
        values = np.array([[line["metrics"]["val/elbo"] for line in j] for j in journals])
        median, low, high = content["curves"]["metrics"]["val/elbo"]
        np.testing.assert_allclose(median, np.median(values, axis=0), rtol=1e-5)
        np.testing.assert_allclose(low, values.min(axis=0), rtol=1e-5)
        np.testing.assert_allclose(high, values.max(axis=0), rtol=1e-5)
        seconds = content["curves"]["seconds"]
        assert seconds == sorted(seconds)


def test_five_seeds_have_a_band_between_their_quartiles() -> None:
    values = np.arange(5.0)[:, None]
    assert page_data._band(values) == [[2.0], [1.0], [3.0]]
    assert page_data._band(values[:1]) == [[0.0], None, None]


def test_pictures_are_those_of_the_run_and_its_tiles(grid: Path) -> None:
    content = embedded(html(grid))
    loaded = report.load(grid)
    for cell, told in zip(loaded.cells, content["cells"], strict=True):
        run = told["run"]
        place, _ = median_seed(cell.records)
        assert run["id"] == cell.records[place]["run_id"]
        with np.load(loaded.run_dir(run["id"]) / "arrays.npz") as file:
            arrays = dict(file)
        shown = content["originals"][run["original"]]["columns"]
        assert run["epochs"] == [1, 2, 5]

        def expected(name: str, arrays: Any = arrays, shown: int = shown) -> Any:
            return sprites.to_pixels(arrays[name])[:shown, ..., 0]

        originals = unpacked(content["originals"][run["original"]])
        np.testing.assert_array_equal(originals[0], expected("originals"))
        for kind, name in (("reconstruction", "reconstructions"), ("samples", "samples")):
            last = unpacked(run[kind])[-1]
            np.testing.assert_array_equal(last, expected(name))
            # the tile of the last epoch is of the same weights, and is read as those before it
            tile = loaded.run_dir(run["id"]) / "images" / f"{kind}-0005.png"
            read = sprites.read_tile(tile, (1, 8, 8), 64)
            assert read is not None
            images = sprites.split_pairs(read)[1] if kind == "reconstruction" else read
            np.testing.assert_array_equal(images[:shown, ..., 0], last)
            assert not np.array_equal(unpacked(run[kind])[0], last)
        ranked = unpacked(run["ranked"])
        np.testing.assert_array_equal(
            ranked[0], sprites.to_pixels(arrays["ranked_originals"])[..., 0]
        )
        codes = run["codes"]
        mean = np.frombuffer(base64.b64decode(codes["mean"]), "<i2") * codes["mean_scale"]
        np.testing.assert_allclose(
            mean.reshape(codes["count"], codes["size"]),
            arrays["latent_mean"][: codes["count"]],
            atol=codes["mean_scale"],
        )


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 24)])
def test_tiles_are_cut_up_as_they_were_and_are_laid_out(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    channels, height, width = shape
    images = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0))
    expected = sprites.to_pixels(images.numpy())
    path = tmp_path / "samples-0001.png"
    path.write_bytes(tile(images))
    np.testing.assert_array_equal(sprites.read_tile(path, shape, 64), expected)
    path.write_bytes(tile(images[:9]))
    np.testing.assert_array_equal(sprites.read_tile(path, shape, 9), expected[:9])
    assert sprites.read_tile(path, shape, 64) is None
    # as laid out before: squares, half a gap around each
    side = max(height, width) + 2
    old = np.full((8, side, 8, side, channels), 64, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    old[:, top : top + height, :, left : left + width] = expected.reshape(
        8, 8, height, width, channels
    ).transpose(0, 2, 1, 3, 4)
    pixels = old.reshape(8 * side, 8 * side, channels)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
    np.testing.assert_array_equal(sprites.read_tile(path, shape, 64), expected)


@pytest.mark.parametrize("largest_error", [0.02, 0.0])
def test_decoders_are_rounded_and_packed(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest_error: float
) -> None:
    monkeypatch.setattr("vaebench.run.decoder_export.MAX_ERROR", largest_error)
    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    paths, expected = [], []
    for run in run_dirs(grid)[::2]:
        vae, *_ = load_run(run)
        paths.append(tmp_path / run.name)
        paths[-1].write_bytes(decoder_bytes(vae, (1, 8, 8)))
        with torch.no_grad():
            expected.append(vae.decode(z))
    types = {tensor.dtype for path in paths for tensor in load_tensors(path.read_bytes()).values()}
    assert types == {torch.float32, torch.int8 if largest_error else torch.int16}
    texts, bits = decoders.embedded([*paths, tmp_path / "absent"])
    assert bits == max(decoders.BITS)
    assert texts[-1] is None
    for text, images in zip(texts, expected, strict=False):
        assert text is not None
        packed = zlib.decompress(base64.b64decode(text))
        start = 8 + struct.unpack("<Q", packed[:8])[0]
        body = bytearray(len(packed) - start)
        half = (len(body) + 1) // 2
        body[::2], body[1::2] = packed[start : start + half], packed[start + half :]
        header = json.loads(packed[8:start])["__metadata__"]["vaebench.decoder"]
        kept = make_decoder(json.loads(header), load_tensors(packed[:start] + bytes(body)))
        assert (kept(z) - images).abs().max() < NEAR


def test_decoders_that_have_no_room_are_left_out(
    grid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "MAX_BYTES", 1)
    texts, bits = decoders.embedded([run / "decoder.safetensors" for run in run_dirs(grid)])
    assert bits == min(decoders.BITS)
    assert texts == [None] * 8
    assert embedded(html(grid))["limits"][0].startswith("The decoders of 4 cells are left out")


def test_a_grid_without_arrays_pictures_or_runs_has_a_page(tmp_path: Path) -> None:
    bare = make_results(tmp_path, name="bare", seeds=[0, 1])
    assert embedded(html(bare))["cells"][0]["run"]["reconstruction"] is None
    pictures = make_results(tmp_path, name="pictures", seeds=[0], pictures=True, arrays=True)
    for run in run_dirs(pictures):
        (run / "arrays.npz").write_bytes(b"damaged")
        (run / "images" / "samples-0001.png").write_bytes(b"damaged")
    assert [cell["run"]["id"] for cell in embedded(html(pictures))["cells"]]
    for run in run_dirs(bare):
        shutil.rmtree(run)
    content = embedded(html(bare))
    assert [cell["run"] for cell in content["cells"]] == [None] * 8
    assert [cell["curves"] for cell in content["cells"]] == [None] * 8


def _broken(arrays: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The arrays, one of them lost or of another shape, type or value."""
    names = sorted(arrays)
    name = names[rng.integers(len(names))]
    value = arrays[name]
    changes = [
        value[:1],
        value[..., None],
        value.astype(str),
        np.full_like(value, np.inf, dtype=float),
        np.array(3.0),
        value[:0],
        value[..., :1],
    ]
    return {**arrays, name: changes[rng.integers(len(changes))]}


def test_odd_arrays_and_decoders_leave_a_page(grid: Path, tmp_path: Path) -> None:
    copy = tmp_path / "grid"
    shutil.copytree(grid, copy)
    rng = np.random.default_rng(0)
    run = copy / "runs" / embedded(html(grid))["cells"][0]["run"]["id"]
    with np.load(run / "arrays.npz") as file:
        whole = dict(file)
    decoder = (run / "decoder.safetensors").read_bytes()
    for _ in range(40):
        with (run / "arrays.npz").open("wb") as file:
            np.savez(file, **_broken(whole, rng))
        place = int(rng.integers(600))
        (run / "decoder.safetensors").write_bytes(
            decoder[:place] + bytes(rng.integers(0, 256, 3, np.uint8)) + decoder[place + 3 :]
        )
        assert len(embedded(html(copy))["cells"]) == 4
    edit_record(run, lambda r: r.update(rate_per_dimension=["x", None]))
    edit_record(run, lambda r: r["measured"].update(epoch="x"))
    assert embedded(html(copy))["cells"][0]["run"]["rates"] == [None, None]


def test_a_large_grid_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_data, "MAX_PICTURED", 3)
    grid = make_results(tmp_path, seeds=[0], arrays=True)
    content = embedded(html(grid))
    assert [cell["curves"] is None for cell in content["cells"]] == [False] * 3 + [True] * 5
    assert [cell["run"] is None for cell in content["cells"]] == [False] * 3 + [True] * 5
    assert all(cell["values"] for cell in content["cells"])
    assert content["limits"] == ["Curves and pictures of the first 3 of 8 cells are shown."]


def test_ninety_runs_with_twenty_failed_fit(tmp_path: Path) -> None:
    axes = {
        "model": ["fnn", "cnn"],
        "loss": ["bce", "mse", "cb"],
        "estimator": ["sgvb", "kl", "stl"],
    }
    grid = make_results(tmp_path, axes=axes, seeds=range(5), arrays=True, pictures=True)
    for run in run_dirs(grid)[::4][:20]:
        fail(run, "rate stopped being finite in epoch 3; lower learning_rate")
    text = html(grid)
    assert len(text.encode()) < 12_000_000
    assert text.count("rate stopped being finite in epoch 3") == 20
    assert embedded(text)["cells"][1]["curves"]["epochs"] == list(range(1, EPOCHS + 1))


# ---------------------------------------------------------------- the answer


TWO = {"model": ["fnn", "cnn"], "loss": ["bce", "mse"]}


def psnr(cell: dict[str, Any], seed: int) -> float:
    """The cnn is better by one, the losses are alike but for what scatters over the seeds."""
    return 20.0 + (cell["model"] == "cnn") + (0.1 if cell["loss"] == "mse" else -0.1) * (-1) ** seed


def test_effects_say_who_is_better_or_that_nothing_is_shown(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes=TWO, seeds=range(8))
    assign(grid, "test/psnr", psnr)
    analysis = report.load(grid)
    found = {a.what: a for a in answers.of_effects(analysis.effects, ()) if a.metric == "PSNR"}
    assert found["cnn - fnn"].word == "cnn is better"
    assert found["cnn - fnn"].tone == "good"
    assert found["cnn - fnn"].numbers.startswith("+1.00")
    assert "8 seeds; 2 pairs of cells; p" in found["cnn - fnn"].evidence
    low, middle, high = found["cnn - fnn"].bar or (0, 0, 0)
    assert answers.WIDTH / 2 < low <= middle <= high <= answers.WIDTH
    assert (found["bce - mse"].word, found["bce - mse"].tone) == ("no difference shown", "open")
    # ELBO compares within a loss only
    elbo = [
        a.metric for a in answers.of_effects(analysis.effects, ()) if a.metric.startswith("ELBO")
    ]
    assert elbo == ["ELBO, bce (relaxed)", "ELBO, mse (σ²=0.5)"]


def test_the_better_side_of_a_negative_effect_is_the_second(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes=TWO, seeds=range(8))
    assign(grid, "test/psnr", lambda cell, seed: -psnr(cell, seed))
    found = {
        a.what: a for a in answers.of_effects(report.load(grid).effects, ()) if a.metric == "PSNR"
    }
    assert found["cnn - fnn"].word == "fnn is better"


@pytest.mark.parametrize(
    ("seeds", "word"), [(1, answers.UNTESTED), (3, "3 seeds: too few to tell")]
)
def test_too_few_seeds_are_said(tmp_path: Path, seeds: int, word: str) -> None:
    grid = make_results(tmp_path, axes=TWO, seeds=range(seeds))
    assert {a.word for a in answers.of_effects(report.load(grid).effects, ())} == {word}


def test_leaders_are_the_best_of_those_that_compare_with_the_next(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes=TWO, seeds=range(8))
    assign(grid, "test/psnr", lambda cell, seed: psnr(cell, 0))
    analysis = report.load(grid)
    found = answers.leaders(analysis.table, analysis.cells)
    assert [a.metric.partition(":")[0] for a in found] == [
        *("ELBO in bce (relaxed)", "ELBO in mse (σ²=0.5)", "SSIM", "PSNR")
    ]
    best = found[-1]
    assert (best.what, best.word, best.tone) == ("cnn / mse", "leads clearly", "good")
    assert best.metric == "PSNR: 21.10 dB"
    assert best.numbers.startswith("+0.20")
    assert "over cnn / bce, at unequal rates of 9.0 and 15.9 nats" in best.numbers


def test_claims_and_published_numbers_are_beside_their_verdicts(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes=TWO, seeds=range(8))
    assign(grid, "test/psnr", psnr)
    claim = {
        "claim": "convolutions help",
        "metric": "test/psnr",
        "better": {"model": "cnn"},
        "than": {"model": "fnn"},
    }
    paper = {
        "source": "a paper",
        "cell": {"model": "cnn", "loss": "bce"},
        "metric": "test/psnr",
        "value": 21.0,
    }
    edit_manifest(
        grid,
        claims=[
            claim,
            claim | {"claim": "they do not", "better": claim["than"], "than": claim["better"]},
        ],
        published=[paper | {"within": 0.5}, paper | {"value": 30.0, "within": "1%"}],
    )
    analysis = report.load(grid)
    claimed = answers.of_claims(analysis.claims)
    assert [(a.what, a.word, a.tone) for a in claimed] == [
        ("convolutions help", "supported", "good"),
        ("they do not", "refuted", "bad"),
    ]
    held = [answers.of_published(row) for row in analysis.reproductions]
    assert [(a.word, a.tone) for a in held] == [("reproduced", "good"), ("not reproduced", "bad")]
    assert "published 30.00, ours 21.00" in held[1].numbers
    assert answers.in_short(analysis.claims) == "2 claims: 1 supported, 1 refuted"
    text = html(grid)
    assert text.index("2 claims: ") < text.index("convolutions help")
    assert text.index("convolutions help") < text.index("Which cell leads")


def test_a_contrast_that_is_claimed_has_its_verdict_among_the_claims_alone(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes=TWO, seeds=range(8))
    assign(grid, "test/psnr", psnr)
    sides = {"better": {"model": "fnn"}, "than": {"model": "cnn"}}
    edit_manifest(grid, claims=[{"metric": "test/psnr"} | sides])
    analysis = report.load(grid)
    shown = {(a.what, a.metric) for a in answers.of_effects(analysis.effects, analysis.claims)}
    assert ("cnn - fnn", "PSNR") not in shown
    assert {("bce - mse", "PSNR"), ("cnn - fnn", "SSIM")} <= shown


# ---------------------------------------------------------------- nothing of others runs


HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    grid = make_results(
        tmp_path_factory.mktemp("hostile"), axes={"model": ["fnn", HOSTILE]}, seeds=[0, 1]
    )
    edit_manifest(grid, name=HOSTILE, question=HOSTILE)
    fail(run_dirs(grid)[0], HOSTILE)
    edit_record(run_dirs(grid)[1], lambda record: record["notes"].append(HOSTILE))
    (grid / "page.html").write_text(html(grid), encoding="utf-8")
    return grid


def test_texts_of_records_cannot_end_their_element(hostile: Path) -> None:
    text = (hostile / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<img" not in text
    assert embedded(text)["grid"] == HOSTILE


def test_texts_of_records_are_shown_as_they_are(chromium: Any, hostile: Path) -> None:
    with watched(chromium, hostile / "page.html") as page:
        assert page.get_by_role("heading", level=1).text_content() == HOSTILE
        assert page.locator("#legend").get_by_text(HOSTILE).count() == 1
        assert page.locator("img").count() == 0


def test_the_policy_names_the_scripts_and_allows_no_request(grid: Path) -> None:
    text = (grid / "report.html").read_text(encoding="utf-8")
    (found,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    directives = dict(part.strip().split(" ", 1) for part in found.replace("&#39;", "'").split(";"))
    assert directives["default-src"] == "'none'"
    assert set(directives) <= {
        *("default-src", "script-src", "style-src", "img-src", "base-uri", "form-action")
    }
    for tag, key in (("script", "script-src"), ("style", "style-src")):
        bodies = re.findall(rf'<{tag}(?: type="module")?>(.*?)</{tag}>', text, re.S)
        assert bodies
        for body in bodies:
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in directives[key]
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)


def test_the_page_does_not_run_a_script_that_was_added(
    chromium: Any, grid: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.html"
    text = (grid / "report.html").read_text(encoding="utf-8")
    changed.write_text(text.replace("</body>", "<script>window.added = 1</script></body>"))
    with (
        pytest.raises(AssertionError, match="Content Security Policy"),
        watched(chromium, changed) as page,
    ):
        assert page.evaluate("window.added") is None


# ---------------------------------------------------------------- the scripts


def test_modules_are_joined_each_once_after_what_it_imports() -> None:
    text = bundle.script()
    assert not re.search(r"^(import|export)\b", text, re.M)
    assert text.count("export function startTheme") == 0
    assert text.count("function startTheme") == 1
    assert text.index("function startTheme") < text.index("function startExplorer")
    modules = {path.name for path in (bundle.HERE / "js").glob("*.js")}
    heads = {name: (bundle.HERE / "js" / name).read_text().splitlines()[0] for name in modules}
    assert {name for name in modules if heads[name] in text} == modules


def test_vendored_files_are_what_their_table_says() -> None:
    vendor = bundle.HERE / "vendor"
    rows = re.findall(
        r"^\| `([^`]+)` .* ([0-9a-f]{64}) \|$", (vendor / "README.md").read_text(), re.M
    )
    assert {name for name, _ in rows} == {
        p.name for p in vendor.iterdir() if p.suffix in (".js", ".css")
    }
    for name, digest in rows:
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest
    version = re.search(r"uPlot\) \| ([\d.]+)", (vendor / "README.md").read_text())
    assert version is not None
    assert f"(v{version[1]})" in (vendor / "uPlot.iife.min.js").read_text()[:100]
    assert f"uPlot {version[1]}" in (bundle.HERE / "page.html").read_text()


# ---------------------------------------------------------------- used


def shown_cells(page: Any) -> list[str]:
    """The labels of the rows of the table, in their order; the captions of groups in brackets."""
    labels: list[str] = page.eval_on_selector_all(
        "#cells tbody:not(.references) tr",
        "rows => rows.map(row => row.className === 'group' ? '[]'"
        " : row.querySelector('th').textContent.trim())",
    )
    return labels


def ranks(page: Any) -> list[str]:
    """The ranks of the rows, in their order; reference rows have none."""
    found: list[str] = page.locator("#cells td.rank").all_text_contents()
    assert found[-4:] == [""] * 4
    return found[:-4]


def test_sorting_ranks_within_what_compares(page: Any, grid: Path) -> None:
    found = report.load(grid).cells
    names = [" / ".join(cell.cell.values()) for cell in found]
    psnr = [cell.summaries["test/psnr"].mean for cell in found]
    page.locator("#cells").get_by_role("button", name="PSNR").click()
    best = [name for _, name in sorted(zip(psnr, names, strict=True), reverse=True)]
    assert shown_cells(page) == best
    assert page.locator("#cells tbody:not(.references) td.rank").all_text_contents() == [
        "1",
        "2",
        "3",
        "4",
    ]
    page.locator("#cells").get_by_role("button", name="PSNR").click()
    assert shown_cells(page) == best[::-1]
    below = page.locator("#cells tbody.references th").all_text_contents()
    assert below == [
        "real images",
        "exact pPCA, Z = 3",
        "untrained fnn / bce",
        "untrained fnn / mse",
    ]
    assert "untrained" in page.locator("#cells tr").last.inner_text()

    page.locator("#cells").get_by_role("button", name="ELBO").focus()
    page.keyboard.press("Enter")  # sorting needs no mouse
    elbo = {n: cell.summaries["test/elbo"].mean for n, cell in zip(names, found, strict=True)}
    expected = []
    for loss in ("bce", "mse"):
        group = [name for name in names if loss in name]
        expected += ["[]", *sorted(group, key=lambda name: -elbo[name])]
    assert shown_cells(page) == expected
    assert page.locator("#cells tbody:not(.references) td.rank").all_text_contents() == [
        "1",
        "2",
        "1",
        "2",
    ]
    assert page.locator("th[aria-sort=descending]").get_attribute("data-metric") == "test/elbo"
    said = page.locator("#cells tr.group").all_text_contents()
    assert said == ["bce: compared only among these", "mse: compared only among these"]


def test_columns_are_chosen_by_the_reader(page: Any) -> None:
    head = page.locator('#cells th[data-metric="test/mse_px"]')
    assert not head.is_visible()
    page.get_by_text("Columns", exact=True).click()
    page.locator("#columns").get_by_label("MSE per pixel").check()
    assert head.is_visible()
    assert page.locator('#cells td[data-metric="test/mse_px"]').first.is_visible()
    page.locator("#columns").get_by_label("ELBO", exact=True).uncheck()
    assert not page.locator('#cells th[data-metric="test/elbo"]').is_visible()


def test_a_hint_says_what_a_number_is(page: Any) -> None:
    page.locator("#cells").get_by_role("button", name="PSNR").focus()
    hint = page.get_by_role("tooltip").text_content()
    assert "signal-to-noise" in hint
    assert "In dB." in hint
    assert "Higher is better." in hint
    page.keyboard.press("Escape")
    assert not page.get_by_role("tooltip").is_visible()


def painted(page: Any, selector: str, colour: str) -> bool:
    """Whether any pixel of a canvas is about as a variable of the style, in the light theme."""
    red, green, blue = bytes.fromhex(re.findall(rf"{colour}: light-dark\(#(\w+)", CSS)[0])
    found: bool = page.eval_on_selector(
        selector,
        "(c, [r, g, b]) => { const { data } = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height); return data.some((v, i) => i % 4 === 0 &&"
        " Math.hypot(v - r, data[i + 1] - g, data[i + 2] - b) < 30 && data[i + 3] > 200); }",
        arg=[red, green, blue],
    )
    return found


def test_cells_are_switched_on_and_off_in_the_curves(page: Any) -> None:
    assert page.locator("#curve-charts figure").count() == 2  # bce and mse do not compare
    assert painted(page, "#curve-charts canvas", "--c0")
    assert painted(page, "#curve-charts canvas", "--c2")
    page.locator("#legend").get_by_label("fnn / bce").uncheck()
    assert not painted(page, "#curve-charts canvas", "--c0")
    assert painted(page, "#curve-charts canvas", "--c2")
    page.get_by_role("button", name="None").click()
    assert page.locator("#curve-charts figure").count() == 0
    page.get_by_role("button", name="All", exact=True).click()
    assert page.locator("#curve-charts figure").count() == 2
    page.locator("#curves").get_by_label("Metric").select_option("train/seconds")
    page.locator("#curves").get_by_label("Against").select_option("seconds")
    page.locator("#curves").get_by_label("Logarithmic").check()
    assert page.locator("#curve-charts figure").count() == 1  # one machine


def test_the_arrow_keys_read_a_chart(page: Any, grid: Path) -> None:
    plot = page.locator("#curve-charts .plot").first
    plot.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    said = page.locator("#curve-charts .readout").first
    told = embedded((grid / "report.html").read_text(encoding="utf-8"))["cells"][0]
    assert "epoch 5" in said.text_content()
    last = told["curves"]["metrics"]["val/elbo"][0][-1]
    assert f"{last:.3f}" in said.text_content()


def downloaded(page: Any, click: Any) -> str:
    with page.expect_download() as waiting:
        click()
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def test_charts_are_saved_as_svg_and_csv(page: Any, grid: Path) -> None:
    chart = page.locator("#curve-charts figure").first
    svg = downloaded(page, chart.get_by_role("button", name="SVG").click)
    assert svg.startswith("<svg")
    assert svg.count("fill-opacity") == 2  # two bands of seeds
    assert "fnn / bce" in svg
    table = downloaded(page, chart.get_by_role("button", name="CSV").click).splitlines()
    assert table[0] == '"cell","epoch","ELBO (nats)","low","high"'
    assert len(table) == 1 + 2 * 5
    cell = embedded((grid / "report.html").read_text(encoding="utf-8"))["cells"][0]
    assert float(table[1].split(",")[2]) == cell["curves"]["metrics"]["val/elbo"][0][0]
    trade = page.locator("#trade-charts figure").first
    saved = downloaded(page, trade.get_by_role("button", name="SVG").click)
    assert saved.count('transform="translate(') == 2 * 4  # in the chart and in the legend


def pixels(page: Any, selector: str) -> np.ndarray[Any, Any]:
    """The red channel of a canvas, in [0, 1], (H, W)."""
    width, height, red = page.eval_on_selector(
        selector,
        "c => [c.width, c.height,"
        " [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        ".filter((_, i) => i % 4 === 0)]",
    )
    return np.array(red).reshape(height, width) / 255


def test_one_slider_moves_all_pictures(page: Any, grid: Path) -> None:
    told = embedded((grid / "report.html").read_text(encoding="utf-8"))["cells"]
    page.locator("#wall figure").nth(4).wait_for()
    for place, epoch in ((2, 5), (0, 1)):
        page.locator("#epoch").fill(str(place))
        page.locator("#wall").get_by_text(f"epoch {epoch}").first.wait_for()
        for i, cell in enumerate(told):
            shown = pixels(page, f"#wall figure:nth-child({i + 2}) canvas")
            expected = unpacked(cell["run"]["reconstruction"])[place, 0] / 255
            np.testing.assert_allclose(shown[:8, :8], expected, atol=1 / 255)
    page.locator("#pictures").get_by_label("Show").select_option("worst")
    page.get_by_text("original above reconstruction").first.wait_for()
    page.locator("#wall .picture").first.click()
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()


def open_pane(page: Any, i: int) -> Any:
    """The first pane of the explorer, showing a cell."""
    page.locator("#latent").scroll_into_view_if_needed()
    pane = page.locator(".pane").first
    pane.locator("select").select_option(str(i))
    page.wait_for_function(
        "i => { const p = document.querySelector('.pane'); return p.dataset.z && "
        "!p.hasAttribute('aria-busy') && p.querySelector('select').value === String(i); }",
        arg=i,
    )
    return pane


@pytest.mark.parametrize("i", range(4))  # fnn and cnn, sigmoid of logits and of means
def test_the_explorer_decodes_as_torch_does(page: Any, grid: Path, i: int) -> None:
    told = embedded((grid / "report.html").read_text(encoding="utf-8"))["cells"][i]["run"]
    vae, *_ = load_run(grid / "runs" / told["id"])
    pane = open_pane(page, i)
    for value in ("1.5", "-2"):
        pane.locator(".slider input").first.fill(value)
        z = torch.tensor([[float(x) for x in pane.get_attribute("data-z").split()]])
        assert float(value) in z
        with torch.no_grad():
            expected = vae.eval().decode(z)[0, 0].clamp(0, 1).numpy()
        shown = pixels(page, ".pane .images canvas")
        assert np.abs(shown - expected).max() < NEAR
    rates = [
        float(x)
        for x in re.findall(r"([\d.]+) nats", " ".join(pane.locator(".slider").all_text_contents()))
    ]
    assert rates == sorted(rates, reverse=True)


def test_a_test_image_is_taken_on_the_map_and_by_its_number(page: Any, grid: Path) -> None:
    told = embedded((grid / "report.html").read_text(encoding="utf-8"))["cells"][0]["run"]
    pane = open_pane(page, 0)
    codes = np.frombuffer(base64.b64decode(told["codes"]["mean"]), "<i2").reshape(-1, 3)
    codes = codes * told["codes"]["mean_scale"]

    def z() -> np.ndarray[Any, Any]:
        return np.array([float(x) for x in pane.get_attribute("data-z").split()])

    page.get_by_role("spinbutton", name="Test image", exact=True).fill("7")
    np.testing.assert_allclose(z(), codes[7], atol=1e-3)
    pane.locator(".map").focus()
    page.keyboard.press("ArrowRight")
    np.testing.assert_allclose(z(), codes[8], atol=1e-3)
    pane.locator(".map").click(position={"x": 5, "y": 5})
    assert any(np.allclose(z(), code, atol=1e-3) for code in codes)
    page.get_by_role("button", name="Centre").click()
    assert not z().any()


def test_a_decoder_of_another_kind_is_shown_by_its_traversals(
    chromium: Any, grid: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "grid"
    shutil.copytree(grid, copy)
    for run in run_dirs(copy):
        path = run / "decoder.safetensors"
        content = path.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + size])
        described = json.loads(header["__metadata__"]["vaebench.decoder"]) | {"layers": None}
        header["__metadata__"]["vaebench.decoder"] = json.dumps(described)
        new = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size :])
    (copy / "report.html").write_text(html(copy), encoding="utf-8")
    content = embedded((copy / "report.html").read_text(encoding="utf-8"))
    assert len(content["limits"]) == 1
    with watched(chromium, copy / "report.html") as page:
        pane = open_pane(page, 0)
        assert "stored after training" in pane.text_content()
        stored = unpacked(content["cells"][0]["run"]["traversals"])
        pane.locator(".slider input").first.fill("3")
        z = [float(x) for x in pane.get_attribute("data-z").split()]
        moved = stored[z.index(3.0), -1] / 255
        np.testing.assert_allclose(pixels(page, ".pane .images canvas"), moved, atol=1 / 255)


# ---------------------------------------------------------------- for everybody


def test_a_section_named_in_the_address_is_there_when_all_is_drawn(
    chromium: Any, grid: Path
) -> None:
    with watched(chromium, grid / "report.html", fragment="details") as page:
        page.wait_for_function("document.querySelectorAll('.pane .sliders').length === 2")
        box = page.locator("#details").bounding_box()
        assert 0 <= box["y"] < 500


def test_cells_of_one_colour_have_other_marks(chromium: Any, tmp_path: Path) -> None:
    sizes = {"model": ["fnn", "cnn"], "model.latent_dim": [2, 4, 8, 16, 32]}
    folder = make_results(tmp_path, axes=sizes, seeds=[0])
    (folder / "report.html").write_text(html(folder), encoding="utf-8")
    with watched(chromium, folder / "report.html") as page:
        swatches = page.locator("#legend .swatch")
        looks = [
            swatches.nth(i).evaluate("s => [s.style.stroke, s.lastChild.getAttribute('d')]")
            for i in range(swatches.count())
        ]
        assert len(looks) == 10
        assert len({tuple(look) for look in looks}) == 10
        assert looks[0][0] == looks[8][0]


def test_links_to_mlflow_are_those_of_this_machine(chromium: Any, grid: Path) -> None:
    links = [
        ("mlflow", "All runs http://127.0.0.1:5000/#/x"),
        ("mlflow", "No http://example.org:80/"),
        ("mlflow", "No javascript:alert(1)"),
    ]
    with watched(chromium, grid / "report.html", fragment=urlencode(links)) as page:
        nav = page.locator("nav a", has_text="MLflow")
        assert nav.all_text_contents() == ["MLflow: All runs"]
        assert nav.get_attribute("href") == "http://127.0.0.1:5000/#/x"


def test_the_page_over_grids_names_and_links_each(
    chromium: Any, grid: Path, tmp_path: Path
) -> None:
    shutil.copytree(grid, tmp_path / "small")
    make_results(tmp_path, name="other <b>grid", seeds=[0], question="Why?")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "grid.yaml").write_text("name: [")
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--format", "html"])
    assert done.output == f"wrote {tmp_path / 'index.html'}\n"
    with watched(chromium, tmp_path / "index.html") as page:
        cards = page.locator("article").all_text_contents()
        assert "damaged" in cards[0]
        assert "Why?" in cards[1]
        assert "Which model is better?" in cards[2]
        assert "8 of 8 runs complete" in cards[2]
        page.get_by_role("link", name="other <b>grid").click()
        assert page.get_by_role("heading", level=1).text_content() == "other <b>grid"


def test_the_command_writes_the_page_beside_the_grid_or_where_it_is_told(
    grid: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(grid, copy)
    (copy / "report.html").unlink()
    for more, path in (([], copy / "report.html"), (["--output"], tmp_path / "page.html")):
        arguments = ["report", str(copy), "--format", "html", *more, *([str(path)] if more else [])]
        done = CliRunner().invoke(main, arguments)
        assert done.output == f"wrote {path}\n"
        assert embedded(path.read_text(encoding="utf-8"))["grid"] == "small"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_no_serious_fault(chromium: Any, grid: Path, theme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    source = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    viewport = {"width": width, "height": 900}
    with watched(
        chromium, grid / "report.html", viewport=viewport, color_scheme=theme, bypass_csp=True
    ) as page:
        open_pane(page, 0)
        page.evaluate(source)
        found = page.evaluate("axe.run()")
        serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"]) for v in serious] == []
        assert len(found["passes"]) > 20
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_theme_is_turned_and_kept(page: Any) -> None:
    def background() -> str:
        colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return colour

    light = background()
    page.get_by_role("button", name="Dark").click()
    dark = background()
    assert dark != light
    page.reload()
    page.wait_for_function("document.documentElement.dataset.ready !== undefined")
    assert background() == dark


def test_the_page_prints(page: Any) -> None:
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2
