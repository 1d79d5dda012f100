"""Write the generated blocks of the README: ``python -m vaebench.cli.reference README.md``.

A block stands between ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``. With ``--check``
nothing is written, and the exit code is 1 where a block is not what it should be. To add a block,
add a function to ``BLOCKS``.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from vaebench.bench import load_result
from vaebench.bench.measured import ratio
from vaebench.cli import main as program
from vaebench.config import make_grid, read_yaml, with_later_keys
from vaebench.config.run import MetricOptions
from vaebench.datasets import DATASETS
from vaebench.estimators import ESTIMATORS
from vaebench.grid.manifest import make_manifest
from vaebench.likelihoods import LIKELIHOODS
from vaebench.metrics import COST_MEANINGS, COSTS, METRICS
from vaebench.models import MODELS
from vaebench.report import Report, load, render
from vaebench.report.cells import cells
from vaebench.report.evidence import published_section
from vaebench.report.markup import NOTHING, grid_lines
from vaebench.report.published import Published, published
from vaebench.report.records import Planned
from vaebench.storage import dump_yaml
from vaebench.training import OPTIMIZERS, SCHEDULES

RESULTS = "results"
PUBLISHED = (
    "mnist",
    "claims",
    "estimators",
    "ppca",
    "pytorch-examples",
    "vae-mnist",
    "vae-mnist-cnn",
)


def commands(_readme: Path) -> str:
    """The help text of every command."""
    settings = {"terminal_width": 80, **program.context_settings}
    contexts = _walk(click.Context(program, info_name="vaebench", **settings))
    return "\n\n".join(
        f"```text\n$ {context.command_path} --help\n{context.get_help()}\n```"
        for context in contexts
    )


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    for name, child in getattr(context.command, "commands", {}).items():
        yield from _walk(click.Context(child, info_name=name, parent=context))


def configuration(_readme: Path) -> str:
    """Every key and its default, for the default grid."""
    grid = make_grid({})
    manifest = make_manifest(grid, grid.runs())
    head = {"name": grid.name, "question": "", "seeds": len(grid.seeds), "axes": manifest["axes"]}
    settings = with_later_keys(manifest["settings"]) | {"metrics": MetricOptions().model_dump()}
    return f"```yaml\n{dump_yaml(head | {'exclude': []} | settings)}```"


def names(_readme: Path) -> str:
    """What each axis can be."""
    rows = ["| key | name | what it is |", "| --- | --- | --- |"]
    dicts: dict[str, Mapping[str, Any]] = {
        "model": MODELS,
        "loss": LIKELIHOODS,
        "estimator": {name: estimator.function for name, estimator in ESTIMATORS.items()},
    }
    for key, registry in dicts.items():
        rows += [f"| `{key}` | `{name}` | {_summary(value)} |" for name, value in registry.items()]
    rows += [f"| `dataset` | `{name}` | {_images(name)} |" for name in DATASETS]
    return "\n".join(rows)


def _summary(value: object) -> str:
    """The first sentence of a docstring, its formulas in plain text."""
    text = (inspect.getdoc(value) or "").partition("\n\n")[0]
    plain = re.sub(r":math:`([^`]*)`", r"*\1*", " ".join(text.split()))
    return plain.replace("``", "`").replace("|", "\\|")


def _images(name: str) -> str:
    channels, height, width = DATASETS[name].shape
    how = "downloaded once, verified" if DATASETS[name].files else "embedded, no download"
    held_out = DATASETS[name].validation
    return f"{height}x{width}, channels: {channels}; {held_out:,} validation images; {how}"


def options(_readme: Path) -> str:
    """The optimisers and schedules, and their options."""
    rows = ["| key | name | options | what it is |", "| --- | --- | --- | --- |"]
    dicts: dict[str, Mapping[str, Callable[..., Any]]] = {
        "training.optimizer": OPTIMIZERS,
        "training.schedule": SCHEDULES,
    }
    for key, registry in dicts.items():
        for name, function in registry.items():
            parameters = inspect.signature(function).parameters.values()
            given = [p for p in parameters if p.default is not inspect.Parameter.empty]
            text = ", ".join(f"`{p.name}: {p.default}`" for p in given) or "-"
            rows.append(f"| `{key}` | `{name}` | {text} | {_summary(function)} |")
    return "\n".join(rows)


def metrics(_readme: Path) -> str:
    """Every metric's declaration."""
    rows = ["| metric | unit | better | comparable within | what it is |", "| --- " * 5 + "|"]
    for name, metric in METRICS.items():
        d = metric.declaration
        cells = f"{d.unit or '-'} | {d.direction or '-'} | one {d.comparable}"
        rows.append(f"| `test/{name}` | {cells} | {_summary(metric.function)} |")
    for name, d in COSTS.items():
        cells = f"{d.unit or '-'} | {d.direction or '-'} | one {d.comparable}"
        rows.append(f"| `cost/{name}` | {cells} | {COST_MEANINGS[name]} |")
    return "\n".join(rows)


def results(readme: Path) -> str:
    """The published table, made from the published records."""
    return _section(render(load(readme.parent / RESULTS / "mnist"), "md", readme), "Results")


def claims(readme: Path) -> str:
    """The verdicts on the published claims, made from their records."""
    return _section(render(load(readme.parent / RESULTS / "claims"), "md", readme), "Claims")


def _section(text: str, title: str) -> str:
    """What stands under a heading of a report."""
    begin = text.index("\n\n", text.index(f"\n## {title}"))
    return text[begin : text.index("\n## ", begin)].strip()


def reproduced(readme: Path) -> str:
    """What others published beside ours, of every grid that names such numbers."""
    rows: list[Published] = []
    experiments = readme.parent / "experiments"
    benchmarks = set((experiments / "benchmarks").glob("*"))
    for path in sorted(set(experiments.rglob("*.yaml")) - benchmarks):
        report = _report_of(path, readme.parent / RESULTS / path.stem)
        rows += published(report, cells(report))
    return "\n".join(published_section(rows)[2:])


def _report_of(path: Path, folder: Path) -> Report:
    """The published results of a grid's file; where there are none, those of a grid not yet run."""
    if folder.name in PUBLISHED:
        return load(folder)
    grid = make_grid(read_yaml(path), source=path.name)
    runs = grid.runs()
    missing = tuple(Planned(run.run_id, run.cell, run.config.seed) for run in runs)
    manifest = make_manifest(grid, runs)
    return Report(folder, manifest, missing, (), missing, (), ())


def speed(readme: Path) -> str:
    """The training loops of the published benchmarks: medians, and ratios of turns."""
    found = {
        name: load_result(readme.parent / RESULTS / "benchmarks" / f"{name}.json")
        for name in ("fnn", "cnn")
    }
    headings = ["", *(text for name in found for text in (f"{name}, images/s", "of the limit"))]
    speeds = [
        {each.name: each for each in result.measurements if each.unit == "images/s"}
        for result in found.values()
    ]
    rows = []
    for name in dict.fromkeys(name for measured in speeds for name in measured):
        row = [name]
        for measured in speeds:
            each = measured.get(name)
            share = ratio(each, measured["limit"]).median if each else None
            if each is None:
                row += [NOTHING, NOTHING]
            else:
                share = ratio(each, measured["limit"]).median
                row += [f"{each.median:,.0f}", f"{share:.0%}"]
        rows.append(row)
    return "\n".join(grid_lines(headings, rows, right=range(1, 5)))


BLOCKS: dict[str, Callable[[Path], str]] = {
    "results": results,
    "claims": claims,
    "reproduced": reproduced,
    "speed": speed,
    "names": names,
    "options": options,
    "metrics": metrics,
    "configuration": configuration,
    "commands": commands,
}


def with_blocks(text: str, readme: Path) -> str:
    """The text of a README with every generated block made anew.

    Raises:
        LookupError: A block has no place in the text.
    """
    for name, make in BLOCKS.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise LookupError(f"{readme} has no block {begin} ... {end}")
        text = f"{before}{begin}\n{make(readme)}\n{end}{after}"
    return text


@click.command()
@click.argument("readme", type=click.Path(exists=True, path_type=Path))
@click.option("--check", is_flag=True, help="Change nothing; fail if something would change.")
def main(readme: Path, check: bool) -> None:
    """Make the generated blocks of README anew."""
    old = readme.read_text(encoding="utf-8")
    new = with_blocks(old, readme)
    if new == old:
        return
    if check:
        raise click.ClickException(f"{readme}: generated blocks are out of date; run `make docs`")
    readme.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
