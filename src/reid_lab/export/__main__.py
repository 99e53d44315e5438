"""Deprecated, works for one release: `reid-lab export`."""

import sys

from reid_lab.cli.main import deprecated

if __name__ == "__main__":
    sys.exit(deprecated("export", "export"))
