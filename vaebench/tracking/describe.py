"""The descriptions that MLflow shows on the pages of an experiment, a grid, a cell and a run.

Markdown in, no HTML. The first line is all that is seen of a folded description: it says what the
thing is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vaebench.schema.labels import cell_label, likelihood_label, run_label
from vaebench.schema.trial import MARK, TEXT, epochs_of, is_trial
from vaebench.tracking.payload import Point, Record, Seed

HEADLINE = ("test/ssim", "test/psnr", "test/elbo")
COMPARABLE = {
    "likelihood": "within the same loss only",
    "machine": "on the same machine only",
    "dataset": "all runs on this data set",
}


def describe_run(run: Seed, config: Mapping[str, Any], record: Record | None) -> str:
    """What a run is and what came out."""
    state = f"**{record['status']}**{_summary(record)}" if record else "**training**"
    title = run_label(run.cell, run.seed) + (f" ({MARK.lower()})" if is_trial(config) else "")
    lines = [f"### {title}", "", state, "", _setting(config), ""]
    if record is None:
        return "\n".join(lines)
    points = {k: v for k, v in record["metrics"].items() if k.startswith(("test/", "cost/"))}
    lines += metric_table(points, record.get("metric_declarations", {}))
    if best := record.get("best"):
        elbo, epoch = best["val/elbo"], best["epoch"]
        lines += ["", f"Best validation ELBO {elbo:.2f} nats, in epoch {epoch}."]
    lines += [f"- {note}" for note in record.get("notes", [])]
    if (run.store.path / "weights.pt").exists():
        lines += ["", "`vaebench.load_run(...)` reads the artifact folder `run`, weights included."]
    return "\n".join(lines)


def describe_cell(
    cell: Mapping[str, Any],
    seeds: Sequence[int],
    complete: Sequence[Record],
    means: Sequence[Point],
    model: str | None,
) -> str:
    """What a cell is, its means over seeds, and which seed became the cell's model."""
    state = f"{len(complete)} of {len(seeds)} seeds ({_listed(seeds)}) complete."
    trial = any(is_trial(record.get("config")) for record in complete)
    lines = [f"### {cell_label(cell)}{f' ({MARK.lower()})' if trial else ''}", "", state]
    if means:
        declared = complete[0].get("metric_declarations", {})
        shown = {p.key: p.value for p in means if p.key.startswith(("test/", "cost/"))}
        lines += ["", "Means over seeds:", "", *metric_table(shown, declared)]
    else:
        lines += ["", "Means are shown when every seed is complete."]
    if model:
        lines += ["", f"MLflow model: {model}."]
    return "\n".join(lines)


def describe_grid(
    manifest: Mapping[str, Any], counts: Mapping[str, int], links: Sequence[str]
) -> str:
    """What a grid asks, what it varies and how far it is; ``links`` are lines of Markdown."""
    axes = [f"- `{axis}`: {_listed(values)}" for axis, values in manifest["axes"].items()]
    told = ", ".join(f"{n} {status}" for status, n in counts.items() if n) or "nothing yet"
    lines = [f"### vaebench grid {manifest['name']}", ""]
    lines += [f"**{TEXT}.**", ""] if is_trial(manifest.get("settings")) else []
    lines += [str(manifest["question"]), ""] if manifest.get("question") else []
    lines += [*axes, f"- seeds: {_listed(manifest['seeds'])}", "", f"Runs: {told}.", ""]
    lines += [*links, ""] if links else []
    lines.append(
        "ELBO, rate and distortion may be compared within one loss only; SSIM, PSNR and active "
        "units across all cells. One run per cell and seed lies below its cell, cells below the "
        "grid."
    )
    return "\n".join(lines)


def describe_sharing(where: str, experiment: str, users: Iterable[str]) -> str:
    """What users are told where others show a grid of the same name."""
    return (
        f"MLflow at {where}: experiment {experiment!r} also holds a grid of this name from another "
        f"folder (of {', '.join(sorted(set(users)))}): its runs stay apart, but its pages show "
        f"both; another --name gives each its own"
    )


def metric_table(values: Mapping[str, float | None], declared: Mapping[str, Any]) -> list[str]:
    """A table of metrics with unit, direction and what they may be compared with."""
    rows = ["| metric | value | unit | better | comparable |", "|---|---:|---|---|---|"]
    for key, value in values.items():
        about = declared.get(key.rpartition("/")[2], {})
        shown = "not measured" if value is None else _number(value)
        direction = about.get("direction") or ""
        compare = COMPARABLE.get(about.get("comparable") or "", "")
        rows.append(f"| {key} | {shown} | {about.get('unit') or ''} | {direction} | {compare} |")
    return rows if len(rows) > 2 else []


def _summary(record: Record) -> str:
    """What a folded description still shows: why a run failed, or its main results."""
    if record.get("reason"):
        return f": {record['reason']}"
    declared = record.get("metric_declarations", {})
    shown = []
    for key in HEADLINE:
        about = declared.get(key.rpartition("/")[2], {})
        if (value := record["metrics"].get(key)) is not None:
            said = f"{about.get('title', key)} {_number(value)} {about.get('unit', '')}"
            shown.append(said.strip())
    return f": test {', '.join(shown)}" if shown else ""


def _number(value: float) -> str:
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 10 else f"{value:,.2f}"


def _setting(config: Mapping[str, Any]) -> str:
    training, dataset = config.get("training", {}), config.get("dataset", {})
    told = {
        "": dataset.get("name"),
        "likelihood ": likelihood_label(config),
        "latent size ": config.get("model", {}).get("latent_dim"),
        "epochs ": epochs_of(config),
        "batch size ": training.get("batch_size"),
        "learning rate ": training.get("learning_rate"),
    }
    return ", ".join(f"{what}{value}" for what, value in told.items() if value is not None)


def _listed(seeds: Any) -> str:
    return ", ".join(str(s) for s in seeds) if isinstance(seeds, list) else str(seeds)
