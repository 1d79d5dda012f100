"""The exceptions that vaebench raises on purpose.

::

    VaebenchError
    ├── ConfigError     a configuration, a name or an option is wrong    (exit code 2)
    ├── DataError       a data set is missing, corrupt or out of reach   (exit code 1)
    ├── DivergedError   a training stopped being finite                  (recorded as failed)
    ├── ResultsError    a results folder is not what it should be        (exit code 1)
    │   └── Held        another process works in it     (storage.locks)
    ├── OutputError     the standard output takes nothing                (exit code 1)
    ├── StorageError    a disk is full or cannot be written              (exit code 1)
    ├── ClusterError    Ray refused or is out of reach                   (exit code 1)
    └── TrackingError   MLflow refused or is out of reach                (exit code 1)
        └── Unreachable MLflow takes nothing at present  (tracking.failures)

Each message says where, what, and what to do, in one or two lines: the command line prints it as
it stands. To add an error, derive it here and add it to the drawing.
"""

import errno
import re

# a password may hold anything, a slash too: everything up to the last @ goes
_USER = r"(?<=://)(?<!sqlite://)(?<!file://)[^\s'\"]*(?=@)"
_SECRETS = re.compile(rf"{_USER}|(?<=password=)[^&\s'\"]+|(?<=token=)[^&\s'\"]+")

# what a write meets on a full disk, at the end of a quota, at the largest size of a file, and where
# writing is not allowed
_UNWRITABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
}


def redact(text: str) -> str:
    """``text`` with the user name and password of every URI in it replaced by ``***``."""
    return _SECRETS.sub("***", text)


class VaebenchError(Exception):
    """Base of all errors that are meant for the user's eyes."""


class ConfigError(VaebenchError):
    """A configuration, a name or an option is wrong."""


class DataError(VaebenchError):
    """A data set is missing, corrupt or out of reach."""


class DivergedError(VaebenchError):
    """A training produced NaN or infinity."""


class ResultsError(VaebenchError):
    """A results folder is missing, damaged, or holds something else."""


class OutputError(VaebenchError):
    """What is printed cannot be written: nothing that trains stops for that."""


class StorageError(VaebenchError):
    """A disk is full, or cannot be written: every run that writes there must stop.

    Make one of an ``OSError`` with :meth:`of`, which returns None for those that mean other things.
    """

    @classmethod
    def of(cls, error: OSError, where: object = None) -> "StorageError | None":
        """What to tell the user of an error that says so; ``where`` if it names no file."""
        if error.errno not in _UNWRITABLE:
            return None
        return cls(
            f"{error.filename or where}: cannot be written: {error.strerror}; mend that and run "
            f"the same command: what was under way goes on after its last whole epoch"
        )


class ClusterError(VaebenchError):
    """Ray refused or is out of reach."""


class TrackingError(VaebenchError):
    """MLflow refused a request or is out of reach."""
