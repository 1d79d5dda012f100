"""The exceptions that vaebench raises on purpose.

::

    VaebenchError
    ├── ConfigError     a configuration, a name or an option is wrong    (exit code 2)
    ├── DataError       a data set is missing, corrupt or out of reach   (exit code 1)
    ├── DivergedError   a training stopped being finite                  (recorded as failed)
    ├── ResultsError    a results folder is not what it should be        (exit code 1)
    └── TrackingError   MLflow refused or is out of reach                (exit code 1)

Each message says where, what, and what to do, in one or two lines: the command line prints it as
it stands. To add an error, derive it here and add it to the drawing.
"""

import re

# a password may hold anything, a slash too: everything up to the last @ goes
_USER = r"(?<=://)(?<!sqlite://)(?<!file://)[^\s'\"]*(?=@)"
_SECRETS = re.compile(rf"{_USER}|(?<=password=)[^&\s'\"]+|(?<=token=)[^&\s'\"]+")


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


class TrackingError(VaebenchError):
    """MLflow refused a request or is out of reach."""
