"""Claims and published numbers as Markdown sections, with the notes that a reader needs.

Rows are plain texts, so that LaTeX shows the same. Numbers are rounded as in the main table.
"""

from collections.abc import Sequence
from urllib.parse import quote

from vaebench.report.claims import INCONCLUSIVE, Judged
from vaebench.report.contrasts import Contrast
from vaebench.report.loading import counted
from vaebench.report.markup import NOTHING, Row, bullets, escape, grid_lines
from vaebench.report.numbers import decimals_of, p_text, rounded, signed
from vaebench.report.published import Reproduction
from vaebench.schema.labels import cell_label
from vaebench.statistics import Summary

CLAIM_HEADINGS = ("Claim", "Metric", "Contrast", "Difference", "p", "Seeds", "Verdict")
BLOCK_HEADINGS = ("Claim", "Block", "Difference", "Interval", "p")
_NUMBERS = range(3, 6)


def claims_section(found: Sequence[Judged]) -> list[str]:
    """The verdicts and the blocks behind them; nothing where the grid claims nothing."""
    if not found:
        return []
    rows: list[Row] = []
    for judged in found:
        row = [t if i in _NUMBERS else escape(t) for i, t in enumerate(claim_texts(judged))]
        row[-1] = row[-1].replace(judged.verdict, f"**{judged.verdict}**", 1)
        rows.append(row)
    lines = [
        "## Claims",
        "",
        *grid_lines([escape(heading) for heading in CLAIM_HEADINGS], rows, right=_NUMBERS),
        "",
    ]
    blocks: list[Row] = [
        [escape(claim), escape(block), *numbers]
        for judged in found
        for claim, block, *numbers in block_texts(judged)
    ]
    if blocks:
        lines += [*grid_lines(BLOCK_HEADINGS, blocks, right=range(2, 5)), ""]
    return [*lines, *bullets(claim_notes(found))]


def claim_texts(judged: Judged) -> tuple[str, ...]:
    """A claim as plain texts, under :data:`CLAIM_HEADINGS`."""
    column, tests, known = judged.column, judged.tests, judged.contrast.difference
    difference = estimate(judged.contrast, column.decimals)
    if known is not None and tests is not None:
        one_block = judged.claim.margin is not None and len(tests.blocks) == 1
        interval = tests.blocks[0].interval if one_block else tests.interval
        difference = signed(known.mean, column.decimals)
        if judged.claim.margin is None or one_block:
            difference += f" {_interval(interval, column.decimals)}"
    verdict = judged.verdict
    if judged.conditions:
        verdict += f" at {', '.join(judged.conditions)}"
    return (
        judged.claim.name,
        column.title if column.metric.startswith("test/") else column.metric,
        judged.sides,
        difference,
        NOTHING if tests is None else p_text(tests.p_holm).removeprefix("= "),
        NOTHING if known is None else str(known.n),
        f"{verdict}: {judged.reason}" if judged.reason else verdict,
    )


def block_texts(judged: Judged) -> list[tuple[str, str, str, str, str]]:
    """The blocks and the significant interactions of a claim, under :data:`BLOCK_HEADINGS`.

    The claim's name stands in the first row alone; no rows where there is one block.
    """
    tests, decimals = judged.tests, judged.column.decimals
    if tests is None or len(tests.blocks) < 2:
        return []
    rows = [(cell_label(b.setting), b.mean, b.interval, b.p) for b in tests.blocks]
    for its in tests.interacting:
        between = " × ".join(f"({a} - {b})" for a, b in its.between.values())
        rows.append((f"interaction with {between}", its.mean, None, its.p))
    return [
        (
            judged.claim.name if i == 0 else "",
            block,
            signed(mean, decimals),
            _interval(interval, decimals) if i < len(tests.blocks) else "",
            p_text(p).removeprefix("= "),
        )
        for i, (block, mean, interval, p) in enumerate(rows)
    ]


def _interval(interval: tuple[float, float] | None, decimals: int) -> str:
    if interval is None:
        return "(no interval)"
    return f"({signed(interval[0], decimals)} to {signed(interval[1], decimals)})"


def claim_notes(found: Sequence[Judged]) -> list[str]:
    """What a reader must know of the verdicts."""
    notes = [
        "Difference: first - second, seed by seed, averaged over the blocks: the pairs of cells "
        "that differ in nothing else, all of equal weight. In brackets the interval that belongs "
        "to the verdict: its test, inverted at the level at which Holm tested the claim."
    ]
    named = list(dict.fromkeys(judged.family for judged in found if judged.family))
    if named:
        notes.append(
            "p: exact paired sign-flip test of a difference, two one-sided t tests of an "
            f"equivalence, adjusted by Holm within its family ({'; '.join(named)}); of a block or "
            "an interaction unadjusted. The effects below are another family, so the same contrast "
            "has another p there."
        )
    if any(judged.claim.margin is None for judged in found):
        notes.append(
            "A difference is supported where the average is significant, every block's estimate "
            "has the claimed sign and, if the blocks differ significantly (an interaction, at 5 %, "
            "unadjusted), every block is significant by itself; refuted is the mirror image. "
            "Depends: the blocks do not agree in that sense, and are the answer."
        )
    if any(judged.claim.margin is not None for judged in found):
        notes.append(
            "An equivalence is supported where every block lies within the margin, refuted where "
            "some block lies beyond it (adjusted for blocks, sides and claims)."
        )
    notes.append("Inconclusive does not mean equal.")
    for judged in found:
        known, needed = judged.contrast.difference, judged.seeds_needed
        if judged.verdict == INCONCLUSIVE and known is not None and needed is not None:
            notes.append(
                f"{judged.claim.name}: with this spread over seeds, {needed} seeds would show a "
                f"true difference of {signed(known.mean, judged.column.decimals)} in four of five "
                "repetitions."
            )
    return notes


def published_section(rows: Sequence[Reproduction]) -> list[str]:
    """Published numbers beside ours; nothing where the grid names none."""
    if not rows:
        return []
    return [
        "## Published numbers",
        "",
        *grid_lines(
            ["Source", "Setting", "Published", "Ours", "Within"],
            [_published_texts(row) for row in rows],
            right=(2, 3),
        ),
        "",
        *bullets(
            [
                "Ours: mean over seeds ± the half width of its 95 % Student-t interval. Within: "
                "yes where ours - published lies within the tolerance by two one-sided t tests, no "
                "where it lies beyond it, else inconclusive; fewer than three seeds give no "
                "verdict. Exact values are computed from a closed form, not published."
            ]
        ),
    ]


def estimate(contrast: Contrast, decimals: int) -> str:
    """The mean of a contrast with its interval, where it has them."""
    known = contrast.difference
    if known is None:
        return NOTHING
    width = "" if known.ci95 is None else f" ±\u00a0{rounded(known.ci95, decimals)}"
    return f"{signed(known.mean, decimals)}{width}"


def _published_texts(row: Reproduction) -> Row:
    its = row.published
    decimals = max(decimals_of([its.value], ""), 2)
    where = [cell_label(its.cell), its.metric]
    if its.epoch is not None:
        where.append(f"epoch {its.epoch}")
    if its.add:
        where.append(f"ours {signed(its.add, 2)}")
    if its.exact:
        where.append("exact")
    return [
        _link(its.source, its.url),
        escape(", ".join(where)),
        rounded(its.value, decimals),
        escape(row.reason) if row.ours is None else _summary(row.ours, decimals),
        _within(row, decimals),
    ]


def _summary(ours: Summary, decimals: int) -> str:
    if ours.mean is None:
        return NOTHING
    width = "" if ours.ci95 is None else f" ±\u00a0{rounded(ours.ci95, decimals)}"
    interval = "" if ours.ci95 is not None else ", no interval"
    return f"{rounded(ours.mean, decimals)}{width} ({counted(ours.n, 'seed')}{interval})"


def _within(row: Reproduction, decimals: int) -> str:
    asked = f"{row.within:.3g}"
    if row.difference is None:
        return f"±{asked}: {NOTHING}"
    difference = signed(row.difference, decimals)
    if row.reproduced is None:
        return f"±{asked}: difference {difference}"
    return f"±{asked}: **{row.reproduced}** ({difference})"


def _link(text: str, url: str | None) -> str:
    if url is None:
        return escape(text)
    return f"[{escape(text)}]({quote(url, safe=':/?#@!$&+,;=%~-._')})"
