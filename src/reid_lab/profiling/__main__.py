"""Deprecated alias of `reid-lab cost`, for one release."""

import sys

from reid_lab.cli.main import deprecated

if __name__ == "__main__":
    sys.exit(deprecated("cost", "cost"))
