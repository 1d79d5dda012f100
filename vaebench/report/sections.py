"""Claims and published numbers as Markdown sections, with the notes that a reader needs.

Rows are plain texts, so that LaTeX shows the same. Numbers are rounded as in the main table.
"""

from collections.abc import Sequence
from urllib.parse import quote

from vaebench.report.claims import Judged
from vaebench.report.contrasts import Contrast
from vaebench.report.loading import counted
from vaebench.report.markup import NOTHING, Row, bullets, escape, grid_lines
from vaebench.report.numbers import decimals_of, p_text, rounded, signed, with_interval
from vaebench.report.published import Reproduction
from vaebench.schema.labels import cell_label
from vaebench.statistics import Summary

CLAIM_HEADINGS = ("Claim", "Metric", "Contrast", "Difference", "d_z", "p", "Seeds", "Verdict")
_NUMBERS = range(3, 7)


def claims_section(found: Sequence[Judged]) -> list[str]:
    """The verdicts; nothing where the grid claims nothing."""
    if not found:
        return []
    rows: list[Row] = []
    for judged in found:
        texts = claim_texts(judged)
        row = [t if i in _NUMBERS else escape(t) for i, t in enumerate(texts)]
        row[-1] = f"**{escape(judged.verdict)}**: {escape(judged.reason)}"
        rows.append(row)
    return [
        "## Claims",
        "",
        *grid_lines([escape(heading) for heading in CLAIM_HEADINGS], rows, right=_NUMBERS),
        "",
        *bullets(claim_notes(found)),
    ]


def claim_texts(judged: Judged) -> tuple[str, ...]:
    """A claim as plain texts, under :data:`CLAIM_HEADINGS`."""
    column, known = judged.column, judged.contrast.difference
    return (
        judged.claim.name,
        column.title if column.metric.startswith("test/") else column.metric,
        judged.sides,
        estimate(judged.contrast, column.decimals),
        signed(known.effect_size, 1) if known and known.effect_size is not None else NOTHING,
        NOTHING if judged.adjusted.p is None else p_text(judged.adjusted.p).removeprefix("= "),
        NOTHING if known is None else str(known.n),
        f"{judged.verdict}: {judged.reason}",
    )


def claim_notes(found: Sequence[Judged]) -> list[str]:
    """What a reader must know of the verdicts."""
    notes = [
        "Difference: first - second, seed by seed, averaged over the pairs of cells that differ in "
        "nothing else; ± is the half width of its 95 % Student-t interval over seeds. d_z: mean "
        "divided by standard deviation over seeds, which says how reliably the sign repeats, not "
        "whether the difference matters."
    ]
    named = list(dict.fromkeys(j.adjusted.family for j in found if j.adjusted.p is not None))
    if named:
        notes.append(
            "p: exact paired sign-flip test of a difference, two one-sided t tests of an "
            f"equivalence, adjusted by Holm within its family ({'; '.join(named)}). The effects "
            "below are another family, so the same contrast has another p there."
        )
    return [
        *notes,
        "Supported: adjusted p below 0.05 and, for a difference, the claimed sign. Refuted: "
        "adjusted p below 0.05 and the opposite sign; for an equivalence, the 90 % interval lies "
        "wholly beyond the margin. Inconclusive does not mean equal.",
    ]


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
                "whether that mean is within the stated tolerance, and ours - published."
            ]
        ),
    ]


def estimate(contrast: Contrast, decimals: int) -> str:
    """The mean of a contrast with its interval, where it has them."""
    known = contrast.difference
    if known is None:
        return NOTHING
    return with_interval(signed(known.mean, decimals), known.ci95, decimals)


def _published_texts(row: Reproduction) -> Row:
    its = row.published
    decimals = max(decimals_of([its.value], ""), 2)
    where = [cell_label(its.cell), its.metric]
    if its.epoch is not None:
        where.append(f"epoch {its.epoch}")
    if its.add:
        where.append(f"ours {signed(its.add, 2)}")
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
    interval = "" if ours.ci95 is not None else ", no interval"
    mean = with_interval(rounded(ours.mean, decimals), ours.ci95, decimals)
    return f"{mean} ({counted(ours.n, 'seed')}{interval})"


def _within(row: Reproduction, decimals: int) -> str:
    stated = row.published.within
    asked = stated if isinstance(stated, str) else f"{stated:g}"
    if row.difference is None:
        return f"±{asked}: {NOTHING}"
    word = "**yes**" if row.reproduced else "**no**"
    return f"±{asked}: {word} ({signed(row.difference, decimals)})"


def _link(text: str, url: str | None) -> str:
    if url is None:
        return escape(text)
    return f"[{escape(text)}]({quote(url, safe=':/?#@!$&+,;=%~-._')})"
