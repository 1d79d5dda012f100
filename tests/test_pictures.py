"""Tiles: the small pictures of the image slider, with every pixel in its place."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny import draws
from torch import Tensor

from vaebench.run.pictures import paired_tile, tile


def images(count: int, channels: int = 1, height: int = 8, width: int = 8) -> Tensor:
    return draws(count, channels, height, width, dtype=torch.float32).sigmoid()


def pixels(png: bytes) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(png)))


def levels(image: Tensor) -> NDArray[Any]:
    """An image (C, H, W) as pixels."""
    return (255 * image).round().permute(1, 2, 0).numpy()


def test_tile_of_64_mnist_sized_images_keeps_each_pixel_and_is_not_rescaled_by_the_page() -> None:
    shown = images(64, height=28, width=28)
    picture = pixels(tile(shown))
    assert picture.shape == (242, 242)  # the page rescales from 256
    assert picture.dtype == np.uint8
    row_1_column_2 = picture[32:60, 62:90]
    np.testing.assert_array_equal(row_1_column_2, levels(shown[10])[..., 0])
    gaps = picture[[k for k in range(242) if k % 30 < 2]]
    assert np.unique(gaps).tolist() == [64]


def test_tile_of_small_images_is_enlarged_by_squares_and_clipped() -> None:
    shown = torch.tensor([0.0, 1.0, 0.5, 2.0]).view(4, 1, 1, 1)
    small = np.full((8, 8), 64)
    small[2::3, 2::3] = [[0, 255], [128, 255]]
    expected = small.repeat(40, axis=0).repeat(40, axis=1)
    np.testing.assert_array_equal(pixels(tile(shown)), expected)


def test_tile_of_a_single_image_has_no_frame() -> None:
    shown = images(1, height=30, width=30)
    expected = levels(shown[0])[..., 0].repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(pixels(tile(shown)), expected)


def test_paired_tile_alternates_originals_and_reconstructions() -> None:
    level = (torch.arange(64) / 255).view(64, 1, 1, 1)
    picture = pixels(paired_tile(level, level + 100 / 255))
    factor = len(picture) // (8 * 3 + 2)
    first = np.arange(8)
    expected = [first, first + 100, first + 8, first + 108, first + 16, first + 116]
    centres = picture[2 * factor :: 3 * factor, 2 * factor :: 3 * factor]
    np.testing.assert_array_equal(centres, [*expected, first + 24, first + 124])


@given(
    count=st.integers(4, 100),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
@settings(deadline=None, max_examples=60)
def test_tile_holds_every_image_in_whole_pixels_for_any_size(
    count: int, channels: int, height: int, width: int
) -> None:
    shown = images(count, channels, height, width)
    picture = pixels(tile(shown))
    n = min(8, math.isqrt(count))
    factor = (picture.shape[0]) // (n * (height + 2) + 2)
    assert picture.shape[:2] == (
        factor * (n * (height + 2) + 2),
        factor * (n * (width + 2) + 2),
    )
    assert picture.shape[2:] == ((3,) if channels == 3 else ())
    assert factor == math.ceil(240 / (n * (max(height, width) + 2)))
    small = picture[::factor, ::factor].reshape(n * (height + 2) + 2, n * (width + 2) + 2, channels)
    whole = small.repeat(factor, axis=0).repeat(factor, axis=1).reshape(picture.shape)
    np.testing.assert_array_equal(whole, picture)
    for k in range(n * n):
        top, left = 2 + k // n * (height + 2), 2 + k % n * (width + 2)
        np.testing.assert_array_equal(
            small[top : top + height, left : left + width], levels(shown[k])
        )


@given(count=st.integers(2, 70))
@settings(deadline=None)
def test_paired_tile_holds_an_even_number_of_rows_up_to_eight(count: int) -> None:
    shown = images(count, height=28, width=28)
    picture = pixels(paired_tile(shown, shown))
    rows = {248: 2, 244: 4, 364: 6, 242: 8}[len(picture)]
    assert rows * rows <= 2 * count
    assert rows == 8 or (rows + 2) ** 2 > 2 * count


def test_paired_tile_of_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 images"):
        paired_tile(images(1), images(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_tiles_have_equal_bytes(channels: int) -> None:
    shown = images(4, channels)
    assert tile(shown) == tile(shown.clone(memory_format=torch.channels_last))
