"""A browser for the tests of pages, and the small grid whose page they open."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from small_runs import NoWriter, settings

from vaebench.config import make_grid
from vaebench.executors import in_this_process
from vaebench.grid import Options, run_grid

ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT = 20_000  # milliseconds; a busy machine is slow to draw


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, without a window; skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()


@contextmanager
def watched(chromium: Any, path: Path, fragment: str = "", **context: Any) -> Iterator[Any]:
    """A page opened from the disk; fails on any request, message of an error, or exception."""
    page = chromium.new_page(**{"viewport": {"width": 1400, "height": 1000}} | context)
    page.set_default_timeout(WAIT)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    address = path.resolve().as_uri()

    def requested(request: Any) -> None:
        if not request.url.startswith(("data:", "blob:", path.parent.resolve().as_uri())):
            faults.append(f"request: {request.url}")

    page.on("request", requested)
    page.goto(f"{address}#{fragment}")
    if page.locator("script").count():
        page.wait_for_function("document.documentElement.dataset.ready !== undefined")
    yield page
    page.close()
    assert not faults, "; ".join(faults)


def train_grid(root: Path, **overrides: Any) -> Path:
    """Run a small grid here, without MLflow and figures but with tiles; return its folder."""
    raw = settings(
        name="small",
        question="Which model is better?",
        seeds=2,
        axes={"model": ["fnn", "cnn"], "loss": ["bce", "mse"]},
        training__epochs=5,
        model__latent_dim=3,
        **overrides,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vaebench.run.draw_figures", lambda *_, **__: None)
        patch.setattr("vaebench.grid.Writer", NoWriter)
        patch.setattr(
            "vaebench.grid.crew.in_workers", lambda tasks, hear, **_: in_this_process(tasks, hear)
        )
        done = run_grid(make_grid(raw), Options(results=root))
    assert done.failed == []
    return done.folder
