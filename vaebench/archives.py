"""What is looked at before a file is read: that it is one, its size, and what a zip file claims.

Files of tensors and arrays are zip files. Whoever loads one asks :func:`require_archive` first.
"""

import zipfile
from pathlib import Path

from vaebench.errors import ResultsError


def require_file(path: Path, most: int) -> None:
    """Make sure that a path is a plain file (a pipe would be waited for) of a sane size.

    Raises:
        ResultsError: It is not, or it has more than ``most`` bytes.
    """
    if not path.is_file():
        raise ResultsError(f"{path}: damaged: not a file")
    if path.stat().st_size > most:
        raise ResultsError(f"{path}: damaged: larger than {most / 1e6:,.0f} MB")


def require_archive(path: Path, most: int) -> None:
    """Make sure that an archive of tensors or arrays is what was written.

    It is a zip file that unpacks to no more bytes than it has, and every entry has its checksum.

    Raises:
        ResultsError: It is not, or it has more than ``most`` bytes.
        Exception: As :mod:`zipfile`, on a damaged file.
    """
    require_file(path, most)
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > path.stat().st_size:
            raise ResultsError(f"{path}: damaged: it unpacks to more than it holds")
        if (entry := archive.testzip()) is not None:
            raise ResultsError(f"{path}: damaged: wrong checksum of {entry}")
