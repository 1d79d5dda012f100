"""Effects as a Markdown section: small tables with a column per metric, and all numbers in a fold.

To keep a metric out of the small tables, name it in :data:`REDUNDANT`.
"""

from collections.abc import Sequence

from vaebench.report.cells import Cell
from vaebench.report.effects import Effect
from vaebench.report.loading import counted
from vaebench.report.markup import NOTHING, Row, bullets, escape, folded, grid_lines
from vaebench.report.numbers import p_text, signed
from vaebench.report.sections import estimate
from vaebench.report.tables import axis_text

# they say in other units what ELBO and PSNR say
REDUNDANT = ("test/distortion", "test/mse_px", "test/mae_px")


def effects_section(found: Sequence[Effect], cells: Sequence[Cell]) -> list[str]:
    """The effects of these cells; nothing where no axis has two values, or no run is complete."""
    shown = [effect for effect in found if effect.column.metric not in REDUNDANT]
    if not shown:
        return []
    lines = ["## Effects of the axes", ""]
    for columns in _tables(shown):
        headings = ["Effect", *(_heading(column[0]) for column in columns)]
        rows: list[Row] = [
            [escape(effect.name), *(_entry(column[i]) for column in columns)]
            for i, effect in enumerate(columns[0])
        ]
        lines += [*grid_lines(headings, rows, right=range(1, len(headings))), ""]
    return [*lines, *bullets([*_notes(shown), *_losses(shown, cells)]), "", *_fold(shown)]


def _tables(shown: Sequence[Effect]) -> list[list[list[Effect]]]:
    """Columns of effects (a metric, within a loss where it must be) that have the same rows."""
    columns: dict[str, list[Effect]] = {}
    for effect in shown:
        columns.setdefault(f"{effect.column.metric} {effect.within}", []).append(effect)
    tables: dict[tuple[str, ...], list[list[Effect]]] = {}
    for column in columns.values():
        tables.setdefault(tuple(effect.name for effect in column), []).append(column)
    return list(tables.values())


def _heading(effect: Effect) -> str:
    within = _within(effect)
    heading = escape(effect.column.heading)
    return f"{heading}, {escape(within)}" if within else heading


def _within(effect: Effect) -> str:
    return " / ".join(axis_text(axis, effect.stratum) for axis in effect.within)


def _entry(effect: Effect) -> str:
    text, its = estimate(effect.contrast, effect.column.decimals), effect.adjusted
    if its.p is None or its.out_of_reach:
        return text
    text = f"{text}<br>{escape(f'p {p_text(its.p)}')}"
    return f"**{text}**" if its.significant else text


def _notes(shown: Sequence[Effect]) -> list[str]:
    """What a reader must know of the small tables."""
    about = "An effect is one contrast per seed, over the same seeds, averaged over the other axes"
    if any(len(effect.contrast.values) > 1 for effect in shown):
        about += "; ± is the half width of its 95 % Student-t interval over seeds"
    about += "."
    if any(effect.kind == "interaction" for effect in shown):
        about += (
            " (a - b) × (c - d) is an interaction: a - b where the other axis is c, less a - b "
            "where it is d."
        )
    notes = [about, *_test_notes(shown)]
    within = list(dict.fromkeys(effect.column.title for effect in shown if effect.within))
    if within:
        notes.append(f"{', '.join(within)}: loss by loss, as different losses are not comparable.")
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
        if effect.adjusted.smallest is not None and effect.adjusted.out_of_reach:
            lost.setdefault((len(effect.contrast.values), effect.adjusted.smallest), []).append(
                effect
            )
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


def _fold(shown: Sequence[Effect]) -> list[str]:
    headings = ["Metric", "Effect", "Difference", "d_z", "p", "p (Holm)", "Pairs", "Seeds"]
    rows: list[Row] = []
    for effect in shown:
        known, its, metric = effect.contrast.difference, effect.adjusted, effect.column.title
        numbers = [NOTHING] * 5
        if known is not None:
            ps = [
                p_text(p).removeprefix("= ") if p is not None else NOTHING for p in (known.p, its.p)
            ]
            size = NOTHING if known.effect_size is None else signed(known.effect_size, 1)
            numbers = [size, *map(escape, ps), str(effect.contrast.blocks), str(known.n)]
        within = _within(effect)
        rows.append(
            [
                escape(f"{metric}, {within}" if within else metric),
                escape(effect.name),
                estimate(effect.contrast, effect.column.decimals),
                *numbers,
            ]
        )
    return folded(
        "effect sizes, p values before and after Holm, pairs of cells",
        grid_lines([escape(heading) for heading in headings], rows, right=range(2, 8)),
    )
