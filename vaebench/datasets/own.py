"""Images of one's own: a folder of pictures, or an archive of arrays.

Both are cut into splits by the content of each image, see :func:`vaebench.datasets.splits.cut`. A
folder is read once and kept as one array in the data directory, until the name, the size or the
time of a file in it changes.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from vaebench.datasets.splits import Uncut
from vaebench.errors import DataError, ResultsError
from vaebench.files import (
    MAX_PICTURE_BYTES,
    MAX_PIXELS,
    MAX_TENSORS_BYTES,
    open_archive,
    open_file,
    read_file,
    write_atomic,
)
from vaebench.tensors import read_arrays

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
MAX_IMAGES = 1_000_000
RECIPE = 1  # of how pictures become arrays
Side = Annotated[int, Gt(0), Le(4096)]
Shape = tuple[int, int, int]


def folder(root: Path, *, path: str = "", size: Side = 32, channels: Literal[1, 3] = 3) -> Uncut:
    """Read the pictures below a folder; names of subfolders are their labels, if there are any.

    A picture of another size is scaled until it covers the square, and its edges are cut off.

    Arguments:
        root: The data directory.
        path: The folder, relative to the data directory or, where that has none of this name, to
            the working directory.
        size: Height and width of the images.
        channels: 3 for colour, 1 for gray.

    Raises:
        DataError: There is no such folder, no picture in it, or one that cannot be read.
    """
    where = _found(root, path)
    files = list(_pictures(where))
    key = f"{os.path.realpath(where)}/{size}/{channels}/{RECIPE}"
    kept = root / "folders" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    state = np.frombuffer(_state(files), np.uint8)
    if (known := _kept(kept, state)) is not None:
        return known
    labels = _labels(where, [name for name, _ in files])
    contents = ((where / name, _content(where / name)) for name, _ in files)
    pixels, keys = [], []
    for file, content in contents:
        pixels.append(_decoded(file, content, size, channels))
        keys.append(np.frombuffer(hashlib.sha256(content).digest(), np.uint8))
    images = Uncut(np.stack(pixels), labels, np.stack(keys))
    _keep(kept, images, state)
    return images


def folder_shape(*, size: int, channels: int, **_: Any) -> Shape:
    """The shape of a folder's images, (C, H, W)."""
    return channels, size, size


def folder_state(root: Path, *, path: str, **_: Any) -> bytes:
    """What changes when a name, a size or a time in the folder does."""
    return _state(list(_pictures(_found(root, path))))


def npz(root: Path, *, path: str = "", shape: tuple[Annotated[int, Gt(0)], ...] = ()) -> Uncut:
    """Read the arrays ``x`` and, if it is there, ``y`` of an archive of NumPy.

    Arguments:
        root: The data directory.
        path: The file, relative to the data directory or, where that has none of this name, to the
            working directory.
        shape: The shape of its images, (C, H, W). ``x`` is (N, C, H, W), (N, H, W, C) or, with one
            channel, (N, H, W): uint8, or floats in [0, 1].

    Raises:
        DataError: There is no such file, or it holds something else.
    """
    file = _found(root, path)
    try:
        opened = open_file(Path(os.path.realpath(file)), MAX_TENSORS_BYTES)
        if opened is None:
            raise DataError(f"{file}: no such file")
        with opened:
            arrays = read_arrays(opened)
    except ResultsError as error:
        raise DataError(str(error)) from error
    except DataError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise DataError(f"{file}: no archive of arrays that can be read: {error}") from error
    if "x" not in arrays:
        raise DataError(f"{file}: has no array x, but {', '.join(arrays) or 'nothing'}")
    x = _in_order(file, arrays["x"], tuple(shape))
    y = arrays.get("y")
    if y is not None and (y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min(initial=0) < 0):
        raise DataError(f"{file}: y should be {len(x)} whole numbers from 0, one for each image")
    keys = [np.frombuffer(hashlib.sha256(image.tobytes()).digest(), np.uint8) for image in x]
    return Uncut(x, y, np.stack(keys) if keys else np.zeros((0, 32), np.uint8))


def npz_shape(*, shape: tuple[int, ...], **_: Any) -> Shape:
    """The shape of an archive's images, (C, H, W).

    Raises:
        DataError: It is no such shape.
    """
    if len(shape) != 3:
        raise DataError(f"dataset.npz.shape: {list(shape)} is not [channels, height, width]")
    return shape[0], shape[1], shape[2]


def npz_state(root: Path, *, path: str, **_: Any) -> tuple[int, ...] | None:
    """What changes when the file does."""
    try:
        status = _found(root, path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _found(root: Path, path: str) -> Path:
    """What a relative path leads to: in the data directory, else in the working directory."""
    given = Path(path).expanduser()
    places = [given] if given.is_absolute() else [root / given, given.absolute()]
    for place in places:
        if place.exists():
            return place
    raise DataError(f"{path}: is neither {' nor '.join(map(str, places))}")


def _pictures(where: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Names, relative to a folder, and states of the pictures below it, in order."""
    if not where.is_dir():
        raise DataError(f"{where}: no folder")
    count = 0
    for above, folders, names in os.walk(where, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                count += 1
                if count > MAX_IMAGES:
                    raise DataError(f"{where}: more than {MAX_IMAGES:,} pictures")
                file = Path(above, name)
                try:
                    yield file.relative_to(where).as_posix(), file.stat()
                except OSError as error:
                    _refuse(error)
    if not count:
        raise DataError(f"{where}: no pictures in it ({', '.join(SUFFIXES)})")


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror or error}") from error


def _state(files: list[tuple[str, os.stat_result]]) -> bytes:
    digest = hashlib.sha256()
    for name, status in files:
        times = status.st_mtime_ns, status.st_ctime_ns
        digest.update(f"{name}\0{status.st_size}\0{times}\n".encode(errors="surrogateescape"))
    return digest.digest()


def _labels(where: Path, names: list[str]) -> NDArray[np.int64] | None:
    """The place of each picture's subfolder among them, in the order of their names."""
    tops = [name.split("/")[0] if "/" in name else None for name in names]
    classes = sorted({top for top in tops if top is not None})
    if not classes:
        return None
    if None in tops:
        raise DataError(
            f"{where}: {names[tops.index(None)]} lies beside subfolders, which are labels; put "
            f"every picture into one, or all of them into one folder"
        )
    return np.array([classes.index(str(top)) for top in tops])


def _content(file: Path) -> bytes:
    try:
        content = read_file(Path(os.path.realpath(file)), MAX_PICTURE_BYTES)
    except ResultsError as error:
        raise DataError(str(error)) from error
    if content is None:
        raise DataError(f"{file}: is gone; give the command again")
    return content


def _decoded(file: Path, content: bytes, size: int, channels: int) -> NDArray[np.uint8]:
    """A picture's pixels, uint8 (C, H, W)."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(
                    f"{file}: a picture of {picture.width:,} x {picture.height:,} pixels"
                )
            if picture.mode.startswith(("I", "F")):
                raise DataError(f"{file}: has more than 8 bits per channel; convert it to 8")
            plain = picture.convert("RGB" if channels == 3 else "L")
    except DataError:
        raise
    except Exception as error:  # PIL raises many kinds for a damaged file
        raise DataError(f"{file}: no picture that can be read ({error})") from error
    if plain.size != (size, size):
        plain = ImageOps.fit(plain, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(plain, dtype=np.uint8)
    return pixels.transpose(2, 0, 1) if channels == 3 else pixels[None]


def _kept(file: Path, state: NDArray[np.uint8]) -> Uncut | None:
    """The array of a folder as it is now; None where it is to be read."""
    try:
        opened = open_archive(file, MAX_TENSORS_BYTES)
        if opened is None:
            return None
        with opened:
            arrays = read_arrays(opened)
        same = np.array_equal(arrays["state"], state)
        return Uncut(arrays["x"], arrays.get("y"), arrays["keys"]) if same else None
    except (ResultsError, LookupError, ValueError, OSError):  # damaged: it is read anew
        return None


def _keep(file: Path, images: Uncut, state: NDArray[np.uint8]) -> None:
    arrays = {"x": images.x, "keys": images.keys, "state": state}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, **({} if images.y is None else {"y": images.y}))
    try:
        write_atomic(file, buffer.getvalue())
    except (OSError, ResultsError):  # it cannot be kept, and is read again each time
        return


def _in_order(file: Path, x: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Images as (N, C, H, W), uint8 or float32 in [0, 1]."""
    channels, height, width = npz_shape(shape=shape)
    if x.ndim == 3 and channels == 1:
        x = x[:, None]
    if x.ndim == 4 and x.shape[1:] == (height, width, channels) != (channels, height, width):
        x = x.transpose(0, 3, 1, 2)
    if x.shape[1:] != (channels, height, width):
        raise DataError(
            f"{file}: x has the shape {x.shape}: set dataset.npz.shape to its images' "
            f"[channels, height, width], not {list(shape)}"
        )
    if x.dtype.kind == "f":
        if len(x) and not (x.min() >= 0 and x.max() <= 1):
            raise DataError(f"{file}: x has pixels from {x.min():g} to {x.max():g}, not in [0, 1]")
        return np.ascontiguousarray(x, dtype=np.float32)
    if x.dtype != np.uint8:
        raise DataError(f"{file}: x is {x.dtype}; store uint8, or floats in [0, 1]")
    return np.ascontiguousarray(x)
