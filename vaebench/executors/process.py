"""The parent's side of one worker process."""

import json
import math
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from vaebench.executors.gpus import VISIBLE
from vaebench.executors.messages import send, to_message
from vaebench.executors.worker import DUMP_AND_EXIT
from vaebench.forking import Forked, begin, worker_command, worker_environment
from vaebench.run import Task

MAX_DUMP_SECONDS = 2.0  # that a worker has to write its traceback before it is killed
MAX_LAST_LINES = 100  # of its standard error, kept for the record of its death
MAX_TRACE_BYTES = 100_000  # a traceback of all threads has about 5,000

Messages = queue.SimpleQueue[tuple["Worker", list[Any] | None]]


class Worker:
    """A worker process, a :class:`vaebench.executors.doers.Doer`.

    Arguments:
        messages: Gets every message, kind and data, with its worker; None when it is dead.
        gpu: The only GPU that it sees; None: all.
    """

    def __init__(self, messages: Messages, gpu: str | None = None) -> None:
        self.task: Task | None = None
        self.due = math.inf
        self.is_late = self.alone = self.moves = False
        self.gpu = gpu
        self._faults = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the worker)
        self._environment = worker_environment() | ({} if gpu is None else {VISIBLE: gpu})
        self.process = self._forked() or self._started()
        self._said: deque[bytes] = deque(maxlen=MAX_LAST_LINES)
        self._threads = [
            threading.Thread(target=self._read, args=(messages,), daemon=True),
            threading.Thread(target=self._pass_on, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _forked(self) -> Forked | None:
        template = begin()
        if template is None:
            return None
        return template.fork(self._environment, self._faults.fileno())

    def _started(self) -> "subprocess.Popen[bytes]":
        """A process of its own, where there is no template: it tells why it cannot begin."""
        return subprocess.Popen(
            [*worker_command(), str(self._faults.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            pass_fds=[self._faults.fileno()],
            process_group=0,  # a Ctrl-C in the terminal is for the parent
        )

    def _read(self, messages: Messages) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                messages.put((self, json.loads(line)))
        except ValueError:
            self.process.kill()  # half a line: it died while it spoke
        finally:
            messages.put((self, None))

    def _pass_on(self) -> None:
        """Show what it writes to standard error, and keep the end: it may say why it died."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.append(line)
            os.write(2, line)

    def give(self, task: Task, seconds: float) -> None:
        """Send a task. That the worker is dead is noticed by the reader."""
        self.task, self.due = task, time.monotonic() + seconds
        assert self.process.stdin is not None
        try:
            send(self.process.stdin, to_message(task))
        except OSError:
            self.process.kill()

    def expire(self) -> None:
        """End a worker that takes too long, after it has written a traceback, if it still can."""
        self.is_late, self.due = True, math.inf
        self.process.send_signal(DUMP_AND_EXIT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(MAX_DUMP_SECONDS)
        self.process.kill()

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()

    def end(self, *, seconds: float = 0.0) -> tuple[str, str]:
        """End the process, whatever it does; return how it died, and its last traceback, if any.

        Arguments:
            seconds: That it has to end by itself, so that it is heard how it did.
        """
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.process.kill()
        code = self.process.wait()
        for thread in self._threads:
            thread.join(MAX_DUMP_SECONDS)  # a process of its own may keep its standard error open
        self._faults.seek(0)
        trace = self._faults.read(MAX_TRACE_BYTES).decode(errors="replace")
        if code > 0 and not trace:
            trace = b"".join(self._said).decode(errors="replace")
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr, self._faults):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}", trace
