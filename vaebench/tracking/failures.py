"""What goes wrong between here and MLflow, in one or two lines that hold no password.

``explained`` stands around every use of MLflow; a new kind of failure that users meet gets its
line in ``explain``. ``quiet`` keeps MLflow's own log lines short, and free of passwords too.
"""

import base64
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from vaebench.errors import TrackingError, redact

# What these say is either no news or said again by the exception that follows.
QUIET = {
    "mlflow": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,
    "alembic": logging.WARNING,
    "urllib3.connectionpool": logging.ERROR,
}
SPOKEN = ("mlflow", "alembic", "sqlalchemy.engine")  # loggers with a handler of MLflow's
SECRET = 4  # characters: a shorter password would be found everywhere in a text

_CREDENTIALS = re.compile(r"(?!sqlite|file)[^:/]+://(?P<both>[^:]*:(?P<password>.*))@", re.DOTALL)
_DATABASE = re.compile(r"OperationalError|unable to open database|readonly database")


class Unreachable(TrackingError):
    """MLflow takes nothing at present, whatever it is sent: trying the next thing is no use."""


def hide(text: str, uri: str) -> str:
    """``text`` without the user name and password of ``uri``, however they are written there."""
    found = _CREDENTIALS.match(uri)
    if found:
        both, password = found["both"], found["password"]
        encoded = base64.b64encode(unquote(both).encode()).decode()  # as in an HTTP header
        for secret in (both, unquote(both), encoded):
            text = text.replace(secret, "***")
        for secret in (password, unquote(password), quote(unquote(password), safe="")):
            text = text.replace(secret, "***") if len(secret) >= SECRET else text
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
    """Turn whatever mlflow raises into a TrackingError that says what to do.

    The original is not its cause: a traceback would show its text, which may hold the password.
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as exc:  # of MLflow, SQLAlchemy, requests, the system: all come through
        raise explain(exc, uri) from None


def explain(exc: Exception, uri: str) -> TrackingError:
    """An exception from MLflow as one or two lines: where, what, what to do; no password."""
    said = hide(str(exc), uri).strip() or type(exc).__name__
    where = f"MLflow at {hide(uri, uri)}"
    code = re.search(r"too many (\d{3}) error|error code (\d{3})|\b([45]\d\d) \w+ Error", said)
    if code:
        return _refused(where, int(next(filter(None, code.groups()))), said)
    if "API request to" in said or ("Connection" in said and uri.startswith("http")):
        return Unreachable(f"{where} does not answer; start it, or choose another --tracking-uri")
    if "database is locked" in said:
        return Unreachable(
            f"{where} is locked by another program; close that and run the same command again"
        )
    if "database or disk is full" in said:
        return Unreachable(f"{where}: the disk is full; free some of it and run vaebench sync")
    if "out-of-date database schema" in said:
        return Unreachable(
            f"{where} was made by an older MLflow; back it up, then run: mlflow db upgrade URI"
        )
    if re.search(r"[Uu]nauthori[sz]ed|PERMISSION_DENIED|UNAUTHENTICATED", said):
        return _refused(where, 403, said)
    kind = Unreachable if _DATABASE.search(said) else TrackingError
    return kind(f"{where}: {said.splitlines()[0][:300]}")


def _refused(where: str, code: int, said: str) -> TrackingError:
    """What an HTTP status means."""
    if code in (401, 403):
        return Unreachable(
            f"{where} refuses the credentials; set MLFLOW_TRACKING_USERNAME and _PASSWORD"
        )
    if code == 429:
        return Unreachable(f"{where} has too much to do (HTTP 429); it is asked again later")
    if code >= 500 or code == 408:
        return Unreachable(f"{where} answers with errors (HTTP {code}); its log says why")
    return TrackingError(f"{where}: {said.splitlines()[0][:300]}")
