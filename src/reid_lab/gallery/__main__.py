"""`python -m reid_lab.gallery build|add|search|info|plan`; see `--help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reid_lab.cli.command import attempt, piped, terminable
from reid_lab.gallery.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 1: the user's error, reported in one message; 130: interrupted."""
    args = parse(argv)

    def work() -> int:
        from reid_lab.gallery import commands  # torch is slow to import

        return int(getattr(commands, args.command)(args))

    stays = ": what was appended stays, the same command goes on" * (args.command == "add")
    return terminable(lambda: attempt(work, interrupted=f"interrupted{stays}"))


if __name__ == "__main__":
    sys.exit(piped(main))
