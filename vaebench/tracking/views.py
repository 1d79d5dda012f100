"""Saved views of MLflow's experiment page, and links that open them.

The page as MLflow opens it shows a grid badly: one folded row, no metric, no picture. A saved view
is an experiment tag; its value is a state of the page, which is MLflow's internal format. So it is
written only for versions that are known to read it, never needed, and looked at by a browser test.

The states are in ``views.json``; ``$params`` and other names are filled in for each grid. To add a
chart, add it to a view there; to add a view, add it there and to ``build``.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from vaebench.tracking.payload import short
from vaebench.tracking.store import Window

if TYPE_CHECKING:
    from mlflow import MlflowClient

MIN_VERSION, BELOW = (3, 15), (4, 0)  # versions of MLflow that read these states
TAG = "mlflow.sharedViewState."
MAX_TAG = 5000  # characters of an experiment tag in older servers
LOCAL = "http://127.0.0.1:5000"


class Link(NamedTuple):
    """A saved view: its title, the address that opens it, and the same without the server."""

    title: str
    url: str
    relative: str


class View(NamedTuple):
    """A state of the experiment page, with the key under which MLflow knows it."""

    key: str
    title: str
    state: dict[str, Any]


def build(
    grid: str,
    axes: Sequence[str],
    likelihoods: Sequence[str],
    last_image: int,
    seeds: int,
    own: Sequence[str] = (),
) -> list[View]:
    """The views of a grid.

    Arguments:
        grid: Its name.
        axes: Its axes, which become columns beside model, loss and estimator.
        likelihoods: Values of the tag ``vaebench.likelihood``: ELBOs compare within one only, so
            each has its own page of curves.
        last_image: The step at which the pictures start.
        seeds: Seeds per cell; with one, the means over seeds are no news.
        own: Metrics of plugins (``test/sharpness``), which become columns, too.
    """
    names = dict.fromkeys(["model", "loss", "estimator", *map(short, axes)])
    params = json.dumps([f"params.`{name}`" for name in names])[1:-1]
    text = Path(__file__).with_name("views.json").read_text(encoding="utf-8")
    text = text.replace(', "$own"', "".join(f', "metrics.`{name}`"' for name in own))
    text = text.replace('"$params"', params).replace('"$last_image"', str(last_image))
    text = text.replace("$grid", grid)
    found = [View(f"{grid}-leaderboard", "leaderboard", _state(text, "leaderboard"))]
    if seeds > 1:
        found.append(View(f"{grid}-cells", "means over seeds", _state(text, "cells")))
    losses = [likelihood.partition(" ")[0] for likelihood in likelihoods]
    for i, (loss, likelihood) in enumerate(zip(losses, likelihoods, strict=True), 1):
        title = f"curves, {loss if losses.count(loss) == 1 else likelihood}"
        filled = text.replace("$likelihood", json.dumps(likelihood)[1:-1])
        found.append(View(f"{grid}-curves-{i}", title, _state(filled, "curves")))
    return [*found, View(f"{grid}-runs", "every run", _state(text, "runs"))]


def _state(text: str, name: str) -> dict[str, Any]:
    """A view of the filled template, with the defaults of the page, its sections and its charts."""
    template = json.loads(text)
    state: dict[str, Any] = {**template["page"], **template["views"][name]}
    for chart in state.get("compareRunCharts", ()):
        metric = chart.get("metricKey", "")
        chart["uuid"] = f"{chart['metricSectionId']}-{chart['type']}-{metric}"
        if chart["type"] == "LINE":
            chart["selectedMetricKeys"] = [metric]
    for key in state.keys() & {"compareRunCharts", "compareRunSections"}:
        defaults = template["defaults"]
        state[key] = [{**defaults[part.get("type", "section")], **part} for part in state[key]]
    if widths := state["columnWidths"]:
        columns = state["columnOrder"] = state["selectedColumns"]
        state["columnWidths"] = {name: widths[name.partition(".")[0]] for name in columns}
    return state


def write(client: "MlflowClient", experiment_id: str, grid: str, views: Sequence[View]) -> bool:
    """Write the views that are new or changed; False when this MLflow does not know them."""
    import mlflow

    version = tuple(int(part) for part in mlflow.__version__.split(".")[:2])
    if not MIN_VERSION <= version < BELOW:
        return False
    tags = client.get_experiment(experiment_id).tags
    for view in views:
        packed = base64.b64encode(zlib.compress(json.dumps(view.state).encode(), 9)).decode()
        # fixed times: the same view is the same tag, and is not written again
        about = {"name": f"{grid}: {view.title}", "createdAt": 0, "updatedAt": 0}
        value = json.dumps({**about, "state": f"deflate;{packed}"})
        if len(value) <= MAX_TAG and tags.get(TAG + view.key) != value:
            client.set_experiment_tag(experiment_id, TAG + view.key, value)
    return True


def links(window: Window, experiment_id: str, views: Sequence[View]) -> list[Link]:
    """Addresses of the views; for a store without a server, on that of ``vaebench ui``.

    Without views, the table of runs.
    """
    base = f"{window.address.rstrip('/') if window.on_server else LOCAL}/"
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    pages = {"runs": page} if not views else {}
    for view in views:
        mode = "&compareRunsMode=CHART" if "compareRunCharts" in view.state else ""
        pages[view.title] = f"{page}{mode}&viewStateShareKey={quote(view.key)}"
    return [Link(title, base + relative, relative) for title, relative in pages.items()]
