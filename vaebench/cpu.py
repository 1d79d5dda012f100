"""The kind of a CPU, where its name says little: "AMD EPYC" may be any of six generations.

Linux tells it in ``/proc/cpuinfo``; elsewhere, and wherever it cannot be read, the kind is None.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "neon", "asimd", "bf16", "sve")
"""Vector instructions that decide on the speed of products, as Linux names them."""

_WIDTHS = {"avx512f": 512, "avx": 256, "sse": 128, "neon": 128, "asimd": 128}
_KEYS = {  # x86's, ARM's
    "vendor": ("vendor_id", "CPU implementer"),
    "family": ("cpu family", "CPU architecture"),
    "model": ("model", "CPU part"),
    "stepping": ("stepping", "CPU revision"),
}


def cpu_info(source: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says of this machine's first CPU; empty where it says nothing."""
    try:
        first = source.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_kind(source: Path = Path("/proc/cpuinfo")) -> dict[str, Any] | None:
    """The kind of this machine's first CPU; None where it is not known.

    Returns:
        ``vendor``, ``family``, ``model`` and ``stepping`` (of an ARM CPU its implementer,
        architecture, part and revision), each None where it is not said; those of
        :data:`INSTRUCTIONS` that it has; and ``vector_bits``, the width of its widest vectors of
        floats as the instruction set has it (None for SVE, which leaves it open). Units may be half
        as wide, and need two passes then.
    """
    said = cpu_info(source)
    features = said.get("flags", said.get("Features"))
    if features is None:
        return None
    has = set(features.split())
    widths = [bits for name, bits in _WIDTHS.items() if name in has]
    found: dict[str, Any] = {
        key: next((said[name] for name in names if name in said), None)
        for key, names in _KEYS.items()
    }
    found = {key: int(v) if v is not None and v.isdecimal() else v for key, v in found.items()}
    return found | {
        "instructions": [name for name in INSTRUCTIONS if name in has],
        "vector_bits": None if "sve" in has else max(widths, default=None),
    }


def describe_cpu(environment: Mapping[str, Any]) -> str:
    """The CPU of a record's or benchmark's ``environment`` in words: name and, if known, kind."""
    parts = [str(environment.get("cpu") or "unknown CPU")]
    kind = environment.get("cpu_kind")
    if isinstance(kind, dict):
        numbers = [f"{key} {kind[key]}" for key in _KEYS if kind.get(key) is not None]
        instructions, bits = kind.get("instructions"), kind.get("vector_bits")
        parts += [
            " ".join(numbers).removeprefix("vendor "),
            " ".join(map(str, instructions)) if isinstance(instructions, list) else "",
            f"{bits}-bit vectors" if bits else "",
        ]
    return ", ".join(part for part in parts if part)
