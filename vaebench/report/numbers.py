"""Numbers as every format shows them: decimals, groups of digits, signs, p values.

Only what is shown is rounded; JSON and CSV hold every digit.
"""

import math
from collections.abc import Iterable, Sequence

from vaebench.report.loading import Record, dig

NOTHING = "—"  # where there is no number
UNIT_DECIMALS = {"nats": 2, "dB": 2}


def rounded(value: float, decimals: int) -> str:
    """A number as every format shows it: fixed decimals, groups of three digits, no minus zero."""
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text


def signed(value: float, decimals: int) -> str:
    """A rounded difference with its sign; none before zero."""
    text = rounded(value, decimals)
    return text if text.startswith("-") or not text.strip("0.,") else f"+{text}"


def with_interval(mean: str, half_width: float | None, decimals: int) -> str:
    """A rounded mean with the half width of its interval, if it has one."""
    return mean if half_width is None else f"{mean} ±\u00a0{rounded(half_width, decimals)}"


def p_value(p: float | None) -> str:
    """A p value: ``0.0039``, ``< 0.0001``."""
    if p is None:
        return NOTHING
    return "<\u00a00.0001" if p < 0.0001 else f"{p:.3g}"


def p_text(p: float | None) -> str:
    """A p value after its sign: ``= 0.0039``, ``< 0.0001``."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def decimals_of(values: Iterable[float], unit: str) -> int:
    """Decimals that suit a whole column: none for counts, else about four significant digits."""
    known = list(values)
    if unit in UNIT_DECIMALS:
        return UNIT_DECIMALS[unit]
    if all(float(value).is_integer() for value in known):
        return 0
    largest = max(map(abs, known))
    return min(max(3 - math.floor(math.log10(largest)), 0), 9)


def gray_or_colour(records: Sequence[Record]) -> str:
    """What pixels are called: by the channels of the images."""
    shapes = [dig(record, "environment", "dataset", "shape") for record in records]
    colours = {isinstance(s, list) and len(s) == 3 and s[0] == 3 for s in shapes if s is not None}
    return {(True,): "colour", (False, True): "gray and colour"}.get(tuple(sorted(colours)), "gray")


def pixels_in_words(binarize: object, records: Sequence[Record]) -> str:
    """How pixels were binarised, as ``dataset.binarize`` says."""
    said = {
        "none": f"{gray_or_colour(records)} pixels, not binarised",
        "static": "binarised once",
        "dynamic": "training images binarised anew each epoch, test images once",
    }
    return said.get(str(binarize), f"binarised: {binarize}")
