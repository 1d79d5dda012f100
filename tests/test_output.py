"""What commands print: nothing that steers a terminal, and an error that names a full output."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
from records import edit_manifest, make_results

from vaebench.cli.output import echo
from vaebench.cli.progress import Progress
from vaebench.cli.screen import Screen
from vaebench.errors import OutputError

STEERING = "a\x1b[2J\x9b31m\u202eb\u2066\r\x00"
HARMLESS = "a\ufffd[2J\ufffd31m\ufffdb\ufffd\ufffd\ufffd"
FULL = Path("/dev/full")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def test_nothing_that_steers_a_terminal_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    echo(STEERING)
    echo(STEERING, err=True)
    Screen(width=100).print(STEERING, "[red]x[/]")
    out, err = capsys.readouterr()
    assert out.splitlines() == [HARMLESS, f"{HARMLESS} [red]x[/]"]
    assert err == f"{HARMLESS}\n"


@pytest.fixture
def full() -> Iterator[IO[str]]:
    file = FULL.open("w", encoding="utf-8")
    yield file
    with suppress(OSError):  # what it still holds is lost
        file.close()


def speak(full: IO[str], end: type[BaseException] | None = None) -> None:
    with Progress(Screen(file=full)) as progress:
        for _ in range(3):
            progress.warning("this cannot be read")  # and is no error yet
        if end:
            raise end


@needs_full
def test_what_trains_goes_on_where_nothing_can_be_printed(full: IO[str]) -> None:
    with pytest.raises(OutputError, match="standard output cannot be written: No space left"):
        speak(full)


@needs_full
def test_an_interrupt_is_not_hidden_by_an_output_that_is_full(full: IO[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        speak(full, KeyboardInterrupt)


@needs_full
@pytest.mark.parametrize("command", [["status"], ["report", "--format", "csv"]])
def test_an_output_that_is_full_is_named(tmp_path: Path, command: list[str]) -> None:
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, seeds=[0])
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vaebench", command[0], str(grid), *command[1:]],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": ""},
        )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: the standard output cannot be written: No space left on device\n"
    )


def test_names_of_a_manifest_do_not_steer_a_terminal(tmp_path: Path) -> None:
    grid = make_results(tmp_path, axes={"model": ["fnn"]}, seeds=[0])
    edit_manifest(grid, name=f"n{STEERING}")
    done = subprocess.run(
        [sys.executable, "-m", "vaebench", "status", str(grid)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(done.stdout) & set(STEERING.replace("a", "").replace("b", "")) - set("[2J31m")
    assert "\ufffd[2J" in done.stdout
