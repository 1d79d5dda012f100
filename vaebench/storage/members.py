"""Who works on a grid: any number of processes that share its runs, or one that needs all of it.

Each process that trains is a member: it holds a lease of its own below ``.work/members``. One that
measures anew, trains all anew or closes what nobody trains needs the whole grid: it holds
``.work/whole``, and nobody else may be a member. A member looks for that lease after it has taken
its own, and the other way round: of two that begin at once, at least one sees the other.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vaebench.errors import ResultsError
from vaebench.files import names_in
from vaebench.storage.holders import Holder, Judgement, Watch
from vaebench.storage.leases import FILE, WORK, Lease, Taken, forget, numbers, renewed, take

PATIENCE = 1.0  # seconds; who only looks whether somebody works there is there for a moment
NAMED = 3  # processes that a message names

Found = list[tuple[Judgement, Holder | None]]


class Held(ResultsError):
    """Another process works in a folder."""


@contextmanager
def join(
    folder: Path,
    *,
    whole: bool = False,
    waits: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Lease]:
    """Work on a grid, with others or alone, for as long as the context lasts.

    Arguments:
        folder: The grid's.
        whole: Whether all of it is needed, and nobody else may work on it.
        waits: Whether to wait, for a minute at most, until it is known whether another process of
            which nothing is known is alive; else it is taken to be.
        tell: Told for whom it waits.

    Raises:
        Held: Others are there, and live; who they are is in the message.
        ResultsError: A link stands in the way.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watch, me = Watch(), uuid.uuid4().hex
    with ExitStack() as stack:
        if whole:
            place = folder / WORK / "whole"
            mine: list[Lease] = []

            def try_it() -> Found:
                lease = take(place, folder, watch)
                if isinstance(lease, Taken):
                    return [(lease.judgement, lease.holder)]
                mine.append(lease)
                return []

            _wait(folder, try_it, waits, tell)
            stack.callback(mine[0].release, done=True)
            stack.enter_context(renewed(mine[0]))
        member = take(folder / WORK / "members" / me, folder, watch)
        assert isinstance(member, Lease)  # nobody else has that name
        stack.callback(member.release)
        stack.callback(_forget_the_dead, folder)
        stack.enter_context(renewed(member))
        found = _others if whole else _whole
        _wait(folder, lambda: found(folder, watch, me), waits, tell)
        yield member


def _forget_the_dead(folder: Path) -> None:
    """Remove what processes of this machine left that were killed, but nothing that they did.

    Of a run, that is a lease with nothing beside it: what it was for is published.
    """
    members = folder / WORK / "members"
    places = [members / name for name in names_in(members, folder)]
    with suppress(ResultsError):  # a folder that somebody else made
        for part in (folder / WORK / "runs", folder / WORK / "tuning"):
            places += [
                part / name for name in names_in(part, folder) if _is_bare(part / name, folder)
            ]
    for place in places:
        forget(place, folder)


def _is_bare(place: Path, within: Path) -> bool:
    """Whether there is nothing beside the leases of a place."""
    leases = [place / str(number) for number in numbers(place, within)]
    return all(names_in(lease, within) == [FILE] for lease in leases)


def has_others(folder: Path, member: Lease) -> bool:
    """Whether another process works on a grid, as far as is known."""
    return bool(_others(folder, Watch(), member.place.name))


def _others(folder: Path, watch: Watch, me: str) -> Found:
    """What is known of the other members."""
    place = folder / WORK / "members"
    found = [_judged(place / name, folder, watch) for name in names_in(place, folder) if name != me]
    return [each for each in found if each[0] in ("alive", "unclear")]


def _whole(folder: Path, watch: Watch, _: str) -> Found:
    """What is known of the one that needs the whole grid, if there is one."""
    found = _judged(folder / WORK / "whole", folder, watch)
    return [found] if found[0] in ("alive", "unclear") else []


def _judged(place: Path, folder: Path, watch: Watch) -> tuple[Judgement, Holder | None]:
    known = numbers(place, folder)
    return watch.judge(place / str(known[-1]) / FILE, folder) if known else ("free", None)


def _wait(
    folder: Path, find: Callable[[], Found], waits: bool, tell: Callable[[str], None]
) -> None:
    """Wait until nobody is found any more.

    Raises:
        Held: Somebody is, and lives.
    """
    until, pause, is_told = time.monotonic() + PATIENCE, 0.02, False
    while found := find():
        late = time.monotonic() > until
        if late and (not waits or any(judgement == "alive" for judgement, _ in found)):
            raise Held(_told(folder, [holder for _, holder in found if holder is not None]))
        if late and not is_told:
            who = ", ".join(str(holder or "another process") for _, holder in found[:NAMED])
            tell(f"{folder}: waits, for a minute at most, for a sign of life of {who}")
            is_told = True
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)


def _told(folder: Path, holders: list[Holder]) -> str:
    said = [f"{holder}, since {holder.when}" for holder in holders[:NAMED]]
    if len(holders) > NAMED:
        said.append(f"and {len(holders) - NAMED} more")
    who = f" ({'; '.join(said)})" if said else ""
    return f"{folder}: another vaebench works on this grid{who}; wait for it"
