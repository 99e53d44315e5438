"""`python -m reid_lab.frontier runs/*/`; see `--help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reid_lab.errors import UserError
from reid_lab.frontier.arguments import limits, parse


def main(argv: Sequence[str] | None = None) -> int:
    """0: done; 1: nothing fits the budget, or the user's error, told in one message."""
    args = parse(argv)
    from reid_lab.frontier import tables  # numpy and matplotlib are slow, and --help needs none
    from reid_lab.frontier.best import asked

    status, bounds = 0, limits(args)
    try:
        points, notes = tables.gather(args.runs, args.table, args.dataset)
        for name, own, folder in tables.by_dataset(points, args.out):
            shown, more = tables.shown(own, args.published)
            print(f"{name}: {tables.write(folder, shown, [*notes, *more])}")
            for note in [*notes, *more]:
                print(f"note: {note}", file=sys.stderr)
            notes = []  # once is enough
            try:
                print(asked(shown, bounds, args.metric) if bounds else "", end="\n" * bool(bounds))
            except UserError as error:
                print(f"error: {name}: {error}", file=sys.stderr)
                status = 1
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
