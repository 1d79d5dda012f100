"""The answer of a grid in a few lines: its claims, what leads, what the axes do.

Everything is text, escaped by the template.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vaebench.report.cells import Cell
from vaebench.report.claims import REFUTED, SUPPORTED, Judged
from vaebench.report.claims_section import claim_texts
from vaebench.report.contrasts import Contrast
from vaebench.report.effects import Effect
from vaebench.report.leads import CLEARLY, leads
from vaebench.report.loading import counted
from vaebench.report.numbers import (
    NOTHING,
    decimals_of,
    p_text,
    rounded,
    with_interval,
)
from vaebench.report.published import Reproduction
from vaebench.report.sections import estimate, in_stratum, rate_text
from vaebench.report.tables import Column, Table, sets_apart
from vaebench.schema.labels import cell_label

_REPRODUCED = {
    "yes": ("reproduced", "good"),
    "no": ("not reproduced", "bad"),
    "inconclusive": ("inconclusive", "open"),
    None: ("no verdict", "open"),
}
HEADLINES = ("test/elbo", "test/log_px", "test/psnr", "test/ssim")
WIDTH = 160  # of an interval's picture
EQUAL_RATE = 0.5  # nats: a wider gap is called unequal
UNTESTED = "one seed: cannot be tested"


@dataclass(frozen=True)
class Answer:
    """One line: what is said, in a word how sure that is, and the numbers.

    Attributes:
        what: The claim, or the pair that is compared.
        metric: The metric's title, and what the cells share.
        word: The verdict.
        tone: ``good``, ``bad`` or ``open``, for its colour.
        numbers: Difference with its interval.
        evidence: What the verdict rests on.
        bar: Low, middle and high in the picture of the interval; None without.
    """

    what: str
    metric: str
    word: str
    tone: str
    numbers: str
    evidence: str
    bar: tuple[float, float, float] | None = None


def of_claims(found: Sequence[Judged]) -> list[Answer]:
    """The verdicts on what the grid claims."""
    return [_claim(judged) for judged in found]


def _claim(judged: Judged) -> Answer:
    tests, known = judged.tests, judged.contrast.difference
    said = [f"at {', '.join(judged.conditions)}" if judged.conditions else "", judged.reason]
    if known is not None:
        said.append(counted(known.n, "seed"))
    if tests is not None:
        blocks = counted(len(tests.blocks), "block")
        said += [blocks, f"p {p_text(tests.p_holm)} (Holm)"]
    return Answer(
        what=judged.claim.name,
        metric=f"{judged.column.title}: {judged.sides}",
        word=judged.verdict,
        tone={SUPPORTED: "good", REFUTED: "bad"}.get(judged.verdict, "open"),
        numbers=f"{claim_texts(judged)[3]} {judged.column.unit}".strip() if known else "",
        evidence="; ".join(filter(None, said)),
    )


def of_effects(found: Sequence[Effect], claimed: Sequence[Judged]) -> list[Answer]:
    """What each axis does by the headline metrics, averaged over the other axes.

    A contrast that is claimed as well has its verdict there, in the claims' family, and is left
    out here: two p values of one difference would only be confusing.
    """
    stated = [(its.column.metric, its.contrast.values) for its in claimed if its.tests is not None]
    stated += [(metric, tuple(-value for value in values)) for metric, values in stated]
    shown = [
        effect
        for effect in found
        if effect.kind == "factor"
        and effect.column.metric in HEADLINES
        and (effect.column.metric, effect.contrast.values) not in stated
    ]
    reach: dict[tuple[str, str], float] = {}
    for effect in shown:
        known = effect.contrast.difference
        if known is not None:
            most = abs(known.mean) + (known.ci95 or 0.0)
            reach[_scale(effect)] = max(reach.get(_scale(effect), 0.0), most)
    return [_effect(effect, reach.get(_scale(effect)) or 1.0) for effect in shown]


def _scale(effect: Effect) -> tuple[str, str]:
    """Which effects are drawn on one scale: those of a metric among cells that compare."""
    return effect.column.metric, effect.where


def in_short(claims: Sequence[Judged]) -> str:
    """``3 claims: 2 supported, 1 refuted``; empty where there is none."""
    counts = Counter(judged.verdict for judged in claims)
    said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    return f"{counted(len(claims), 'claim')}: {said}" if said else ""


def of_published(row: Reproduction) -> Answer:
    """A published number beside ours."""
    its = row.published
    decimals = max(decimals_of([its.value], ""), 2)
    word, tone = _REPRODUCED[row.reproduced]
    ours = row.reason or NOTHING
    if row.ours is not None and row.ours.mean is not None:
        ours = with_interval(rounded(row.ours.mean, decimals), row.ours.ci95, decimals)
    when = "" if its.epoch is None else f", epoch {its.epoch}"
    return Answer(
        what=its.source,
        metric=f"{cell_label(its.cell)}, {its.metric}{when}",
        word=word,
        tone=tone,
        numbers=f"published {rounded(its.value, decimals)}, ours {ours}",
        evidence=f"within ±{its.within}" + (f"; {its.url}" if its.url else ""),
    )


def _effect(effect: Effect, reach: float) -> Answer:
    known, its, column = effect.contrast.difference, effect.adjusted, effect.column
    bar = None
    if known is None:
        word, tone = effect.contrast.reason or "no number", "open"
    else:
        ends = [known.mean - (known.ci95 or 0.0), known.mean, known.mean + (known.ci95 or 0.0)]
        low, middle, high = (round(WIDTH * (0.5 + 0.46 * x / reach), 1) for x in ends)
        bar = (low, middle, high)
        if known.n == 1:
            word, tone = UNTESTED, "open"
        elif its.out_of_reach:
            word, tone = f"{counted(known.n, 'seed')}: too few to tell", "open"
        elif not its.significant:
            word, tone = "no difference shown", "open"
        else:
            first, _, second = effect.name.partition(" - ")
            better = (known.mean > 0) == (column.direction == "higher")
            word, tone = f"{first if better else second} is better", "good"
    return Answer(
        what=effect.name,
        metric=in_stratum(column.title, effect),
        word=word,
        tone=tone,
        numbers=_estimate(effect.contrast, column),
        evidence="; ".join([*_evidence(effect.contrast, its.p, "Holm"), *_rate_beside(effect)]),
        bar=bar,
    )


def _rate_beside(effect: Effect) -> list[str]:
    return [] if effect.rate is None else [f"rate {rate_text(effect)} nats"]


def leaders(table: Table, cells: Sequence[Cell]) -> list[Answer]:
    """The best cell by each headline metric among those it compares with, and the next."""
    return [
        answer
        for column in table.columns
        if column.metric in HEADLINES and column.direction is not None
        for answer in _leaders(column, cells)
    ]


def _leaders(column: Column, cells: Sequence[Cell]) -> Iterator[Answer]:
    def mean(cell: Cell) -> float | None:
        summary = cell.summaries.get(column.metric)
        return None if summary is None else summary.mean

    groups = {cell.key(column.comparable) for cell in cells if mean(cell) is not None} - {None}
    for lead in leads(cells, column.metric, column.comparable, str(column.direction), mean):
        first, second, contrast = lead.first, lead.second, lead.contrast
        shared = sets_apart(lead.group, cells)
        title = f"{column.title} in {shared}" if len(groups) > 1 and shared else column.title
        over = f"over {cell_label(second.cell)}{_rates(first, second)}"
        p = None if contrast.difference is None else contrast.difference.p
        yield Answer(
            what=cell_label(first.cell),
            metric=f"{title}: {rounded(lead.score, column.decimals)} {column.unit}".strip(),
            word=lead.word,
            tone="good" if lead.word == CLEARLY else "open",
            numbers=f"{_estimate(contrast, column)} {over}",
            evidence="; ".join(_evidence(contrast, p, "")),
        )


def _rates(first: Cell, second: Cell) -> str:
    """At which rates two cells reconstruct: more information makes better pictures."""
    summaries = [cell.summaries.get("test/rate") for cell in (first, second)]
    known = [s.mean for s in summaries if s is not None and s.mean is not None]
    if len(known) < 2:
        return ""
    unequal = "unequal " if abs(known[0] - known[1]) > EQUAL_RATE else ""
    return f", at {unequal}rates of {known[0]:.1f} and {known[1]:.1f} nats"


def _estimate(contrast: Contrast, column: Column) -> str:
    if contrast.difference is None:
        return ""
    return f"{estimate(contrast, column.decimals)} {column.unit}".strip()


def _evidence(contrast: Contrast, p: float | None, adjusted: str) -> list[str]:
    known = contrast.difference
    if known is None:
        return []
    said = [counted(known.n, "seed")]
    if contrast.blocks > 1:
        said.append(f"{contrast.blocks} pairs of cells")
    if p is not None and known.n > 1:
        said.append(f"p {p_text(p)}{f' ({adjusted})' if adjusted else ''}")
    return said
