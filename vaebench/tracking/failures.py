"""What goes wrong between here and MLflow, in one or two lines that hold no password.

``explained`` stands around every use of MLflow; a new kind of failure that users meet gets its
line in ``MEANINGS``. ``quiet`` keeps MLflow's own log lines short, and free of passwords too.
"""

import base64
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from vaebench.errors import TrackingError, VaebenchError, redact

# What these say is either no news or said again by the exception that follows.
QUIET = {
    "mlflow": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,
    "alembic": logging.WARNING,
    "urllib3.connectionpool": logging.ERROR,
}
SPOKEN = ("mlflow", "alembic", "sqlalchemy.engine")  # loggers with a handler of MLflow's
LOCKED = r"database is locked"
# patterns of an HTTP status, or of a URI's first letters and what was said -> what it means, with
# the part that was found in place of {}
MEANINGS = {
    r"^HTTP 40[13]|[Uu]nauthori[sz]ed|PERMISSION_DENIED|UNAUTHENTICATED": (
        "refuses the credentials; set MLFLOW_TRACKING_USERNAME and _PASSWORD"
    ),
    r"^HTTP 429": "has too much to do ({}); it is asked again later",
    r"^HTTP (408|5..)": "answers with errors ({}); its log says why",
    r"API request to|^http.*Connection": (
        "does not answer; start it, or choose another --tracking-uri"
    ),
    LOCKED: ("is locked by another program; close that and run the same command again"),
    r"(?<=file lock ').*(?=' could not)": (
        "waits for {}, which another process holds; end that and try again"
    ),
    r"database or disk is full": "lies on a full disk; free some of it and run vaebench sync",
    r"out-of-date database schema": (
        "was made by an older MLflow; back it up, then run: mlflow db upgrade URI"
    ),
}
MIN_SECRET = 4  # characters: a shorter password would be found everywhere in a text

_CREDENTIALS = re.compile(r"(?!sqlite|file)[^:/]+://(?P<both>[^:]*:(?P<password>.*))@", re.DOTALL)
_DATABASE = re.compile(r"OperationalError|unable to open database|readonly database")


class Unreachable(TrackingError):
    """MLflow takes nothing at present, whatever it is sent: trying the next thing is no use."""


class Locked(Unreachable):
    """Another process writes to the database, for longer than MLflow waits (20 seconds)."""


def hide(text: str, uri: str) -> str:
    """``text`` without the user name and password of ``uri``, however they are written there."""
    found = _CREDENTIALS.match(uri)
    if found:
        both, password = found["both"], found["password"]
        encoded = base64.b64encode(unquote(both).encode()).decode()  # as in an HTTP header
        for secret in (both, unquote(both), encoded):
            text = text.replace(secret, "***")
        for secret in (password, unquote(password), quote(unquote(password), safe="")):
            text = text.replace(secret, "***") if len(secret) >= MIN_SECRET else text
    return redact(text)


def quiet() -> None:
    """Make MLflow's loggers say what is news, and no password."""
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    for name in SPOKEN:
        for handler in logging.getLogger(name).handlers:
            if not any(isinstance(known, _Redacting) for known in handler.filters):
                handler.addFilter(_Redacting())


class _Redacting(logging.Filter):
    """Takes passwords out of a log record, its traceback included."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            record.msg, record.args = redact(record.getMessage()), None
        except (TypeError, ValueError):  # nothing that could be shown
            return False
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn whatever is raised into a VaebenchError that says what to do, see :func:`explain`.

    The original is not its cause: a traceback would show its text, which may hold the password.
    """
    try:
        yield
    except Exception as exc:  # of MLflow, SQLAlchemy, requests, the system: all come through
        raise explain(exc, uri) from None


def explain(exc: Exception, uri: str) -> VaebenchError:
    """An exception as one or two lines: where, what, what to do; no password."""
    if isinstance(exc, VaebenchError):
        return exc
    said = hide(str(exc), uri).strip() or type(exc).__name__
    first, where = said.splitlines()[0][:300], f"MLflow at {hide(uri, uri)}"
    code = re.search(r"too many (\d{3}) error|error code (\d{3})|\b([45]\d\d) \w+ Error", said)
    status = f"HTTP {code[code.lastindex or 0]}" if code else ""
    for pattern, meaning in MEANINGS.items():
        if found := re.search(pattern, status or f"{uri[:5]} {said}", re.DOTALL):
            kind = Locked if pattern == LOCKED else Unreachable
            return kind(f"{where} {meaning.format(found[0])}")
    if not status and _DATABASE.search(said):
        return Unreachable(f"{where}: {first}")
    if type(exc).__module__ == "builtins" and not isinstance(exc, OSError):
        return TrackingError(f"{type(exc).__name__}: {first}")  # which neither MLflow nor a disk is
    return TrackingError(f"{where}: {first}")
