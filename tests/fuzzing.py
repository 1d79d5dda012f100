"""What the fuzz tests share: how many examples, hostile text, and what a refusal looks like.

By default each property gets a few, always the same examples. ``HYPOTHESIS_PROFILE=long`` draws two
thousand new ones.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
MOST_SECONDS = 60.0  # what counts as a hang, on a machine that does other things as well

FUZZ = settings(
    max_examples=2000 if LONG else 25,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://127.0.0.1/x.png)",
    "| a | b |",
    "100 % \\input{/etc/passwd}",
    "`code` ``more`` $x$ $$y$$",
    "# heading\n\n- list\n\n<details>",
    "--- &lt;b&gt; &#60;b&#62; *a* _b_ ~~c~~",
    "\x1b[2J\x00\x7f\u202e\u2028",
    "\\end{tabular}\\write18{id} % ^^5cinput{x} #1 & {",
    "]]> --> </td></table> {{ x }} {% y %}",
    "http://example.org www.example.org a@example.org",
)

TEXTS = (
    st.sampled_from(HOSTILE)
    | st.text(max_size=30)
    | st.text("\\|`*_<>&#[]()!~$%{}^\"'\n", max_size=12)
)

NUMBERS = (
    st.integers(-5, 5)
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.sampled_from([2**31, 2**63, 2**64, -1, 1e308, -0.0])
)

JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def tree(folder: Path) -> dict[str, int]:
    """Everything below a folder, and when it was last changed."""
    return {str(path): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail if what is done inside takes longer than anybody would wait."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < MOST_SECONDS


def assert_short(message: str) -> None:
    """A message is for a person: one or two lines, no flood."""
    assert len(message.strip().splitlines()) <= 2
    assert len(message) < 4000
