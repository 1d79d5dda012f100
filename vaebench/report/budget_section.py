"""Score over budget in the report: the figure, and a table of who leads when."""

from vaebench.report.budget import CPU, Budget, Leader
from vaebench.report.leads import WITHIN, Lead
from vaebench.report.loading import listed
from vaebench.report.markup import Row, bullets, escape, folded, grid_lines, section
from vaebench.report.numbers import rounded
from vaebench.schema.labels import cell_label
from vaebench.schema.record import optimises_elbo

TITLE = "Score over budget"
MAX_NAMED = 3  # cells that a row names beside the leader
_HEADINGS = ("Budget", "Leads", "Validation ELBO", "Lead", "Over", "Verdict")


def budget_section(budget: Budget, figure: list[str]) -> list[str]:
    """The scores over what was spent; nothing where no run has two epochs of them.

    Arguments:
        budget: Whose table it is.
        figure: The lines of the figure; none where it was not drawn.
    """
    if not budget.groups or not (figure or budget.leaders):
        return []
    table: list[str] = []
    if budget.leaders:
        rows, before = [], None
        for its in budget.leaders:
            among = "" if its.among == before else escape(its.among)
            rows.append([among, *_row(its)])
            before = its.among
        headings = ["Among", *_HEADINGS]
        if not any(its.among for its in budget.leaders):
            headings, rows = headings[1:], [row[1:] for row in rows]
        right = [headings.index(name) for name in ("Budget", "Validation ELBO", "Lead")]
        table = folded("who leads at which budget", grid_lines(headings, rows, right=right))
    return section(TITLE, figure, table, bullets(budget_notes(budget)))


def _row(leader: Leader) -> Row:
    lead = leader.lead
    unit = leader.unit.removesuffix("s") if leader.spent == 1 else leader.unit
    return (
        f"{leader.spent:.3g} {unit}",
        escape(cell_label(lead.first.cell)),
        rounded(lead.score, 2),  # numbers need no escape
        rounded(lead.by, 2),
        escape(cell_label(lead.second.cell)),
        escape(_verdict(lead)),
    )


def _verdict(lead: Lead) -> str:
    """What the seeds say of a lead; cells that are not clearly behind are named."""
    known = lead.contrast.difference
    close = [cell_label(cell.cell) for cell in lead.close]
    if known is None or known.n == 1 or not close:
        return lead.word
    more = [f"{len(close) - MAX_NAMED} more"] if len(close) > MAX_NAMED else []
    return f"{WITHIN} of {listed([*close[:MAX_NAMED], *more])}"


def budget_notes(budget: Budget) -> list[str]:
    """What a reader must know of the figure and the table."""
    notes = [
        "Validation ELBO in nats per image after each epoch, one draw per image. Line: median over "
        "seeds; band: from the lowest to the highest seed, of five or more the middle half."
    ]
    if budget.leaders:
        notes.append(
            "Lead: difference of the medians of the best two. It leads clearly where the 95 % "
            "Student-t interval of the differences seed by seed lies above zero, unadjusted; the "
            "cells of which this cannot be said are named. It describes; the claims' tests decide."
        )
        shown = [its.cell for group in budget.groups.values() for its in group]
        others = [cell_label(c.cell) for c in shown if not all(map(optimises_elbo, c.records))]
        if others:
            notes.append(f"Not ranked, as they train for another bound: {listed(others)}.")
    notes += [
        f"{listed(names)} compare, but lie further apart than either moves in training, and have "
        f"panels of their own: {names[-1]} is ahead at every budget."
        for names in budget.apart
    ]
    if budget.clock is None:
        notes.append("Seconds are left out: costs compare on one kind of machine alone.")
    else:
        what = "CPU time, which other load hardly moves" if budget.clock == CPU[0] else "time"
        notes.append(
            f"{budget.clock}: epochs times the median over seeds of the {what}, of an epoch's "
            "training steps, validation left out. A page's curves show what the clock said."
        )
    if any(its.stops for group in budget.groups.values() for its in group):
        notes.append("A run that stopped early keeps its last score.")
    return notes
