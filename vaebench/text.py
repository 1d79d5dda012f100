"""Text that may come from somebody else, made fit for a terminal, a document or a page.

Whatever shows such text passes it through here: a name may hold the sequences that steer a
terminal, or marks that turn the direction of what follows.
"""

import re

# What is obeyed instead of shown, by Unicode's categories: controls (Cc), formats such as marks of
# direction (Cf), halves of surrogate pairs (Cs), separators of lines and paragraphs (Zl, Zp).
_OBEYED = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_CHARACTER = re.compile(f"[{_OBEYED}]")
_BUT_LINES = re.compile(f"(?![\n\t])[{_OBEYED}]")
SHOWN = "\N{REPLACEMENT CHARACTER}"


def one_line(text: object, most: int | None = None) -> str:
    """Any text as one line that steers nothing, cut to ``most`` characters if it has more."""
    line = _CHARACTER.sub(SHOWN, " ".join(str(text).split()))
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def lines(text: str) -> str:
    """A text of several lines that steers nothing."""
    if text.replace("\n", "").isprintable():  # quick: a report may have 50 million characters
        return text
    return _BUT_LINES.sub(SHOWN, text)
