"""The kind of a CPU: read from what Linux says of it, in words, and never an error."""

import sys
from pathlib import Path
from typing import Any

import pytest

from vaebench.cpu import INSTRUCTIONS, cpu_kind, describe_cpu

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu sse sse2 avx {}
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd {}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""
ZEN5 = {"vendor": "AuthenticAMD", "family": 26, "model": 2, "stepping": 1}
NEOVERSE = {"vendor": "0x41", "family": 8, "model": "0xd0c", "stepping": 1}


def kind(folder: Path, text: str) -> Any:
    path = folder / "cpuinfo"
    path.write_text(text)
    return cpu_kind(path)


@pytest.mark.parametrize(
    ("flags", "instructions", "bits"),
    [
        ("", [], 256),
        ("avx2", ["avx2"], 256),
        ("avx512_bf16 avx512f avx2 avx512bw", ["avx2", "avx512f", "avx512_bf16"], 512),
        ("avx2 avx512f amx_bf16 amx_tile", ["avx2", "avx512f", "amx_bf16"], 512),
    ],
)
def test_an_x86_cpu_has_family_model_and_the_vector_instructions_that_matter(
    tmp_path: Path, flags: str, instructions: list[str], bits: int
) -> None:
    found = kind(tmp_path, X86.format(flags))
    assert found == {**ZEN5, "instructions": instructions, "vector_bits": bits}


@pytest.mark.parametrize(
    ("features", "instructions", "bits"),
    [("atomics", ["asimd"], 128), ("sve bf16", ["asimd", "bf16", "sve"], None)],
)
def test_an_arm_cpu_has_its_part_and_the_width_that_its_instructions_fix(
    tmp_path: Path, features: str, instructions: list[str], bits: int | None
) -> None:
    found = kind(tmp_path, ARM.format(features))
    assert found == {**NEOVERSE, "instructions": instructions, "vector_bits": bits}


def test_the_first_of_several_cpus_stands_for_all(tmp_path: Path) -> None:
    both = X86.format("avx2") + "\n" + X86.format("avx512f").replace("26", "25")
    assert kind(tmp_path, both) == kind(tmp_path, X86.format("avx2"))


@pytest.mark.parametrize("text", ["", "\n\n", "hardware: none", "processor : 0\n\nflags : avx2"])
def test_what_says_nothing_of_instructions_is_no_kind(tmp_path: Path, text: str) -> None:
    assert kind(tmp_path, text) is None


def test_where_nothing_can_be_read_the_kind_is_not_known(tmp_path: Path) -> None:
    assert cpu_kind(tmp_path / "nowhere") is None
    assert cpu_kind(tmp_path) is None


def test_what_is_not_said_is_none(tmp_path: Path) -> None:
    found = kind(tmp_path, "flags : avx2 sse\nstepping : unknown\n")
    assert found["stepping"] == "unknown"
    assert (found["vendor"], found["vector_bits"]) == (None, 128)
    told = describe_cpu({"cpu": "x", "cpu_kind": found})
    assert told == "x, stepping unknown, avx2, 128-bit vectors"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_the_kind_of_this_machine_is_known() -> None:
    found = cpu_kind()
    assert found is not None
    assert set(found) == {*ZEN5, "instructions", "vector_bits"}
    assert set(found["instructions"]) <= set(INSTRUCTIONS)


def test_a_cpu_in_words_is_its_name_and_what_is_known_of_its_kind(tmp_path: Path) -> None:
    zen = {"cpu": "AMD EPYC", "cpu_kind": kind(tmp_path, X86.format("avx2 avx512f"))}
    assert describe_cpu(zen) == (
        "AMD EPYC, AuthenticAMD family 26 model 2 stepping 1, avx2 avx512f, 512-bit vectors"
    )
    assert describe_cpu({"cpu": "AMD EPYC"}) == "AMD EPYC"
    assert describe_cpu({"cpu": "AMD EPYC", "cpu_kind": None}) == "AMD EPYC"
    assert describe_cpu({"cpu_kind": ["damaged"]}) == "unknown CPU"
    assert describe_cpu({"cpu": "x", "cpu_kind": {"family": [], "instructions": 3}})  # no error
