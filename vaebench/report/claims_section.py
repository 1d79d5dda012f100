"""Claims as a Markdown section: verdicts, the blocks behind them, the notes that a reader needs.

Rows are plain texts, so that LaTeX shows the same. Numbers are rounded as in the main table.
"""

from collections.abc import Sequence

from vaebench.report.claims import INCONCLUSIVE, Judged
from vaebench.report.markup import Row, bullets, escape, grid_lines, section
from vaebench.report.numbers import NOTHING, p_value, signed
from vaebench.report.sections import estimate
from vaebench.schema.labels import cell_label

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
    headings = [escape(heading) for heading in CLAIM_HEADINGS]
    tables = [grid_lines(headings, rows, right=_NUMBERS)]
    blocks: list[Row] = [
        [escape(claim), escape(block), *numbers]
        for judged in found
        for claim, block, *numbers in block_texts(judged)
    ]
    if blocks:
        tables.append(grid_lines(BLOCK_HEADINGS, blocks, right=range(2, 5)))
    return section("Claims", *tables, bullets(claim_notes(found)))


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
        p_value(tests.p_holm if tests else None),
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
            p_value(p),
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
