"""``python -m vaebench.executors [FD]``: a worker; FD is where it writes how it died.

With ``--serve FD`` a template of workers, which takes requests from the socket FD.
"""

import sys

from vaebench.executors.worker import preload, work
from vaebench.forking import serve

if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        preload()
        serve(int(sys.argv[2]), work)
    work(*map(int, sys.argv[1:2]))
