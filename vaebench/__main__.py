"""``python -m vaebench``."""

from vaebench.cli import main

if __name__ == "__main__":
    main()
