"""Processes that begin with their imports done: forked from a template that did them once.

Importing what a run needs takes longer than most small runs. A template is a process that imports
and then waits; each request carries the streams of a new process, which it forks. Only on Linux:
elsewhere, and where a template cannot begin or is gone, there is none, and a process is started as
any other. A template ends with the process that started it.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

GONE = -signal.SIGKILL  # what is said of a process whose template was killed before it


class Forked:
    """A forked process, as much of :class:`subprocess.Popen` as a worker's parent needs.

    Attributes:
        pid: Its process, a child of the template.
        stdin: Where it reads.
        stdout: What it writes.
        stderr: What it writes to standard error.
    """

    def __init__(self, pid: int, stdin: int, stdout: int, stderr: int, status: int) -> None:
        self.pid = pid
        self.stdin = os.fdopen(stdin, "wb")
        self.stdout = os.fdopen(stdout, "rb")
        self.stderr = os.fdopen(stderr, "rb")
        self._status = os.fdopen(status, "rb")
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; how it did, as :class:`subprocess.Popen` says it.

        Raises:
            subprocess.TimeoutExpired: It has not ended after so many seconds.
        """
        if self._code is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
            with self._status:
                self._code = int(self._status.read() or GONE)
        return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        if self._code in (None, GONE):  # without its template it may still run
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)


class Template:
    """A process that imports what others need, and forks them.

    Arguments:
        command: Starts it, with one more argument: the file descriptor for :func:`serve`.
        environment: Its environment.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._socket, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self._process = subprocess.Popen(
                [*command, str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what it cannot import, nobody can: they tell
                env=environment,
                pass_fds=[there.fileno()],
                process_group=0,
            )

    def fork(self, environment: Mapping[str, str], file: int) -> Forked | None:
        """A new process, once everything is imported; None: the template is gone.

        Arguments:
            environment: That of the process, besides what Python and its libraries have read.
            file: A file descriptor that its function is given.
        """
        request = json.dumps([dict(environment), str(Path.cwd())]).encode()
        with ExitStack() as mine, ExitStack() as its:
            read, write = zip(*(_pipe(mine, its, to_it=i == 0) for i in range(4)), strict=True)
            given = [read[0], *write[1:], file]
            try:
                socket.send_fds(self._socket, [request], given)
                pid = int(self._socket.recv(20))
            except (OSError, ValueError):
                return None
            mine.pop_all()
            return Forked(pid, write[0], *read[1:])

    def end(self) -> None:
        """End it; what it forked goes on."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _pipe(mine: ExitStack, its: ExitStack, *, to_it: bool) -> tuple[int, int]:
    read, write = os.pipe()
    its.callback(os.close, read if to_it else write)
    mine.callback(os.close, write if to_it else read)
    return read, write


# Workers


def worker_command() -> tuple[str, ...]:
    """What starts a worker, with one more argument."""
    # -P: a file in the working directory must not stand in for a module
    return sys.executable, "-P", "-m", "vaebench.executors"


_SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def single_threaded() -> dict[str, str]:
    """The environment of a process that has no thread pools besides PyTorch's own one thread."""
    return {**os.environ, **_SINGLE}


def worker_settings() -> dict[str, str]:
    """What is set in the environment of workers: one thread, and memory that is kept.

    glibc would return large freed blocks to the system after every step; a step of a convolution
    would spend a quarter to two fifths of its time on getting them again, page by page.
    """
    return _SINGLE | {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


def worker_environment() -> dict[str, str]:
    """The environment of workers: this one's, with what is set for them."""
    return {**os.environ, **worker_settings()}


_template: tuple[object, Template] | None = None


def begin() -> Template | None:
    """The template of this process's workers, begun if there is none; None: there can be none."""
    global _template
    if sys.platform != "linux":
        return None
    command, environment = (*worker_command(), "--serve"), worker_environment()
    kind = [*command, *(each for each in environment.items() if each[0].startswith("PYTHON"))]
    if _template is None or _template[0] != kind:
        end()
        _template = kind, Template(command, environment)
    return _template[1]


def end() -> None:
    """End the template of this process, if there is one."""
    global _template
    if _template is not None:
        _template[1].end()
        _template = None


# The template's side


def serve(file: int, do: Callable[[int], object]) -> NoReturn:
    """Fork a process for each request, until the other end is gone; each calls ``do`` and ends.

    Arguments:
        file: File descriptor of the socket.
        do: Is given the file descriptor that came with the request.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    statuses: dict[int, int] = {}  # by process, where its end is told

    def reap(*_: object) -> None:
        for pid in list(statuses):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with suppress(OSError):
                    os.write(statuses[pid], str(os.waitstatus_to_exitcode(status)).encode())
                os.close(statuses.pop(pid))

    signal.signal(signal.SIGCHLD, reap)
    with socket.socket(fileno=file) as requests:
        while True:
            request, files, *_ = socket.recv_fds(requests, 2**20, 5)
            if not request:
                os._exit(0)
            with _held(signal.SIGCHLD):
                pid = os.fork()
                if not pid:
                    requests.close()
                    for status in (*statuses.values(), files[3]):
                        os.close(status)
                    environment, folder = json.loads(request)
                    _begin(environment, folder, files, do)
                statuses[pid] = files.pop(3)
            for each in files:
                os.close(each)
            requests.send(str(pid).encode())


@contextmanager
def _held(number: signal.Signals) -> Iterator[None]:
    """Put off a signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


def _begin(
    environment: dict[str, str], folder: str, files: list[int], do: Callable[[int], object]
) -> NoReturn:
    """What a forked process does: all that it is."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        for number, each in enumerate(files[:3]):
            os.dup2(each, number)
            os.close(each)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        do(files[4])
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)
