"""A zip archive in which the files of a data set are published: read where it lies."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from vaebench.datasets.download import MAX_BYTES
from vaebench.errors import DataError, ResultsError
from vaebench.files import open_file


@dataclass(frozen=True)
class Archive:
    """A zip archive that is published in place of the files.

    Arguments:
        name: Its name, beside which the files may lie as well.
        folder: Where the files are in it.
        md5: Its md5 (hexadecimal).
        max_bytes: How large it may be.
    """

    name: str
    folder: str
    md5: str
    max_bytes: int

    def read(self, where: Path, name: str) -> bytes | None:
        """The content of a file of the archive; None where that, or the file in it, is not there.

        Nothing is verified but the size; the content has a digest of its own.

        Raises:
            DataError: The archive cannot be read, or is damaged.
        """
        path = where / self.name
        try:
            # links are followed: what they lead to is not used unless it is the published file
            file = open_file(Path(os.path.realpath(path)), self.max_bytes)
        except ResultsError as error:
            raise DataError(f"{path}: {error}; move it away") from error
        if file is None:
            return None
        with file:
            try:
                with zipfile.ZipFile(file) as archive:
                    member = archive.getinfo(f"{self.folder}/{name}")
                    if member.file_size > MAX_BYTES:
                        raise DataError(f"{path}: {name}: unpacks to {member.file_size:,} bytes")
                    return archive.read(member)
            except KeyError:
                return None
            except DataError:
                raise
            except Exception as error:  # zipfile raises many kinds for a damaged file
                why = f"{type(error).__name__}: {error}"
                raise DataError(
                    f"{path}: damaged or no zip archive ({why}); move it away"
                ) from error
