"""What reads a results folder, and what may come of it when a part of that is hostile."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile.places import Place
from vaebench.cli.output import echo

Words = tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A command line, or a call from Python.

    Attributes:
        name: For the summary.
        do: Does it; the exit code of a command line, 0 or 1 of a call.
        codes: Exit codes that are documented for it.
        reads: Whether it changes nothing in the results folder.
        slow: Whether it draws, or needs PyTorch or MLflow, which take seconds.
        serves: Whether it does all grids, and what it then says of the one that is whole.
    """

    name: str
    do: Callable[[Place], int]
    codes: tuple[int, ...] = (0, 1)
    reads: bool = True
    slow: bool = False
    serves: str | None = None


def line(*words: str, **more: Any) -> Command:
    """A command line; RES, BAD, GOOD, RUN, OUT and FILE stand for paths."""

    def do(place: Place) -> int:
        from vaebench.cli import main

        paths = {
            "RES": place.results,
            "BAD": place.bad,
            "GOOD": place.good,
            "RUN": place.victim,
            "OUT": place.out,
            "FILE": place.file,
        }
        given = [
            str(paths[first] / rest if rest else paths[first]) if first in paths else word
            for word in words
            for first, _, rest in [word.partition("/")]
        ]
        try:
            main.main(given, prog_name="vaebench")
        except SystemExit as exit_:
            return exit_.code if isinstance(exit_.code, int) else int(bool(exit_.code))
        return 0

    return Command(" ".join(words), do, **more)


def call(name: str, do: Callable[[Place], object], **more: Any) -> Command:
    """A call from Python: what vaebench raises on purpose is its way to refuse."""

    def caught(place: Place) -> int:
        from vaebench.errors import VaebenchError

        try:
            do(place)
        except VaebenchError as error:
            echo(f"Error: {error}")
            return 1
        return 0

    return Command(name, caught, **more)


def _load_results(place: Place) -> None:
    import vaebench

    echo(repr(vaebench.load_results(place.bad)))


def _load_run(place: Place) -> None:
    import vaebench

    vaebench.load_run(place.victim)


def _end(place: Place) -> None:
    """What a grid does at its end: its reports, and the picture that compares its cells."""
    from vaebench.grid.folder import write_reports

    with suppress(IsADirectoryError):  # which the command line says in a line
        write_reports(place.bad)


def _ui(place: Place) -> None:
    """All of `ui` but the server, which is MLflow's."""
    from vaebench.tracking import server

    real = server._start, server._wait
    server._start = lambda *_: nullcontext()  # type: ignore[assignment, return-value]
    server._wait = lambda *_: None
    try:
        with server.serve(place.results, say=echo) as served:
            echo(f"links to {', '.join(served.links)}")
    finally:
        server._start, server._wait = real


def _sync(place: Place) -> None:
    from vaebench.tracking import sync_all

    sync_all(place.results, None, echo)


COMMANDS = (
    line("status", "RES", serves="good: {n} of {n} runs complete"),
    line("status", "RES", "--json", serves='"name": "good"'),
    line("report", "BAD", "--format", "md"),
    line("report", "BAD", "--format", "csv"),
    line("report", "BAD", "--format", "json"),
    line("report", "BAD", "--format", "latex"),
    line("report", "BAD", "--output", "OUT/report.md"),
    line("report", "BAD", "--format", "html", "--output", "OUT/report.html"),
    line("export", "BAD", "--output", "OUT/bad.zip"),
    line("merge", "BAD", "--into", "OUT/merged"),
    line("compare", "GOOD", "BAD", codes=(0, 1, 3)),
    line("compare", "BAD", "GOOD", "--json", codes=(0, 1, 3)),
    call("load_results(BAD)", _load_results),
    line("run-grid", "FILE", "--results", "RES", "--device", "cpu", "--dry-run", codes=(0, 1, 2)),
    line("figures", "BAD", "--output", "OUT/paper", slow=True),
    call("write_reports(BAD)", _end, reads=False),
    call("load_run(RUN)", _load_run, slow=True),
    line("evaluate", "BAD", "--jobs", "1", "--device", "cpu", codes=(0, 1, 2), slow=True),
    line("repeat", "RUN", "--device", "cpu", codes=(0, 1, 2, 3), slow=True),
    call("sync(RES)", _sync, reads=False, slow=True, serves="good: {n} runs are shown"),
    call("ui(RES)", _ui, reads=False, slow=True, serves="good"),
    line(
        *("run-grid", "FILE", "--results", "RES", "--device", "cpu", "--jobs", "1"),
        codes=(0, 1, 2),
        reads=False,
        slow=True,
    ),
)


def outputs(folder: Path) -> list[Path]:
    """Reports and pictures that a command wrote, but for what `merge` copied."""
    kinds = (".md", ".csv", ".json", ".tex", ".html", ".png")
    return [
        path
        for path in folder.rglob("*")
        if path.suffix in kinds and path.is_file() and "merged" not in path.parts
    ]
