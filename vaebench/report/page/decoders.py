"""The decoders that the page runs: ``decoder.safetensors``, rounded and compressed to fit.

The page reads the file itself, in ``js/decoder.js``. Here whole numbers of 16 bits are rounded to
the most bits that :data:`MAX_BYTES` has room for, their ``scale`` enlarged likewise; the tensors'
even bytes then come before the odd ones (the high bytes of small numbers are nearly all alike),
compressed with zlib, in base64.
"""

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.errors import ResultsError
from vaebench.files import read_file

MAX_BYTES = 8_000_000  # of all decoders of a page, in base64
BITS = (12, 11, 10, 9, 8)  # of a weight; at 11, no pixel of an MNIST decoder moves by 0.01
_MAX_FILE = 64_000_000
_DAMAGE = (AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error)
_KEY = "vaebench.decoder"  # of vaebench.run.decoder_file, which imports torch


def embedded(paths: Sequence[Path]) -> tuple[list[str | None], int]:
    """The decoders as the page holds them, and the bits of their weights.

    None where there is no file, where its layers are not known, or where there is no room left.
    """
    contents = [_read(path) for path in paths]
    total = sum(len(content) for content in contents if content is not None)
    bits = next((b for b in BITS if _estimate(total, b) <= MAX_BYTES), BITS[-1])
    room = MAX_BYTES
    found: list[str | None] = []
    for content in contents:
        text = None
        if content is not None and _estimate(len(content), bits) < 1.2 * room:
            with suppress(*_DAMAGE):
                text = base64.b64encode(_packed(content, bits)).decode()
        text = text if text and len(text) <= room else None
        room -= len(text or "")
        found.append(text)
    return found, bits


def _read(path: Path) -> bytes | None:
    """A file whose layers are known."""
    try:
        content = read_file(path, _MAX_FILE, within=path.parent.parent.parent)
        if content is None:
            return None
        known = _described(_header(content)[0])["layers"] is not None
    except (OSError, ResultsError, *_DAMAGE):
        return None
    return content if known else None


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its tensors start."""
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), 8 + size


def _described(header: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
    return described


def _estimate(size: int, bits: int) -> float:
    """About how long the text of a file of so many bytes becomes, 16 bits a weight."""
    return size / 2 * (1.15 + 0.07 * (bits - 8)) * 4 / 3


def _packed(content: bytes, bits: int) -> bytes:
    header, start = _header(content)
    body = bytearray(content[start:])
    for layer in _described(header)["layers"]:
        names = layer.get("tensors", {})
        if "weight" in names and header[names["weight"]]["dtype"] == "I16":
            weight, scale = (
                np.frombuffer(body, dtype, (end - begin) // np.dtype(dtype).itemsize, begin)
                for dtype, (begin, end) in (
                    ("<i2", header[names["weight"]]["data_offsets"]),
                    ("<f4", header[names["scale"]]["data_offsets"]),
                )
            )
            step = 2 ** (16 - bits)
            weight[:] = np.rint(weight / step).astype("<i2")
            scale *= step
    # weights repeat no pattern: their Huffman code alone is shorter, and ten times as fast
    stream = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY)
    return stream.compress(content[:start] + body[::2] + body[1::2]) + stream.flush()
