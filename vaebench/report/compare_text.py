"""A comparison of two result sets as Markdown for people: what changed first, then every cell."""

from collections.abc import Sequence

from vaebench.report.compare import (
    BETTER,
    OUTCOMES,
    WORSE,
    Comparison,
    Outcome,
)
from vaebench.report.loading import Report, counted
from vaebench.report.markup import NOTHING, Row, bullets, escape, grid_lines
from vaebench.report.numbers import p_text, rounded, signed
from vaebench.schema.labels import cell_label


def comparison_text(comparison: Comparison) -> str:
    """Counts by metric, then a table per metric with a row per cell."""
    by_metric: dict[str, list[Outcome]] = {}
    for its in comparison.outcomes:
        by_metric.setdefault(its.column.metric, []).append(its)
    sections = [_head(comparison), _counts(by_metric)]
    sections += [_table(outcomes) for outcomes in by_metric.values()]
    sections.append(bullets(_notes(comparison)))
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _head(comparison: Comparison) -> list[str]:
    first, second = comparison.first, comparison.second
    lines = ["# Second against first", ""]
    lines += bullets([f"first: {_described(first)}", f"second: {_described(second)}"])
    lines += bullets(
        f"{key}: {values[0]} in the first, {values[1]} in the second"
        for key, values in comparison.settings.items()
    )
    return lines


def _described(report: Report) -> str:
    done = sum(record["status"] == "complete" for record in report.records)
    total = counted(len(report.planned), "run")
    return f"{report.name} in {report.directory}, {done} of {total} complete"


def _counts(by_metric: dict[str, list[Outcome]]) -> list[str]:
    rows: list[Row] = []
    for outcomes in by_metric.values():
        counts = [sum(its.outcome == outcome for its in outcomes) for outcome in OUTCOMES]
        rows.append([escape(outcomes[0].column.heading), *map(str, counts)])
    return grid_lines(["Number of cells", *OUTCOMES], rows, right=range(1, 5)) if rows else []


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    column = outcomes[0].column
    return [
        f"## {escape(column.heading)}",
        "",
        *grid_lines(
            ["Cell", "First", "Second", "Second - first", "p (Holm)", "Outcome"],
            [_row(its) for its in outcomes],
            right=range(1, 5),
        ),
    ]


def _row(its: Outcome) -> Row:
    decimals, known = its.column.decimals, its.difference
    outcome = f"**{its.outcome}**" if its.outcome in (BETTER, WORSE) else its.outcome
    if its.reason:
        outcome += f": {escape(its.reason)}"
    if known is None or its.first is None or its.second is None:
        return [escape(cell_label(its.cell)), *[NOTHING] * 4, outcome]
    width = "" if known.ci95 is None else f" ±\u00a0{rounded(known.ci95, decimals)}"
    p = its.adjusted.p if its.adjusted else None
    return [
        escape(cell_label(its.cell)),
        rounded(its.first, decimals),
        rounded(its.second, decimals),
        f"{signed(known.mean, decimals)}{width}",
        NOTHING if p is None else escape(p_text(p).removeprefix("= ")),
        outcome,
    ]


def _notes(comparison: Comparison) -> list[str]:
    if not comparison.outcomes:
        return ["Neither holds a metric that both could be compared by."]
    return [
        "Means over the seeds that both have, and the difference seed by seed ± the half width of "
        "its 95 % Student-t interval. p: exact paired sign-flip test, two-sided, adjusted by Holm "
        "over the cells of one metric; better or worse where it is below 0.05.",
        "No difference shown does not mean equal. Costs belong to a machine and are not compared.",
    ]
