"""`python -m reid_lab.cost +experiment=... key=value ...`; see `--help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reid_lab.cost.arguments import parse
from reid_lab.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """0: done; 1: a file cannot be written; 2: the command is wrong; 130: interrupted."""
    args = parse(argv)
    from hydra.errors import HydraException  # torch and hydra are slow to import
    from omegaconf.errors import OmegaConfBaseException

    from reid_lab.cost.compare import compare
    from reid_lab.cost.measure import measure

    try:
        return compare(args) if args.allocator == "compare" else measure(args)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return _told(error, 2)
    except OSError as error:
        return _told(error, 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _told(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
