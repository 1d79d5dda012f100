import sys
import unicodedata

from vaebench.text import lines, one_line

OBEYED = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
]


def test_no_character_that_is_obeyed_passes() -> None:
    for text in (one_line("x".join(OBEYED)), lines("x".join(OBEYED))):
        assert not set(text) & (set(OBEYED) - {"\n", "\t"})
        text.encode()


def test_no_character_that_is_obeyed_passes_alone() -> None:
    for character in set(OBEYED) - {"\n", "\t"}:
        assert lines(f"a{character}\nb") == "a\ufffd\nb"


def test_what_is_shown_stays() -> None:
    shown = "".join(
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character)[0] in "LMNPS"
    )
    assert one_line(shown) == shown
    assert lines(f"{shown}\n  ± é 漢\u00a0字\n") == f"{shown}\n  ± é 漢\u00a0字\n"


def test_one_line_is_one_and_no_longer_than_it_may_be() -> None:
    assert one_line("a\n\tb\x1b[2J\r\u2028c") == "a b\ufffd[2J c"
    assert one_line("x" * 10, 10) == "x" * 10
    assert one_line("x" * 11, 10) == "x" * 9 + "…"
    assert one_line(ValueError("a\nb")) == "a b"
