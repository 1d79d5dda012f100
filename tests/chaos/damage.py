"""Files as a crash of the machine leaves them: noticed, told, redone."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chaos.compare import differences, faults_of_mlflow
from chaos.grids import Tally
from chaos.launch import Workplace, start


class Damage(NamedTuple):
    """What happens to one file.

    Attributes:
        file: Its name in the folder of a run; ``grid.yaml``: of the grid.
        mar: What becomes of its bytes.
        told: What the user must read.
        unfinished: Whether the run has no record yet.
    """

    file: str
    mar: Callable[[bytes], bytes]
    told: str
    unfinished: bool = False


def half(content: bytes) -> bytes:
    """What had reached the disk."""
    return content[: len(content) // 2]


def garbled(content: bytes) -> bytes:
    """A page in its middle that is not what was written."""
    middle = len(content) // 2
    return (
        content[:middle]
        + bytes(255 - b for b in content[middle : middle + 64])
        + content[middle + 64 :]
    )


def zeros(content: bytes) -> bytes:
    """Its length had reached the disk, its bytes had not."""
    return bytes(len(content))


def empty(_: bytes) -> bytes:
    """Only its name had."""
    return b""


def torn(content: bytes) -> bytes:
    """The last line misses its end."""
    return content[:-40]


DAMAGES: dict[str, Damage] = {
    "torn journal": Damage("journal.jsonl", torn, "journal was torn", unfinished=True),
    "garbled checkpoint": Damage("checkpoint.pt", garbled, "checkpoint.pt: damaged", True),
    "half a record": Damage("record.json", half, "its record is damaged"),
    "half the weights": Damage("weights.pt", half, "its weights.pt is damaged"),
    "half a checkpoint": Damage("checkpoint.pt", half, "checkpoint.pt: damaged", True),
    "zeroed checkpoint": Damage("checkpoint.pt", zeros, "checkpoint.pt: damaged", True),
    "garbled arrays": Damage("arrays.npz", garbled, "its arrays.npz is damaged"),
    "empty configuration": Damage("config.yaml", empty, "configuration is damaged"),
    "half the best weights": Damage("best.pt", half, "best.pt: damaged", True),
    "empty record": Damage("record.json", empty, "its record is damaged"),
    "zeroed journal": Damage("journal.jsonl", zeros, "journal was torn", unfinished=True),
    "garbled weights": Damage("weights.pt", garbled, "its weights.pt is damaged"),
}
MANIFESTS = {
    "half a manifest": Damage("grid.yaml", half, "grid.yaml.damaged"),
    "empty manifest": Damage("grid.yaml", empty, "grid.yaml.damaged"),
}


def trials(short: bool) -> list[list[str]]:
    """Which damages are done at once: one to each run of the grid, some to its manifest too."""
    names = list(DAMAGES)[: 4 if short else None]
    pairs = [names[n : n + 2] for n in range(0, len(names), 2)]
    for pair, manifest in zip(pairs, MANIFESTS, strict=False):
        pair.append(manifest)
    return pairs


def mend(
    place: Workplace, whole: Path, names: Sequence[str], expected: dict[str, Any], tally: Tally
) -> None:
    """Damage a copy of the undisturbed grid, start the command, and compare."""
    results = place.folder / f"damaged-{names[0].replace(' ', '-')}"
    shutil.copytree(
        whole / "chaos", results / "chaos", ignore=shutil.ignore_patterns(".work", ".mlflow*")
    )
    runs = sorted((results / "chaos" / "runs").iterdir())
    folders = [*runs, results / "chaos"]
    damages = [(DAMAGES | MANIFESTS)[name] for name in names]
    for folder, damage in zip(folders, damages, strict=False):
        path = folder / damage.file
        path.write_bytes(damage.mar(path.read_bytes()))
        if damage.unfinished:
            (folder / "record.json").unlink()
    done = start(place, results)
    tally.starts += 1
    problems = [*done.problems, *done.wrong_exit]
    problems = problems or [
        *differences(results / "chaos", expected),
        *faults_of_mlflow(results),
    ]
    for folder, name, damage in zip(folders, names, damages, strict=False):
        warned = [line for line in done.said.splitlines() if "Warning: " in line]
        silent = not any(damage.told in line and folder.name in line for line in warned)
        unheard = [f"no warning with {damage.told!r}: {warned}"] if silent else []
        tally.fault(name, [*unheard, *problems])
    tally.say(f"  {', '.join(names)}: {'; '.join(problems) or 'told, and the same'}")
    shutil.rmtree(results)
