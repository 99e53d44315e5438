"""Deprecated alias of `reid-lab doctor`, for one release."""

import sys

from reid_lab.cli.main import deprecated

if __name__ == "__main__":
    sys.exit(deprecated("doctor", "doctor"))
