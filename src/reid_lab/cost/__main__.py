"""`python -m reid_lab.cost +experiment=... key=value ...`; see `--help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reid_lab.cli.command import attempt, piped
from reid_lab.cost.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """0: done; 1: a file cannot be written; 2: the command is wrong; 130: interrupted."""
    args = parse(argv)

    def work() -> int:
        from reid_lab.cost.compare import compare  # torch and hydra are slow to import
        from reid_lab.cost.measure import measure

        return compare(args) if args.allocator == "compare" else measure(args)

    return attempt(work, wrong=2)


if __name__ == "__main__":
    sys.exit(piped(main))
