"""Deprecated, works for one release: `reid-lab doctor`."""

import sys

from reid_lab.cli.main import deprecated

if __name__ == "__main__":
    sys.exit(deprecated("doctor", "doctor"))
