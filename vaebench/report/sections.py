"""Claims, effects and published numbers as Markdown sections, with the notes that a reader needs.

Claims are plain texts first, so that LaTeX shows the same. Numbers are rounded as in the main
table. To keep a metric out of the small tables of effects, name it in :data:`REDUNDANT`.
"""

from collections.abc import Sequence
from urllib.parse import quote

from vaebench.report.cells import Cell
from vaebench.report.contrasts import Contrast
from vaebench.report.effects import Effect
from vaebench.report.loading import counted, listed
from vaebench.report.markup import Row, bullets, escape, folded, grid_lines, section
from vaebench.report.numbers import (
    NOTHING,
    decimals_of,
    p_text,
    p_value,
    rounded,
    signed,
    with_interval,
)
from vaebench.report.published import Reproduction
from vaebench.report.tables import axis_text
from vaebench.schema.labels import cell_label
from vaebench.statistics import Summary

EFFECT_HEADINGS = (
    *("Metric", "Effect", "Difference", "Rate (nats)", "d_z"),
    *("p", "p (Holm)", "Pairs", "Seeds"),
)
_ESTIMATES = (2, 3, 4)  # which may begin with a sign, and need no escape
# they say in other units what ELBO and PSNR say
REDUNDANT = ("test/distortion", "test/mse_px", "test/mae_px")


def effects_section(found: Sequence[Effect], cells: Sequence[Cell]) -> list[str]:
    """The effects of these cells; nothing where no axis has two values, or no run is complete."""
    shown = [effect for effect in found if effect.column.metric not in REDUNDANT]
    if not shown:
        return []
    tables = []
    for columns in _tables(shown):
        headings = [
            "Effect",
            *(escape(in_stratum(its[0].column.heading, its[0])) for its in columns),
        ]
        rows = [[escape(same[0].name), *map(_entry, same)] for same in zip(*columns, strict=True)]
        beside = [effects for effects in columns if any(e.rate is not None for e in effects)]
        for row, effect in zip(rows, beside[0] if beside else (), strict=False):
            row.append(rate_text(effect))
        headings += ["Rate (nats)"] * bool(beside)
        tables.append(grid_lines(headings, rows, right=range(1, len(headings))))
    notes = bullets([*_effect_notes(shown), *_losses(shown, cells)])
    return section("Effects of the axes", *tables, notes, _all_numbers(shown))


def _tables(shown: Sequence[Effect]) -> list[list[list[Effect]]]:
    """Columns of effects (a metric, within a loss where it must be) that have the same rows."""
    columns: dict[str, list[Effect]] = {}
    for effect in shown:
        columns.setdefault(f"{effect.column.metric} {effect.within}", []).append(effect)
    tables: dict[tuple[str, ...], list[list[Effect]]] = {}
    for column in columns.values():
        tables.setdefault(tuple(effect.name for effect in column), []).append(column)
    return list(tables.values())


def in_stratum(text: str, effect: Effect) -> str:
    """A text with what all cells of an effect share by which its metric does not compare."""
    return f"{text}, {effect.where}" if effect.where else text


def _entry(effect: Effect) -> str:
    text, its = estimate(effect.contrast, effect.column.decimals), effect.adjusted
    if its.p is None or its.out_of_reach:
        return text
    text = f"{text}<br>{escape(f'p {p_text(its.p)}')}"
    return f"**{text}**" if its.significant else text


def _effect_notes(shown: Sequence[Effect]) -> list[str]:
    """What a reader must know of the small tables."""
    about = "An effect is one contrast per seed, over the same seeds, averaged over the other axes"
    if any(len(effect.contrast.values) > 1 for effect in shown):
        about += "; ± is the half width of its 95 % Student-t interval over seeds"
    about += "."
    if beside := dict.fromkeys(e.column.title for e in shown if e.rate is not None):
        about += (
            f" Beside {listed(beside)} stands the same contrast of the rate: more information in "
            "the code makes better pictures."
        )
    if any(effect.kind == "interaction" for effect in shown):
        about += (
            " (a - b) × (c - d) is an interaction: a - b where the other axis is c, less a - b "
            "where it is d."
        )
    notes = [about, *_test_notes(shown)]
    within = list(dict.fromkeys(effect.column.title for effect in shown if effect.within))
    if within:
        notes.append(
            f"{', '.join(within)}: only between rows whose bounds compare: densities of the same "
            "pixels, or one relaxed loss."
        )
    alone = {effect.name: effect.contrast for effect in shown if effect.contrast.alone}
    notes += [
        f"{name}: averaged over {counted(its.blocks, 'pair')}; {counted(its.alone, 'cell')} "
        f"without a partner in the grid left out."
        for name, its in alone.items()
    ]
    reasons = dict.fromkeys(e.contrast.reason for e in shown if e.contrast.reason is not None)
    return notes + [f"{NOTHING} where there is no number: {reason}." for reason in reasons]


def _losses(shown: Sequence[Effect], cells: Sequence[Cell]) -> list[str]:
    """Which losses are compared: at another variance the answer may be another."""
    if not any("loss" in effect.axes for effect in shown):
        return []
    losses = dict.fromkeys(axis_text("loss", cell) for cell in cells if "loss" in cell.cell)
    return [f"The losses compared are {', '.join(losses)}: what is said of them holds there."]


def _test_notes(shown: Sequence[Effect]) -> list[str]:
    """How the effects were tested, or why they could not be."""
    notes = []
    if any(len(effect.contrast.values) == 1 for effect in shown):
        notes.append("One seed: no interval, and nothing can be tested.")
    tested = [effect for effect in shown if effect.adjusted.p is not None]
    within_reach = [effect for effect in tested if not effect.adjusted.out_of_reach]
    if within_reach:
        notes.append(
            "p: exact paired sign-flip test, two-sided, adjusted by Holm over all contrasts of one "
            f"metric ({_families(within_reach)}). Bold: p below 0.05."
        )
    lost: dict[tuple[int, float], list[Effect]] = {}
    for effect in tested:
        its, n = effect.adjusted, len(effect.contrast.values)
        if its.smallest is not None and its.out_of_reach:
            lost.setdefault((n, its.smallest), []).append(effect)
    return notes + [
        f"Significance cannot be reached with {counted(n, 'seed')}: the smallest p that the "
        f"sign-flip test can give, adjusted by Holm ({_families(them)}), is {least:.3g}."
        for (n, least), them in lost.items()
    ]


def _families(tested: Sequence[Effect]) -> str:
    """The size of each metric's family: ``6 contrasts of ELBO, SSIM``."""
    sizes: dict[int, dict[str, None]] = {}
    for effect in tested:
        sizes.setdefault(effect.adjusted.size, {})[effect.column.title] = None
    return "; ".join(
        f"{counted(n, 'contrast')} of {', '.join(titles)}" for n, titles in sizes.items()
    )


def effect_texts(effect: Effect) -> tuple[str, ...]:
    """An effect as plain texts, under :data:`EFFECT_HEADINGS`."""
    known = effect.contrast.difference
    numbers = (NOTHING,) * 5
    if known is not None:
        ps = p_value(known.p), p_value(effect.adjusted.p)
        numbers = (_effect_size(effect.contrast), *ps, str(effect.contrast.blocks), str(known.n))
    estimated = estimate(effect.contrast, effect.column.decimals)
    title = in_stratum(effect.column.title, effect)
    return title, effect.name, estimated, rate_text(effect), *numbers


def rate_text(effect: Effect) -> str:
    """What the rate does where SSIM or PSNR changes; a dash beside other metrics."""
    return NOTHING if effect.rate is None else signed(effect.rate, 2)


def _all_numbers(shown: Sequence[Effect]) -> list[str]:
    rows = [
        [text if i in _ESTIMATES else escape(text) for i, text in enumerate(effect_texts(effect))]
        for effect in shown
    ]
    return folded(
        "effect sizes, p values before and after Holm, pairs of cells",
        grid_lines([escape(heading) for heading in EFFECT_HEADINGS], rows, right=range(2, 9)),
    )


def published_section(rows: Sequence[Reproduction]) -> list[str]:
    """Published numbers beside ours; nothing where the grid names none."""
    if not rows:
        return []
    headings = ["Source", "Setting", "Published", "Ours", "Within"]
    note = (
        "Ours: mean over seeds ± the half width of its 95 % Student-t interval. Within: yes where "
        "ours - published lies within the tolerance by two one-sided t tests, no where it lies "
        "beyond it, else inconclusive; fewer than three seeds give no verdict. Exact values are "
        "computed from a closed form, not published."
    )
    table = grid_lines(headings, [_published_texts(row) for row in rows], right=(2, 3))
    return section("Published numbers", table, bullets([note]))


def estimate(contrast: Contrast, decimals: int) -> str:
    """The mean of a contrast with its interval, where it has them."""
    known = contrast.difference
    if known is None:
        return NOTHING
    return with_interval(signed(known.mean, decimals), known.ci95, decimals)


def _effect_size(contrast: Contrast) -> str:
    size = contrast.difference.effect_size if contrast.difference else None
    return NOTHING if size is None else signed(size, 1)


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
    interval = "" if ours.ci95 is not None else ", no interval"
    mean = with_interval(rounded(ours.mean, decimals), ours.ci95, decimals)
    return f"{mean} ({counted(ours.n, 'seed')}{interval})"


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
