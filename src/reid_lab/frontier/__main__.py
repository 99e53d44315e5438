"""`python -m reid_lab.frontier runs/*/`; see `--help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reid_lab.cli.command import attempt, piped
from reid_lab.frontier.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """0: done; 1: nothing fits the budget, a run is left out as its files are broken, or the
    user's error, reported in one message; 130: interrupted."""
    args = parse(argv)

    def work() -> int:
        from reid_lab.frontier.show import show  # numpy and matplotlib are slow to import

        return show(args)

    return attempt(work)


if __name__ == "__main__":
    sys.exit(piped(main))
