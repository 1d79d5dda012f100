"""What ran where: versions, machine, device, git state, peak memory.

Everything is best effort: what cannot be found out is None, never an error. No host or user name
is kept, since records are published.
"""

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from vaebench.cpu import cpu_info, cpu_kind
from vaebench.errors import ConfigError

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-image", "scikit-learn", "mlflow")
DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str) -> str:
    """Turn ``auto`` into the best device there is: cuda, mps, else cpu.

    Raises:
        ConfigError: The device is not one of :data:`DEVICES`, or not on this machine.
    """
    import torch

    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if name not in there:
        raise ConfigError(f"device: unknown name {name!r}; choose from {', '.join(DEVICES)}")
    if not there[name]:
        raise ConfigError(f"device: {name} is not on this machine; use --device auto or cpu")
    return name


def describe(device: str, *, threads: int, jobs: int) -> dict[str, Any]:
    """The ``environment`` of a record: software, machine, device and how many shared it."""
    return {
        "vaebench": _version("vaebench"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cpu_kind": cpu_kind(),
        "cores": os.cpu_count(),
        "device": device,
        "device_name": _device_name(device),
        "arithmetic": _arithmetic(device),
        "threads": threads,
        "jobs": jobs,
        "packages": {name: _version(name) for name in PACKAGES},
        "git": git_state(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    return cpu_info().get("model name") or platform.processor() or platform.machine()


def _device_name(device: str) -> str:
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    return device if device == "mps" else _cpu()


def _arithmetic(device: str) -> dict[str, Any]:
    """What decides on last bits beside versions: the instructions and libraries that are used."""
    import torch

    from vaebench.layers import ONEDNN

    found: dict[str, Any] = {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "linear": "oneDNN" if ONEDNN else "PyTorch",
    }
    if device == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found |= {"cuda": torch.version.cuda, "cudnn": cudnn}
    return found


def git_state(package: Path = Path(__file__).parent) -> dict[str, Any] | None:
    """Commit of the checkout that vaebench runs from, and whether it is changed.

    None when it runs from an installed package, even one below somebody else's checkout.
    """
    if _git(package, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    changes = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return None if commit is None else {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def peak_memory(device: str) -> Callable[[], float | None]:
    """Start to watch memory; the returned function gives the peak since then, in MB (2^20 bytes).

    On a GPU what PyTorch allocated there; on Linux the resident set of the process, whose
    high-water mark is reset now; elsewhere None, since a long-lived process has no peak per run.
    """
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return lambda: torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "linux":
        try:
            # memory that an earlier run freed, and the worker keeps, does not count
            with suppress(AttributeError):
                ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return lambda: None
        return _high_water_mark
    return lambda: None


def _high_water_mark() -> float | None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10 or None
    return None
