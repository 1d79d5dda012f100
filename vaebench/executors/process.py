"""The parent's side of one worker process."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import Any, Self

from vaebench.executors.messages import send, to_message
from vaebench.executors.worker import WHERE_ARE_YOU
from vaebench.run import Task

PATIENCE = 2.0  # seconds that a worker has to write where it is before it is killed
MOST_FAULTS = 100_000  # bytes; a traceback of all threads has some 5,000

Said = queue.SimpleQueue[tuple["Worker", dict[str, Any] | None]]


class Worker:
    """A worker process, and what it says.

    Arguments:
        said: Gets every message with its worker; None when it is dead.

    Attributes:
        process: The process.
        is_late: Whether it took too long, and is being ended.
    """

    def __init__(self, said: Said) -> None:
        self.is_late = False
        self._faults = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the worker)
        # -P: a file in the working directory must not stand in for a module
        command = [sys.executable, "-P", "-m", "vaebench.executors", str(self._faults.fileno())]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=worker_environment(),
            pass_fds=[self._faults.fileno()],
            process_group=0,  # a Ctrl-C in the terminal is for the parent
        )
        self._reader = threading.Thread(target=self._read, args=(said,), daemon=True)
        self._reader.start()

    def _read(self, said: Said) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                said.put((self, json.loads(line)))
        except ValueError:
            self.process.kill()  # half a line: it died while it spoke
        finally:
            said.put((self, None))

    def give(self, task: Task) -> Self:
        """Send a task. That the worker is dead is noticed by the reader."""
        assert self.process.stdin is not None
        try:
            send(self.process.stdin, to_message(task))
        except OSError:
            self.process.kill()
        return self

    def expire(self) -> None:
        """End a worker that takes too long, after it has written where it is, if it still can."""
        self.is_late = True
        self.process.send_signal(WHERE_ARE_YOU)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self.process.kill()

    def end(self) -> tuple[str, str]:
        """Wait for a dead worker; return how it died, and its last traceback, if it left one."""
        self.process.kill()
        code = self.process.wait()
        self._faults.seek(0)
        trace = self._faults.read(MOST_FAULTS).decode(errors="replace")
        self.kill()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}", trace

    def kill(self) -> None:
        """End the process, whatever it does, and wait for it."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout, self._faults):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def single_threaded() -> dict[str, str]:
    """The environment of a process that has no thread pools besides PyTorch's own one thread."""
    single = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(single, "1")}


def worker_environment() -> dict[str, str]:
    """The environment of workers: one thread, and memory that stays.

    What a step has freed, the next one takes: glibc would give large blocks back to the system each
    time, and a convolution's step would spend a quarter to two fifths of its time on getting them
    again, page by page.
    """
    return single_threaded() | {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
