"""Small square pictures for the image slider of the tracking page, made from pixels, not figures.

The page shows previews of up to 256 pixels in a square card, so a tile of 8x8 MNIST images is
240x240 pixels and seen without rescaling. To add a tile, arrange the images and call `tile`.
"""

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaebench.figures.style import checked_images

_MAXIMUM = 8  # images along one side
_GAP_LEVEL = 64  # dark grey: parts black images, does not outshine the strokes


def tile(images: NDArray[Any], *, gap: int = 2, minimum: int = 240) -> NDArray[np.uint8]:
    """The first n*n images in a square of n rows, n at most 8.

    Arguments:
        images: Shape (N, C, H, W) in [0, 1], clipped, C of 1 or 3.
        gap: Pixels between two images; half of it runs around the edge.
        minimum: The least side in pixels: smaller tiles are enlarged by a whole factor, each
            pixel becoming a square.

    Returns:
        Pixels, shape (S, S), or (S, S, 3) for C = 3, with
        S = factor * n * (max(H, W) + gap). Images that are not square are centred in a square.

    Raises:
        ValueError: the shape is another, or values are not finite.
    """
    pixels = np.rint(checked_images("images", images) * 255).astype(np.uint8)
    count, channels, height, width = pixels.shape
    n = min(_MAXIMUM, math.isqrt(count))
    side = max(height, width) + gap
    top, left = (side - height) // 2, (side - width) // 2
    cells = np.full((n, side, n, side, channels), _GAP_LEVEL, np.uint8)
    cells[:, top : top + height, :, left : left + width] = (
        pixels[: n * n].reshape(n, n, channels, height, width).transpose(0, 3, 1, 4, 2)
    )
    square = cells.reshape(n * side, n * side, channels)
    factor = math.ceil(minimum / len(square))
    square = square.repeat(factor, axis=0).repeat(factor, axis=1)
    return square[..., 0] if channels == 1 else square


def paired_tile(
    originals: NDArray[Any], reconstructions: NDArray[Any], *, gap: int = 2, minimum: int = 240
) -> NDArray[np.uint8]:
    """A `tile` whose rows alternate: originals, their reconstructions, originals, ...

    With 32 images or more it has 8 rows, with fewer the largest even number that they fill.

    Arguments:
        originals: Shape (N, C, H, W) in [0, 1], N at least 2.
        reconstructions: The same shape.
        gap: As in `tile`.
        minimum: As in `tile`.

    Raises:
        ValueError: the shapes differ or do not fit, or values are not finite.
    """
    above, below = checked_pair(originals, reconstructions)
    n = min(_MAXIMUM, 2 * (math.isqrt(2 * len(above)) // 2))
    if n == 0:
        raise ValueError("a paired tile needs at least 2 images; got 1")
    pairs = n * n // 2
    rows = [a[:pairs].reshape(n // 2, n, *a.shape[1:]) for a in (above, below)]
    return tile(np.stack(rows, axis=1).reshape(-1, *above.shape[1:]), gap=gap, minimum=minimum)


def tile_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG of a tile; equal tiles give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def checked_pair(
    originals: NDArray[Any], reconstructions: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both as checked images.

    Raises:
        ValueError: they differ in shape, or one of them is no array of finite images.
    """
    above = checked_images("originals", originals)
    below = checked_images("reconstructions", reconstructions)
    if above.shape != below.shape:
        raise ValueError(
            f"originals and reconstructions differ in shape: {above.shape} and {below.shape}"
        )
    return above, below
