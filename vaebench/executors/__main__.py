"""``python -m vaebench.executors [FD]``: a worker; FD is where it writes how it died."""

import sys

from vaebench.executors.worker import work

if __name__ == "__main__":
    work(*map(int, sys.argv[1:2]))
