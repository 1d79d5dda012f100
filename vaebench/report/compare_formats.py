"""A comparison of two result sets, written out: JSON for programs, Markdown for people."""

from collections.abc import Collection, Sequence

from vaebench.report.analysis import Analysis
from vaebench.report.compare import BETTER, OUTCOMES, WORSE, Comparison, Outcome
from vaebench.report.data_formats import json_lines
from vaebench.report.effects import difference_json
from vaebench.report.loading import counted
from vaebench.report.markup import Row, bullets, document, escape, grid_lines, section
from vaebench.report.numbers import NOTHING, p_value, rounded, signed, with_interval
from vaebench.schema.labels import cell_label

MOVED = "a difference is what the change of code has moved, with the same seeds"


def comparison_json(comparison: Comparison) -> str:
    """The comparison for programs, in full precision."""
    content = {
        "first": comparison.first.name,
        "second": comparison.second.name,
        "counts": {outcome: comparison.count(outcome) for outcome in OUTCOMES},
        "settings": {key: list(values) for key, values in comparison.settings.items()},
        "cells": [
            {
                "cell": its.cell,
                "metric": its.column.metric,
                "outcome": its.outcome,
                "reason": its.reason,
                "rates": its.rates,
                "versions": {key: list(both) for key, both in its.moved.items()},
                "first": its.first,
                "second": its.second,
                "seeds": list(its.seeds),
                "difference": difference_json(its.difference),
                "p_holm": its.adjusted.p if its.adjusted else None,
                "family": its.adjusted.family if its.adjusted else None,
            }
            for its in comparison.outcomes
        ],
    }
    return json_lines(content)


def comparison_text(comparison: Comparison) -> str:
    """Counts by metric, then a table per metric with a row per cell."""
    by_metric: dict[str, list[Outcome]] = {}
    for its in comparison.outcomes:
        by_metric.setdefault(its.column.metric, []).append(its)
    return document(
        [
            _head(comparison),
            _counts(by_metric.values()),
            *map(_table, by_metric.values()),
            bullets(_notes(comparison)),
        ]
    )


def _head(comparison: Comparison) -> list[str]:
    first, second = comparison.first, comparison.second
    lines = ["# Second against first", ""]
    older = ", its runs of an older version" if first.directory == second.directory else ""
    lines += bullets([f"first: {_described(first)}{older}", f"second: {_described(second)}"])
    lines += bullets(
        f"{key}: {values[0]} in the first, {values[1]} in the second"
        for key, values in comparison.settings.items()
    )
    return lines


def _described(report: Analysis) -> str:
    done = sum(record["status"] == "complete" for record in report.records)
    total = counted(len(report.planned), "run")
    return f"{report.name} in {report.directory}, {done} of {total} complete"


def _counts(by_metric: Collection[Sequence[Outcome]]) -> list[str]:
    rows: list[Row] = []
    for outcomes in by_metric:
        counts = [sum(its.outcome == outcome for its in outcomes) for outcome in OUTCOMES]
        rows.append([escape(outcomes[0].column.heading), *map(str, counts)])
    return grid_lines(["Number of cells", *OUTCOMES], rows, right=range(1, 5)) if rows else []


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    rate = " (rate in nats)" if any(its.rates for its in outcomes) else ""
    sides = [f"First{rate}", f"Second{rate}"]
    headings = ["Cell", *sides, "Second - first", "p (Holm)", "Outcome"]
    rows = [_row(its) for its in outcomes]
    heading = escape(outcomes[0].column.heading)
    return section(heading, grid_lines(headings, rows, right=range(1, 5)))


def _row(its: Outcome) -> Row:
    decimals, known = its.column.decimals, its.difference
    outcome = f"**{its.outcome}**" if its.outcome in (BETTER, WORSE) else its.outcome
    if its.versions:
        outcome += f" ({escape(its.versions)})"
    if its.reason:
        outcome += f": {escape(its.reason)}"
    if known is None or its.first is None or its.second is None:
        return [escape(cell_label(its.cell)), *[NOTHING] * 4, outcome]
    return [
        escape(cell_label(its.cell)),
        *(
            rounded(value, decimals) + (f" ({its.rates[i]:.1f})" if its.rates else "")
            for i, value in enumerate((its.first, its.second))
        ),
        with_interval(signed(known.mean, decimals), known.ci95, decimals),
        escape(p_value(its.adjusted.p if its.adjusted else None)),
        outcome,
    ]


def _notes(comparison: Comparison) -> list[str]:
    if not comparison.outcomes:
        return ["Neither holds a metric that both could be compared by."]
    moved = dict.fromkeys(its.versions for its in comparison.outcomes if its.versions)
    return [
        *(f"Runs of two versions of vaebench ({text}): {MOVED}." for text in moved),
        "Means over the seeds that both have, and the difference seed by seed ± the half width of "
        "its 95 % Student-t interval. p: exact paired sign-flip test, two-sided, adjusted by Holm "
        "over the cells of one metric; better or worse where it is below 0.05.",
        "No difference shown does not mean equal. Costs belong to a machine and are not compared.",
    ]
