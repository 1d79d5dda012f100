"""Many small images as one: rows and columns of equal size, PNG, embedded in the page.

The page cuts a sprite up again. Images of a run come from its arrays and, for the epochs before the
last, from the tiles that it left in ``images/``, which hold each pixel as a square of pixels.
"""

import base64
import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaebench.errors import ResultsError
from vaebench.files import names_in, read_picture

GAP = 2  # pixels between the images of a tile, as in vaebench.run.pictures, which imports torch
_TILE = re.compile(r"(?P<kind>reconstruction|samples)-(?P<epoch>\d+)\.png")

Pixels = NDArray[np.uint8]  # (..., H, W, C)


def to_pixels(images: NDArray[Any]) -> Pixels:
    """Images (..., C, H, W) in [0, 1] as bytes (..., H, W, C)."""
    clipped = np.nan_to_num(images).clip(0, 1)
    return np.moveaxis(np.rint(clipped * 255).astype(np.uint8), -3, -1)


def sprite(pixels: Pixels) -> dict[str, Any]:
    """Images (R, N, H, W, C) as ``{"src", "rows", "columns", "height", "width"}``."""
    rows, columns, height, width, channels = pixels.shape
    flat = pixels.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    buffer = io.BytesIO()
    picture = Image.fromarray(flat[..., 0] if channels == 1 else flat)
    picture.save(buffer, format="PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    return {
        "src": f"data:image/png;base64,{text}",
        "rows": rows,
        "columns": columns,
        "height": height,
        "width": width,
    }


def tiles(folder: Path, kind: str) -> dict[int, Path]:
    """The tiles of a kind (reconstruction, samples) by epoch; none where they cannot be read."""
    found: dict[int, Path] = {}
    try:
        names = names_in(folder, within=folder.parents[2])
    except ResultsError:
        return found
    for name in names:
        match = _TILE.fullmatch(name)
        if match and match["kind"] == kind:
            found[int(match["epoch"])] = folder / name
    return dict(sorted(found.items()))


def read_tile(path: Path, shape: tuple[int, int, int], count: int) -> Pixels | None:
    """The images of a tile (N, H, W, C), in order; None where it cannot be read.

    Arguments:
        path: The tile.
        shape: The shape of an image (C, H, W).
        count: Images that a run shows, of which a tile holds the first n x n.
    """
    channels, height, width = shape
    paired = path.name.startswith("reconstruction")
    n = min(8, 2 * (math.isqrt(2 * count) // 2) if paired else math.isqrt(count))
    try:
        content = read_picture(path, within=path.parents[3])
        with Image.open(io.BytesIO(content or b"")) as picture:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except (OSError, ResultsError, ValueError, Image.DecompressionBombError):
        return None
    square = max(height, width)
    for sides, around in (
        ((height, width), GAP),  # a gap on every side of an image
        ((square, square), 0),  # until version 0.2: half a gap, and images centred in squares
    ):
        whole = [n * (side + GAP) + around for side in sides]
        factor = pixels.shape[0] // whole[0]
        if n and factor and list(pixels.shape[:2]) == [factor * side for side in whole]:
            break
    else:
        return None
    tall, wide = (side + GAP for side in sides)
    top, left = (around or (tall - height) // 2), (around or (wide - width) // 2)
    cut = pixels[::factor, ::factor].reshape(*whole, channels)
    images = [
        cut[row : row + height, column : column + width]
        for row in range(top, whole[0] - around, tall)
        for column in range(left, whole[1] - around, wide)
    ]
    return np.stack(images)


def split_pairs(images: Pixels) -> tuple[Pixels, Pixels]:
    """The originals and the reconstructions of a paired tile, whose rows alternate."""
    n = math.isqrt(len(images))
    rows = images.reshape(n, n, *images.shape[1:])
    shape = (-1, *images.shape[1:])
    return rows[::2].reshape(shape), rows[1::2].reshape(shape)
