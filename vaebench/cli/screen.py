"""A console of rich for what is printed, see :mod:`vaebench.cli.output`; slow to import."""

from typing import Any

from rich.console import Console

from vaebench.cli.output import unwritable
from vaebench.text import lines


class Screen(Console):
    """A console of rich that prints texts as they are, but for what steers a terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "soft_wrap": True} | options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts, whose brackets mean nothing, and tables.

        Raises:
            OutputError: The standard output takes nothing.
        """
        shown = [lines(each) if isinstance(each, str) else each for each in objects]
        try:
            super().print(*shown, **{"markup": False} | options)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritable(error) from error
