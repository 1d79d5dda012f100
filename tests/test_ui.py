"""The page that ``vaebench ui`` serves, looked at with a real browser.

``VAEBENCH_SCREENSHOTS=DIR`` keeps the pictures of what the browser saw: look at them after a change
of ``tracking.views``, or when a new MLflow is out.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import records

from vaebench.errors import TrackingError
from vaebench.tracking import connect, server, sync
from vaebench.tracking.server import Served, serve

pytestmark = [
    # MLflow, Alembic and SQLAlchemy leave connections to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT = 40_000  # milliseconds; a busy machine is slow to draw
PORT = 5420


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight cells, with curves and pictures, in a store of their own."""
    root = tmp_path_factory.mktemp("ui")
    grid = records.make_results(root, name="eight", seeds=(0,), pictures=True)
    for number, folder in enumerate(records.run_dirs(grid)):
        record = json.loads((folder / "record.json").read_text())
        _write_journal(folder, record["metrics"], number)
    sync(connect(root, grid.name))
    return root


def _write_journal(folder: Path, final: dict[str, float], number: int) -> None:
    lines = []
    for epoch in range(1, records.EPOCHS + 1):
        metrics = {
            f"{split}/{name}": final[f"test/{name}"] * (1 + (0.1 + 0.01 * number) / epoch)
            for split in ("train", "val")
            for name in ("elbo", "rate", "distortion")
        }
        metrics |= {"train/beta": 1.0, "train/learning_rate": 1e-3, "train/seconds": 1.0}
        lines.append({"epoch": epoch, "time": records.START + 1000 * epoch, "metrics": metrics})
    (folder / "journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.fixture(scope="module")
def served(results: Path) -> Iterator[Served]:
    with serve(results, port=PORT) as page:
        yield page


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=ARGUMENTS)
        opened = chromium.new_page(viewport={"width": 1600, "height": 1000})
        opened.set_default_timeout(WAIT)
        # MLflow opens its assistant over the right third of the first page, once per browser
        opened.add_init_script(
            "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
        )
        yield opened
        chromium.close()


@pytest.fixture
def keep(tmp_path: Path, page: Any) -> Any:
    """Save what the browser shows."""
    folder = Path(os.environ.get("VAEBENCH_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def screenshot(name: str) -> None:
        page.wait_for_timeout(500)  # charts fade in
        page.screenshot(path=folder / f"{name}.png")

    return screenshot


def open_view(page: Any, served: Served, title: str) -> None:
    """Follow the deep link of a view as if it were the first page."""
    (url,) = [link.url for link in served.links["eight"] if link.title == title]
    assert url.startswith(served.address)
    page.goto("about:blank")
    page.goto(url)
    page.get_by_text("matching runs").wait_for()


@pytest.mark.slow
def test_leaderboard_ranks_all_cells_by_ssim(
    page: Any, served: Served, results: Path, keep: Any
) -> None:
    open_view(page, served, "leaderboard")
    for header in ("model", "loss", "estimator", "seed", "test/ssim", "test/psnr", "test/elbo"):
        page.get_by_role("columnheader", name=header, exact=True).first.wait_for()
    page.get_by_role("link", name="cnn-bce-kl-s0").wait_for()
    keep("leaderboard")
    links = page.locator("a[href*='/runs/']").filter(has_text="-s0")
    drawn = {link.inner_text(): link.bounding_box()["y"] for link in links.all()}
    ssim = {}
    for folder in records.run_dirs(results / "eight"):
        record = json.loads((folder / "record.json").read_text())
        ssim["-".join(record["cell"].values()) + "-s0"] = record["metrics"]["test/ssim"]
    assert sorted(drawn, key=lambda name: drawn[name]) == sorted(ssim, key=lambda name: -ssim[name])


@pytest.mark.slow
def test_curves_are_drawn_by_cell_within_one_loss(page: Any, served: Served, keep: Any) -> None:
    open_view(page, served, "curves, bce")
    page.get_by_text("Validation per epoch, nats").wait_for()
    for chart in ("val/elbo", "val/rate", "val/distortion"):
        page.get_by_text(chart, exact=True).first.wait_for()
    for cell in ("fnn / bce / sgvb", "fnn / bce / kl", "cnn / bce / sgvb", "cnn / bce / kl"):
        page.get_by_text(f"{cell} (val/elbo)").first.wait_for(state="attached")
    lines = page.locator(".js-plotly-plot").first.locator(".scatterlayer .js-line")
    lines.first.wait_for(state="attached")
    keep("curves")
    colours = {line.evaluate("path => path.style.stroke") for line in lines.all()}
    assert len(colours) >= 4
    assert page.get_by_text("Group: ").count() == 4
    assert page.get_by_text("/ mse /").count() == 0


@pytest.mark.slow
def test_every_run_shows_pictures_that_follow_the_step_slider(
    page: Any, served: Served, keep: Any
) -> None:
    open_view(page, served, "every run")
    page.get_by_text("Pictures: test images over their reconstructions").wait_for()
    for row in ("reconstruction", "samples"):
        page.get_by_text(row, exact=True).first.wait_for()
    pictures = page.locator(".rc-image img")
    pictures.nth(11).wait_for(state="attached")
    keep("pictures-last-step")
    assert pictures.count() == 16  # eight runs, two keys
    slider = page.get_by_role("slider").first
    assert slider.get_attribute("aria-valuenow") == str(records.EPOCHS)
    last = pictures.first.get_attribute("src")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "() => { const img = document.querySelector('.rc-image img');"
        " return img && img.src.includes('reconstruction%2Bstep%2B1%2B') && img.naturalWidth > 0 }"
    )
    keep("pictures-first-step")
    assert slider.get_attribute("aria-valuenow") == "1"
    assert pictures.first.get_attribute("src") != last
    assert pictures.first.evaluate("img => img.naturalWidth") == 246  # 82 pixels, three times
    page.get_by_text("Cost, comparable on one machine").scroll_into_view_if_needed()
    page.get_by_text("test/psnr", exact=True).first.wait_for()
    keep("quality")


@pytest.mark.slow
def test_run_page_tells_what_the_run_was(page: Any, served: Served, keep: Any) -> None:
    open_view(page, served, "leaderboard")
    page.get_by_role("link", name="cnn-mse-kl-s0").click()
    page.get_by_text("cnn / mse / kl, seed 0").first.wait_for()
    page.get_by_text("complete").first.wait_for()
    page.get_by_role("link", name="cnn-mse-kl", exact=True).wait_for()  # its cell
    page.get_by_text("digits-train").first.wait_for()
    keep("run")
    page.get_by_text("Show more").first.click()
    page.get_by_role("cell", name="test/ssim").first.wait_for()
    keep("run-description")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("images", exact=True).first.wait_for()
    page.get_by_text("run", exact=True).first.wait_for()
    keep("artifacts")


@pytest.mark.slow
def test_grid_is_shown_by_a_server_as_by_a_file(served: Served, tmp_path: Path) -> None:
    grid = records.make_results(
        tmp_path, name="remote", axes={"model": ["fnn"]}, seeds=(0,), pictures=True
    )
    window = connect(tmp_path, grid.name, served.address)
    outcome = sync(window)
    assert (outcome.sent, outcome.unsent) == (1, 0)
    assert outcome.links[0].url.startswith(f"{served.address}/#/experiments/")

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=served.address)
    experiment = client.get_experiment_by_name("remote")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`vaebench.role` = 'run'")
    assert [run.info.status for run in found] == ["FINISHED"]
    assert len(client.list_artifacts(found[0].info.run_id, "images")) == 12
    assert not (tmp_path / "mlflow.db").exists()
    with serve(tmp_path, served.address) as page:
        assert (page.wait, page.address) == (None, served.address)
        assert [link.url for link in page.links["remote"]] == [link.url for link in outcome.links]


@pytest.mark.slow
def test_server_ends_with_the_process_that_started_it(results: Path) -> None:
    program = (
        "import sys, functools, pathlib; from vaebench.tracking import ui;"
        f"ui(pathlib.Path(sys.argv[1]), port={PORT + 50}, say=functools.partial(print, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(results)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        address = None
        for line in parent.stdout:
            if line.startswith("MLflow: "):
                address = line.split()[1]
                break
        assert address is not None
        assert _answers(address)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _answers(address) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _answers(address)


def _answers(address: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{address}/health", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_a_server_that_somebody_kills_is_noticed(tmp_path: Path) -> None:
    program = "import sys, time; print('last words \\x1b[2J', flush=True); time.sleep(600)"
    with (
        (tmp_path / "log").open("w+b") as log,
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=log, start_new_session=True
        ) as child,
    ):
        deadline = time.monotonic() + 60
        while not (tmp_path / "log").stat().st_size and time.monotonic() < deadline:
            time.sleep(0.05)
        child.kill()
        window = connect(tmp_path, "grid")
        with pytest.raises(TrackingError, match=r"has ended \(exit code -9\): last words \ufffd"):
            server._serve(child, "http://127.0.0.1:1", log, window)
