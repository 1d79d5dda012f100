"""Copies of a grid's files for MLflow, made of what they should be and nothing else.

Whatever is sent is staged here first: MLflow follows links, and reads what it is told to.
"""

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.errors import ResultsError
from vaebench.files import MAX_TENSORS_BYTES, open_file, read_picture

if TYPE_CHECKING:
    from PIL.Image import Image

FULL, PREVIEW = 512, 256  # pixels of a picture: opened by a click, and shown (as log_image's)


def stage(path: Path, folder: Path, within: Path) -> None:
    """Copy a file into ``folder``, if it is there; a PNG only if it is one.

    Raises:
        ResultsError: It is no plain file or no picture, see :mod:`vaebench.files`.
    """
    target = folder / path.name
    if path.suffix == ".png":
        content = read_picture(path, within)
        if content is not None:
            target.write_bytes(content)
    elif file := open_file(path, MAX_TENSORS_BYTES, within):
        with file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy)


def stage_picture(path: Path, folder: Path, stem: str, within: Path) -> bool:
    """Write a picture in both sizes, under the names that MLflow's ``log_image`` gives.

    False where there is none.

    Raises:
        ResultsError: It is no picture, or a damaged one.
    """
    import PIL.Image

    content = read_picture(path, within)
    if content is None:
        return False
    try:
        image = PIL.Image.open(io.BytesIO(content), formats=["PNG"])
        image.load()
    except (OSError, SyntaxError, ValueError) as error:  # which PIL raises for damaged files
        raise ResultsError(f"{path}: damaged: not a PNG picture") from error
    sized(image, FULL).save(folder / f"{stem}.png")
    sized(image, PREVIEW).save(folder / f"{stem}+compressed.webp", lossless=True)
    return True


def sized(image: "Image", side: int) -> "Image":
    """A picture as large as it gets within ``side`` pixels, its own pixels square and sharp."""
    from PIL.Image import Resampling

    factor = side // max(image.size)
    if factor:
        return image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    smaller = image.copy()
    smaller.thumbnail((side, side))
    return smaller
