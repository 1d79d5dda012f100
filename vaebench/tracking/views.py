"""Saved views of MLflow's experiment page, and links that open them.

The page as MLflow opens it shows a grid badly: one folded row, no metric, no picture. A saved view
is an experiment tag; its value is a state of the page, which is MLflow's internal format. So it is
written only for versions that are known to read it, never needed, and looked at by a browser test.

To add a view, add it to ``build``; to add a chart, to the section that it belongs to.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from vaebench.tracking.payload import short
from vaebench.tracking.store import SERVERS, Window

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOWEST, BELOW = (3, 15), (4, 0)  # versions of MLflow that read these states
TAG = "mlflow.sharedViewState."
LIMIT = 5000  # characters of an experiment tag in older servers
NARROW, WIDE = 85, 110  # pixels of a column
PICTURES = 470  # pixels of height
LOCAL = "http://127.0.0.1:5000"

State = dict[str, Any]


class Link(NamedTuple):
    """A saved view: its title, the address that opens it, and the same without the server."""

    title: str
    url: str
    relative: str


class View(NamedTuple):
    """A state of the experiment page under a name; ``charts``: it opens on the charts."""

    key: str
    title: str
    state: State
    charts: bool = False


def build(
    grid: str, axes: Sequence[str], likelihoods: Sequence[str], last_image: int, seeds: int
) -> list[View]:
    """The views of a grid.

    Arguments:
        grid: Its name.
        axes: Its axes, which become columns beside model, loss and estimator.
        likelihoods: Values of the tag ``vaebench.likelihood``: ELBOs compare within one only, so
            each has its own page of curves.
        last_image: The step at which the pictures start.
        seeds: Seeds per cell; with one, the means over seeds are no news.
    """
    runs = f"tags.`vaebench.role` = 'run' AND tags.`vaebench.grid` = '{grid}'"
    names = dict.fromkeys(["model", "loss", "estimator", *map(short, axes)])
    params = [f"params.`{name}`" for name in names]
    found = [
        View("leaderboard", "leaderboard", _table(runs, [*params, "params.`seed`"])),
    ]
    if seeds > 1:
        cells = runs.replace("'run'", "'cell'")
        found.append(View("cells", "means over seeds", _table(cells, params)))
    losses = [likelihood.partition(" ")[0] for likelihood in likelihoods]
    for i, (loss, likelihood) in enumerate(zip(losses, likelihoods, strict=True)):
        only = f"{runs} AND tags.`vaebench.likelihood` = '{likelihood}'"
        found.append(
            View(
                f"curves-{i + 1}",
                f"curves, {loss if losses.count(loss) == 1 else likelihood}",
                _curves(only),
                charts=True,
            )
        )
    found.append(View("runs", "every run", _every_run(runs, params, last_image), charts=True))
    return found


def write(client: "MlflowClient", experiment_id: str, grid: str, views: Sequence[View]) -> bool:
    """Write the views that are new or changed; False when this MLflow does not know them."""
    import mlflow

    version = tuple(int(part) for part in mlflow.__version__.split(".")[:2])
    if not LOWEST <= version < BELOW:
        return False
    tags = client.get_experiment(experiment_id).tags
    for view in views:
        value = _encode(f"{grid}: {view.title}", view.state)
        name = TAG + view_id(grid, view)
        if len(value) <= LIMIT and tags.get(name) != value:
            client.set_experiment_tag(experiment_id, name, value)
    return True


def view_id(grid: str, view: View) -> str:
    """The key under which MLflow knows a view."""
    return f"{grid}-{view.key}"


def links(window: Window, experiment_id: str, views: Sequence[View]) -> list[Link]:
    """Addresses of the views; for a store without a server, on that of ``vaebench ui``.

    Without views, the table of runs.
    """
    server = window.uri.partition("://")[0] in SERVERS
    base = f"{window.address.rstrip('/') if server else LOCAL}/"
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if not views:
        return [Link("runs", base + page, page)]
    found = []
    for view in views:
        mode = "&compareRunsMode=CHART" if view.charts else ""
        page_of_view = f"{page}{mode}&viewStateShareKey={quote(view_id(window.grid, view))}"
        found.append(Link(view.title, base + page_of_view, page_of_view))
    return found


def _encode(name: str, state: State) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    # fixed times: the same view is the same tag, and is not written again
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})


def _table(runs: str, params: Sequence[str]) -> State:
    """Runs in the order of their SSIM, which unlike the ELBO compares all cells."""
    names = ["test/ssim", "test/psnr", "test/elbo", "test/rate", "test/distortion"]
    names += ["test/active_units", "cost/seconds_per_epoch", "cost/parameters"]
    metrics = [f"metrics.`{name}`" for name in names]
    columns = [*params, *metrics]
    widths = {**dict.fromkeys(params, NARROW), **dict.fromkeys(metrics, WIDE)}
    return _page(runs, selectedColumns=columns, columnOrder=columns, columnWidths=widths)


def _curves(runs: str) -> State:
    """Validation and training curves, one mean curve per cell, for one likelihood."""
    charts = [_line("val", f"val/{name}") for name in ("elbo", "rate", "distortion")]
    charts += [
        _bar("end", "test/elbo"),
        _scatter("end", "test/rate", "test/distortion"),
        _bar("end", "test/rate"),
    ]
    charts += [_line("train", f"train/{name}") for name in ("elbo", "rate", "distortion")]
    charts += [_line("course", f"train/{name}") for name in ("learning_rate", "beta", "seconds")]
    sections = {
        "val": "Validation per epoch, nats (ELBO: higher is better)",
        "end": "Test after training, nats",
        "train": "Training per epoch, nats",
        "course": "Course of the training",
    }
    cells = [{"mode": "tag", "groupByData": "vaebench.cell"}]
    return _page(
        runs,
        groupBy={"aggregateFunction": "average", "groupByKeys": cells},
        isAccordionReordered=True,
        compareRunCharts=charts,
        compareRunSections=[_section(key, name) for key, name in sections.items()],
    )


def _every_run(runs: str, params: Sequence[str], last_image: int) -> State:
    """Pictures of all runs side by side, then what compares across all cells, then cost."""
    pictures = _chart(
        "pictures",
        "IMAGE",
        "images",
        imageKeys=["reconstruction", "samples"],  # two keys: a column per run, a row per key
        step=last_image,
        showRunParams=False,
    )
    quality = ("test/ssim", "test/psnr", "test/active_units")
    cost = (
        "cost/seconds_per_epoch",
        "cost/cpu_seconds_per_epoch",
        "cost/images_per_second",
        "cost/peak_memory_mb",
    )
    return _page(
        runs,
        # the grid of pictures shows the first ten: one seed of every cell, not the ten best
        orderByKey="params.`seed`",
        orderByAsc=True,
        selectedColumns=[*params, "metrics.`test/ssim`"],
        isAccordionReordered=True,
        compareRunCharts=[
            pictures,
            *[_bar("quality", metric) for metric in quality],
            *[_bar("cost", metric) for metric in cost],
        ],
        compareRunSections=[
            {
                **_section("images", "Pictures: test images over their reconstructions; samples"),
                "columns": 1,
                "cardHeight": PICTURES,
            },
            _section("quality", "Test, all cells (SSIM, PSNR: higher is better)"),
            _section("cost", "Cost, comparable on one machine"),
        ],
    )


def _page(runs: str, **changed: Any) -> State:
    return {
        "searchFilter": runs,
        "orderByKey": "metrics.`test/ssim`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [],
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
        **changed,
    }


def _section(key: str, name: str) -> State:
    flags = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": key, "name": name, **flags}


def _chart(key: str, kind: str, section: str, **more: Any) -> State:
    return {
        "uuid": key,
        "type": kind,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
        **more,
    }


def _bar(section: str, metric: str) -> State:
    return _chart(f"{section}-bar-{metric}", "BAR", section, metricKey=metric)


def _line(section: str, metric: str) -> State:
    return _chart(
        f"{section}-{metric}",
        "LINE",
        section,
        metricKey=metric,
        selectedMetricKeys=[metric],
        lineSmoothness=0,
        xAxisScaleType="linear",
        scaleType="linear",
        range={},
        xAxisKey="step",
        selectedXAxisMetricKey="",
        yAxisKey="metric",
        yAxisExpressions=[],
        ignoreOutliers=False,
        useGlobalXaxisKey=True,
        useGlobalLineSmoothing=True,
    )


def _scatter(section: str, x: str, y: str) -> State:
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return _chart(f"{section}-{x}-{y}", "SCATTER", section, **axes)
