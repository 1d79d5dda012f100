"""Loaded by every process of vaebench that ``make chaos`` starts: watches it, and kills.

What a process writes is heard through Python's audit events (opened for writing, renamed); what it
calls, by wrapping a few functions right after their module was imported. Each is an event of a
phase. A shot is claimed by making a file, so that it is fired by one process only, and noted in
the file ``fired`` before it falls.
"""

import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

FILES = [  # what a file's name says of the phase
    (r"grid\.yaml|config\.yaml|\.mlflow\.id", "starting"),
    (r"checkpoint\.pt|best\.pt", "checkpointing"),
    (r"journal\.jsonl", "journal"),
    (r"weights\.pt|decoder\.safetensors", "evaluation"),
    (r"arrays\.npz|[\w-]+\.png", "figures"),
    (r"record\.json", "record"),
    (r"report\.\w+|comparison\.png|budget\.png|rate\.png", "reporting"),
]
FUNCTIONS = {  # module -> names in it, and the phase in which they are called
    "vaebench.training": (("objective", "validate"), "training"),
    "vaebench.metrics": (("measure",), "evaluation"),
    "vaebench.figures": (("to_png",), "figures"),
    "mlflow.tracking.client": (
        tuple(
            f"MlflowClient.{name}"
            for name in (
                *("create_run", "log_batch", "log_artifacts", "log_artifact", "log_dict"),
                *("log_inputs", "set_terminated"),
                *("update_run", "search_runs", "set_experiment_tag", "create_experiment"),
                *("create_logged_model", "log_model_artifacts", "finalize_logged_model"),
            )
        ),
        "tracking",
    ),
}
OF_THE_PARENT = {"tracking", "reporting"}
OF_A_WORKER = {"training", "checkpointing", "journal", "evaluation", "figures", "record"}


class Watch:
    """Counts the events of this process, and fires."""

    def __init__(self, folder: Path, is_worker: bool) -> None:
        self.folder = folder
        self.is_worker = is_worker
        self.shots = json.loads((folder / "shots.json").read_text())
        self.seen: dict[str, int] = {}
        self.lock = threading.RLock()

    def event(self, phase: str) -> None:
        """Something of a phase happens right now, in whatever thread."""
        if phase in (OF_THE_PARENT if self.is_worker else OF_A_WORKER):
            return
        with self.lock:
            self.seen[phase] = count = self.seen.get(phase, 0) + 1
            due = [s for s in self.shots if s["phase"] == phase and s["event"] <= count]
            shot = next((s for s in due if self._claim(s)), None)
        if shot is None:
            return
        if shot["delay"] or shot["twice"]:
            threading.Thread(target=self._fire, args=(shot,), daemon=True).start()
        else:
            self._fire(shot)

    def _claim(self, shot: dict[str, Any]) -> bool:
        self.shots.remove(shot)
        try:
            os.close(os.open(self.folder / f"{shot['number']}.claimed", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def _fire(self, shot: dict[str, Any]) -> None:
        time.sleep(shot["delay"])
        note = json.dumps({"number": shot["number"], "time": time.time()}) + "\n"
        log = os.open(self.folder / "fired", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(log, note.encode())
        os.close(log)
        number = getattr(signal, shot["signal"])
        pids = victims(shot["victim"])
        if shot["twice"]:  # by a process of its own: the first signal may be the end of this one
            later = f"sleep {shot['pause']}; kill -{number} {pids[0]}"
            devnull = subprocess.DEVNULL
            subprocess.Popen(
                ["/bin/sh", "-c", later], start_new_session=True, stdout=devnull, stderr=devnull
            )
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def victims(which: str) -> list[int]:
    """Processes to kill, this one last."""
    if which == "worker":
        return [os.getpid()]
    if which == "parent":
        return [os.getsid(0)]  # not the parent's id, which is 1 once it is gone
    return [*(pid for pid in session() if pid != os.getpid()), os.getpid()]


def session() -> list[int]:
    """The processes of this session: the parent leads it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == os.getsid(0):
            found.append(int(folder.name))
    return found


def listen(watch: Watch) -> None:
    """Hear of files that are opened for writing, and of renames."""
    patterns = [(re.compile(pattern), phase) for pattern, phase in FILES]

    def heard(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wa+"):
            path = args[0]
        elif event == "os.rename":
            path = args[1]
        else:
            return
        whole = re.fullmatch(r"\.(.+)\.\d+\.tmp", os.path.basename(str(path)))  # noqa: PTH119
        name = whole[1] if whole else os.path.basename(str(path))  # noqa: PTH119
        for pattern, phase in patterns:
            if pattern.fullmatch(name):
                watch.event(phase)
                return

    sys.addaudithook(heard)


class Wrapping(MetaPathFinder):
    """Wraps functions as soon as their module has been imported."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in FUNCTIONS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                wrap(module, self.watch)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def wrap(module: ModuleType, watch: Watch) -> None:
    """Make functions of a module tell that they are called."""
    names, phase = FUNCTIONS[module.__name__]
    for name in names:
        *owners, last = name.split(".")
        owner = functools.reduce(getattr, owners, module)
        function = getattr(owner, last)

        @functools.wraps(function)
        def told(*args: Any, _function: Any = function, **kwargs: Any) -> Any:
            watch.event(phase)
            return _function(*args, **kwargs)

        setattr(owner, last, told)


def main() -> None:
    """Watch this process if it is one of vaebench's."""
    folder = os.environ.get("CHAOS_FOLDER")
    modules = [arg for arg in sys.orig_argv if arg in ("vaebench", "vaebench.executors")]
    if folder and modules:
        watch = Watch(Path(folder), is_worker=modules[0] == "vaebench.executors")
        listen(watch)
        sys.meta_path.insert(0, Wrapping(watch))


main()
