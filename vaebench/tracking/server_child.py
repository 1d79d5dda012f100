"""MLflow's server as a program that ends with whoever started it.

``python server_child.py OPTIONS`` is ``mlflow server OPTIONS``, except that its process group is
killed as soon as its standard input is closed: however the parent died, nothing is left. Start it
as the leader of a process group.
"""

import os
import signal
import sys
import threading


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    """Serve until told to stop."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from mlflow.cli import cli

    cli(["server", *sys.argv[1:]])


if __name__ == "__main__":
    main()
