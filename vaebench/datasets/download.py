"""One file from a URL, of a sane size and within a time, whatever the other end does."""

import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

from vaebench.files import read_file

CONNECTION_TIMEOUT = 10.0  # seconds without an answer after which a mirror counts as unreachable
PATIENCE = 30.0  # seconds after which a download must have had ...
MIN_RATE = 4_000  # ... so many bytes a second on average: less than a telephone line carries
MAX_SECONDS = 7_200.0  # of a download: at that rate, MNIST's largest look-alike takes 6,606
TICK = 0.2  # seconds between two looks at the clock
CHUNK = 65_536  # bytes read at a time
MAX_BYTES = 256_000_000  # of a file; the largest of MNIST and its kin has 26,421,880, EMNIST's more


def get(url: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Return what a URL gives, unless that is too much, too little, or takes too long.

    Arguments:
        url: ``file:`` URLs included.
        max_bytes: How much it may be.

    Raises:
        OSError: It cannot be had, or not in time (TimeoutError).
        ResultsError: A ``file:`` URL leads to no plain file, or to a larger one.
        ValueError: It is too much, or the URL is none.
        http.client.HTTPException: The answer is no HTTP, or ends too early.
    """
    if url.startswith("file:"):
        return _local(url, max_bytes)
    # A name that is not resolved and headers that come byte by byte have no limit of their own: the
    # clock is watched from here, and a thread that is late is left behind.
    content, outcome = bytearray(), SimpleQueue[Exception | None]()
    began = time.monotonic()
    Thread(target=_fetch, args=(url, max_bytes, content, outcome), daemon=True).start()
    while True:
        try:
            error = outcome.get(timeout=TICK)
        except Empty:
            _require_pace(len(content), time.monotonic() - began)
            continue
        if error is None:
            return bytes(content)
        try:
            raise error
        finally:
            del error  # which holds this frame, and the connection


def _local(url: str, max_bytes: int) -> bytes:
    path = Path(os.path.realpath(urllib.request.url2pathname(urlsplit(url).path)))
    content = read_file(path, max_bytes)
    if content is None:
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return content


def _fetch(
    url: str, max_bytes: int, content: bytearray, outcome: "SimpleQueue[Exception | None]"
) -> None:
    """Fill ``content``; at the end, put why it is not whole, or None."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "vaebench"})
        with urllib.request.urlopen(request, timeout=CONNECTION_TIMEOUT) as response:
            claimed = response.headers.get("Content-Length", "")
            expected = int(claimed) if claimed.isdecimal() else max_bytes + 1
            while len(content) < expected and (part := response.read1(CHUNK)):
                content += part
                if len(content) > max_bytes:
                    raise ValueError(f"more than {max_bytes:,} bytes")
            if claimed.isdecimal() and len(content) < expected:
                raise http.client.IncompleteRead(b"", expected - len(content))
    except urllib.error.HTTPError as error:
        error.close()
        outcome.put(error)
    except Exception as error:  # said by whoever waits
        outcome.put(error)
    else:
        outcome.put(None)


def _require_pace(count: int, seconds: float) -> None:
    """A mirror that sends a byte now and then would hold us for days: no single wait is long."""
    if seconds > MAX_SECONDS:
        raise TimeoutError(f"not done after {seconds:.0f} s")
    if seconds > PATIENCE and count < MIN_RATE * seconds:
        raise TimeoutError(
            f"too slow: {count:,} bytes in {seconds:.0f} s, less than {MIN_RATE:,} a second"
        )


def base_url(mirror: str) -> str:
    """The URL of a mirror, which may be a folder."""
    url = mirror if "://" in mirror else Path(mirror).expanduser().absolute().as_uri()
    return url.rstrip("/")


def reason(error: Exception) -> str:
    """Return what went wrong without the wrapping ``<urlopen error ...>``."""
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__
