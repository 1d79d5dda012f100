"""Forked processes: their streams, their end, and that of their template, without PyTorch."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaebench import forking
from vaebench.forking import GONE, Forked, Template

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has templates")

TEMPLATE = """
import os, signal, sys
from vaebench.forking import serve

def do(file):
    os.write(file, os.environ["SAYS"].encode())
    for line in sys.stdin.buffer:
        print(os.getcwd(), os.getpgid(0) == os.getpid(), flush=True)
        if line == b"fail\\n":
            raise ValueError("planted")
        if line == b"die\\n":
            os.kill(os.getpid(), signal.SIGTERM)

serve(int(sys.argv[1]), do)
"""
COMMAND = [sys.executable, "-c", TEMPLATE]


@pytest.fixture
def template() -> Iterator[Template]:
    made = Template(COMMAND, os.environ)
    yield made
    made.end()


def fork(template: Template, says: str = "") -> tuple[Forked, str]:
    """A process, and what it wrote to its file when it has begun."""
    with tempfile.TemporaryFile() as file:
        forked = template.fork({**os.environ, "SAYS": says}, file.fileno())
        assert forked is not None
        tell(forked, "begin")
        file.seek(0)
        return forked, file.read().decode()


def tell(forked: Forked, word: str) -> str:
    forked.stdin.write(f"{word}\n".encode())
    forked.stdin.flush()
    return forked.stdout.readline().decode()


def close(forked: Forked) -> None:
    for stream in (forked.stdin, forked.stdout, forked.stderr):
        stream.close()


def test_processes_have_streams_an_environment_a_folder_and_a_group_of_their_own(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, said = fork(template, "one")
    monkeypatch.chdir(tmp_path)
    second, also = fork(template, "two")
    assert (said, also) == ("one", "two")
    assert first.pid != second.pid
    assert tell(second, "go") == f"{tmp_path} True\n"
    first.stdin.close()  # which the second must not keep open
    assert first.wait(20) == 0
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0)
    second.kill()
    assert second.wait(20) == -signal.SIGKILL
    second.kill()  # it has ended: nothing
    close(first)
    close(second)


def test_how_a_process_ends_is_told_with_its_traceback(template: Template) -> None:
    failing, _ = fork(template)
    dying, _ = fork(template)
    tell(failing, "fail")
    tell(dying, "die")
    assert (failing.wait(20), dying.wait(20)) == (1, -signal.SIGTERM)
    assert failing.stderr.read().endswith(b"ValueError: planted\n")
    assert failing.wait() == 1, "what was told is kept"
    close(failing)
    close(dying)


def test_a_process_outlives_its_template_and_can_be_killed(template: Template) -> None:
    orphan, _ = fork(template)
    template.end()
    assert tell(orphan, "go").endswith(" True\n")
    assert orphan.wait(20) == GONE
    orphan.kill()
    assert orphan.stdout.read() == b"", "it has ended"
    assert template.fork(os.environ, 2) is None
    close(orphan)


def test_a_template_that_cannot_begin_forks_nothing() -> None:
    template = Template(["/bin/false"], os.environ)
    assert template.fork(os.environ, 2) is None
    template.end()


def test_a_template_is_kept_until_it_ends_or_python_is_to_begin_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forking, "worker_command", lambda: tuple(COMMAND))
    first = forking.begin()
    try:
        assert forking.begin() is first is not None
        monkeypatch.setenv("PYTHONHASHSEED", "7")
        second = forking.begin()
        assert second is not first
        assert first.fork(os.environ, 2) is None, "it has ended"
    finally:
        forking.end()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert forking.begin() is None
