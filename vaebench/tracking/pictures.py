"""Pictures as MLflow's page wants them: square pixels, a full size and a preview."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

FULL, PREVIEW = 512, 256  # pixels: opened by a click, and shown (as large as log_image's)


def stage(images: Mapping[str, Path], folder: Path) -> int:
    """Write both sizes of each picture, stem to PNG file, into a folder; return how many.

    A file that holds no picture is passed over: it must not keep the rest from being shown.
    """
    import PIL.Image

    done = 0
    for stem, path in images.items():
        try:
            image = PIL.Image.open(path)
            image.load()
        except (OSError, SyntaxError, ValueError):  # which PIL raises for damaged files
            continue
        sized(image, FULL).save(folder / f"{stem}.png")
        sized(image, PREVIEW).save(folder / f"{stem}+compressed.webp", lossless=True)
        done += 1
    return done


def sized(image: "Image", side: int) -> "Image":
    """A picture as large as it gets within ``side`` pixels, its own pixels square and sharp."""
    from PIL.Image import Resampling

    factor = side // max(image.size)
    if factor:
        return image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    smaller = image.copy()
    smaller.thumbnail((side, side))
    return smaller
