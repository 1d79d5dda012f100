"""Regenerate the generated blocks of the documents: ``python -m experiments.readme [--check]``.

cogapp finds them: a block stands between ``<!-- [[[cog cog.outl(readme.NAME("mnist")) ]]] -->``
and ``<!-- [[[end]]] -->``, and NAME is a function of this module. With ``--check`` nothing is
written, and the exit code is 5 where a block is out of date.
"""

import ast
import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
from cogapp import Cog

import vaebench
from experiments.keys import REGISTRIES, first_paragraph, key_rows, plain, table
from vaebench.cli import main as program
from vaebench.config import make_grid, read_yaml
from vaebench.cpu import describe_cpu
from vaebench.datasets import DATASETS
from vaebench.declarations import COSTS
from vaebench.estimators import Estimator
from vaebench.files import dump_yaml
from vaebench.grid.manifest import make_manifest
from vaebench.metrics import METRICS
from vaebench.report import load, render

ROOT = Path(__file__).parents[1]
FOLDER = ROOT
RESULTS = ROOT / "results"
DOCUMENTS = (
    "README.md",
    "results/READING.md",
    "results/TABLES.md",
    "experiments/REFERENCE.md",
    "vaebench/README.md",
)
PUBLISHED = (
    "mnist",
    "claims",
    "estimators",
    "ppca",
    "pytorch-examples",
    "reference",
    "vae-mnist",
    "vae-mnist-cnn",
)
COMPARABLE = {"likelihood": "base measure", "dataset": "data set", "machine": "machine"}
PICTURED = {"model": "cnn", "loss": "bce", "estimator": "kl"}  # the cell whose figures are shown


# ---------------------------------------------------------------- README.md


def setting(grid: str) -> str:
    """The summary of a published grid: data, seeds, epochs, machine."""
    return _report(grid).partition("\n## ")[0].strip().rpartition("\n\n")[2]


def results(grid: str) -> str:
    """The main table of a published grid, its pictures left out."""
    headings, rows = _first_table(section(grid, "Results on the test images"))
    wanted = [name for name in headings if name not in ("Reconstruction", "Generation")]
    return _columns(headings, rows, wanted)


def claims(grid: str) -> str:
    """Every claim of a published grid in a short row: difference, interval, verdict."""
    headings, rows = _first_table(section(grid, "Claims"))
    return _columns(headings, rows, ["Claim", "Difference", "Verdict"])


def command_list() -> str:
    """A line for each command."""
    rows = [
        [f"`{context.command_path}`", context.command.get_short_help_str(120)]
        for context in commands_of()
        if not isinstance(context.command, click.Group)
    ]
    return table(["command", "what it does"], rows)


# ---------------------------------------------------------------- results/TABLES.md, READING.md


def section(grid: str, title: str) -> str:
    """What stands under a heading of a published report; pictures are relative to results/."""
    return _part(_report(grid), title)


def effects(grid: str) -> str:
    """What each axis does in a published grid, without the interactions."""
    return section(grid, "Effects of the axes").partition("\n<details>")[0].strip()


def mnist_figures() -> str:
    """Figures of one run of the MNIST grid."""
    folder = f"mnist/runs/{_run_of('mnist', PICTURED)}/figures"
    label = " / ".join(PICTURED.values())
    return (
        f"![One latent dimension moved at a time, {label}]({folder}/traversals.png)\n\n"
        f"![ELBO, rate and distortion by epoch, {label}]({folder}/curves.png)"
    )


def estimators_figure() -> str:
    """The noise of the estimators' gradients by epoch."""
    folder = f"estimators/runs/{_run_of('estimators', {'estimator': 'kl'})}/figures"
    return (
        "![Variance and signal-to-noise ratio of six gradient estimators by epoch]"
        f"({folder}/gradient_variance.png)"
    )


def reproduced() -> str:
    """What others published beside ours, of every grid that names such numbers."""
    found: list[list[str]] = []
    headings: list[str] = []
    notes = ""
    experiments = ROOT / "experiments"
    others = ("benchmarks", "cluster", "mlflow", "plugins")
    for path in sorted(p for p in experiments.rglob("*.yaml") if p.parent.name not in others):
        grid = make_grid(read_yaml(path), source=path.name)
        if not grid.published:
            continue
        if path.stem in PUBLISHED:
            text = section(path.stem, "Published numbers")
        else:
            with TemporaryDirectory() as folder:  # a grid that has not been run
                manifest = dump_yaml(make_manifest(grid, grid.runs()))
                (Path(folder) / "grid.yaml").write_text(manifest, encoding="utf-8")
                text = _part(render(load(Path(folder)), "md"), "Published numbers")
        headings, rows = _first_table(text)
        notes = text.partition("\n\n")[2]
        found += rows
    return f"{_columns(headings, found, headings)}\n\n{notes}"


def speed() -> str:
    """The training loops of the published benchmarks: medians, and medians of ratios by turn."""
    headings, cpus = [""], []
    rows: dict[str, list[str]] = {}
    for name in ("fnn", "cnn"):
        result = json.loads((RESULTS / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))
        speeds = [each for each in result["measurements"] if each["unit"] == "images/s"]
        measured = {each["name"]: each["values"] for each in speeds}
        cpus.append(f"{name}: {describe_cpu(result['environment'])}")
        headings += [f"{name}, images/s", "of the limit"]
        for contender, values in measured.items():
            share = median(v / limit for v, limit in zip(values, measured["limit"], strict=True))
            row = rows.setdefault(contender, [contender])
            row += [f"{median(values):,.0f}", f"{share:.0%}"]
    found = table(headings, list(rows.values()), right=range(1, 5))
    return f"{found}\n\nMeasured on {'; '.join(cpus)}."


def metrics() -> str:
    """Every metric's and cost's declaration."""
    entries = [
        *((f"test/{n}", m.declaration, first_paragraph(m.function)) for n, m in METRICS.items()),
        *((f"cost/{n}", c.declaration, first_paragraph(c.function)) for n, c in COSTS.items()),
    ]
    rows = [
        [f"`{name}`", d.unit or "-", d.direction or "-", f"one {COMPARABLE[d.comparable]}", text]
        for name, d, text in entries
    ]
    return table(["metric", "unit", "better", "comparable within", "what it is"], rows)


# ---------------------------------------------------------------- experiments/REFERENCE.md


def configuration() -> str:
    """Every key of a grid's file: type, default, meaning."""
    return table(["key", "type", "default", "what it is"], key_rows())


def names() -> str:
    """What each choice can be."""
    rows = [
        [f"`{key}`", f"`{name}`", _images(name) if key == "dataset" else _meaning(value)]
        for key, registry in REGISTRIES.items()
        for name, value in registry.items()
    ]
    return table(["key", "name", "what it is"], rows)


def _meaning(value: object) -> str:
    return first_paragraph(value.function if isinstance(value, Estimator) else value)


def _images(name: str) -> str:
    how = "downloaded once, verified" if DATASETS[name].files else "embedded, no download"
    held_out = DATASETS[name].validation
    if held_out is None or callable(DATASETS[name].shape):
        return f"{first_paragraph(DATASETS[name].read)} Their content cuts them into splits"
    channels, height, width = DATASETS[name].shape
    return f"{height}x{width}, channels: {channels}; {held_out:,} validation images; {how}"


def commands() -> str:
    """The help text of every command."""
    return "\n\n".join(
        f"```text\n$ {context.command_path} --help\n{context.get_help()}\n```"
        for context in commands_of(groups=True)
    )


def commands_of(*, groups: bool = False) -> list[click.Context]:
    """Contexts of every command, and of the groups if asked for."""
    settings = {"terminal_width": 80, **program.context_settings}
    found = _walk(click.Context(program, info_name="vaebench", **settings))
    return [each for each in found if groups or not isinstance(each.command, click.Group)]


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    for name, child in getattr(context.command, "commands", {}).items():
        yield from _walk(click.Context(child, info_name=name, parent=context))


# ---------------------------------------------------------------- vaebench/README.md


def modules() -> str:
    """The first line of every module of the package."""
    package = Path(vaebench.__file__).parent
    rows = []
    for path in sorted(package.rglob("*.py"), key=lambda p: (p.parent.parts, p.name)):
        name = path.relative_to(package).as_posix()
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        rows.append([f"`{name}`", plain(text.partition("\n\n")[0])])
    return table(["module", "what it holds"], rows)


# ---------------------------------------------------------------- parts of reports


@cache
def _report(name: str) -> str:
    """The report of a published grid; pictures are linked relative to results/."""
    return render(load(RESULTS / name), "md", RESULTS / "README.md")


def _part(text: str, title: str) -> str:
    """What stands under a heading of a report."""
    begin = text.index("\n\n", text.index(f"\n## {title}\n"))
    return f"{text}\n## "[begin : f"{text}\n## ".index("\n## ", begin)].strip()


def _first_table(text: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the first Markdown table in a text."""
    lines = text.partition("\n\n")[0].splitlines()
    cells = [line.strip().removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    return cells[0], cells[2:]


def _columns(headings: Sequence[str], rows: Sequence[list[str]], wanted: Sequence[str]) -> str:
    """Some columns of a table; numbers stay on the right."""
    places = [headings.index(name) for name in wanted]
    chosen = [[row[i] for i in places] for row in rows]
    numbers = {"Difference", "Published", "Ours", "Rate"}
    right = [i for i, name in enumerate(wanted) if name in numbers or name.endswith(("↑", "↓"))]
    return table(wanted, chosen, right=right)


def _run_of(name: str, cell: dict[str, str]) -> str:
    """The first run of a cell that keeps its figures."""
    for run in json.loads(render(load(RESULTS / name), "json"))["runs"]:
        if (RESULTS / name / "runs" / run["run_id"] / "figures").is_dir() and (
            cell.items() <= run["cell"].items()
        ):
            return str(run["run_id"])
    raise LookupError(f"no run of {name} with {cell} has its figures")


def generate(*, check: bool) -> int:
    """Write the documents below :data:`FOLDER`, or check them; return an exit code."""
    arguments = ["--check", "--check-fail-msg=out of date: run `make docs`"] if check else ["-r"]
    prologue = ["-I", str(ROOT), "-p", "from experiments import readme"]
    return Cog().main(["cog", *prologue, *arguments, *(str(FOLDER / page) for page in DOCUMENTS)])


if __name__ == "__main__":
    sys.exit(generate(check="--check" in sys.argv[1:]))
