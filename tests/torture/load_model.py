"""`python -m tests.torture.load_model FILE`: the Python API's own errors as one message."""

from __future__ import annotations

import sys

from reid_lab.checkpoint import load_model

if __name__ == "__main__":
    try:
        load_model(sys.argv[1])
    except ValueError as error:  # what it promises to raise
        sys.exit(f"error: {error}")
