"""`python -m reid_lab.gallery build|add|search|info|plan`; see `--help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reid_lab.errors import UserError
from reid_lab.gallery.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 1: the user's error, told in one message; 130: interrupted."""
    args = parse(argv)
    from reid_lab.gallery import commands  # torch is slow to import, and --help does not need it

    try:
        return int(getattr(commands, args.command)(args))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        stays = ": what was appended stays, the same command goes on" * (args.command == "add")
        print(f"interrupted{stays}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
