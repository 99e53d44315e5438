"""`python -m reid_lab.doctor dataset=... key=value ...`; see `--help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reid_lab.doctor.arguments import parse
from reid_lab.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """0: training would work; 1: it would fail; 2: the command is wrong; 130: interrupted."""
    args = parse(argv)
    from hydra.errors import HydraException  # torch and hydra are slow to import
    from omegaconf.errors import OmegaConfBaseException

    from reid_lab.dataset.records import DatasetError
    from reid_lab.doctor.examine import examine

    try:
        return examine(args)
    except DatasetError as error:  # only after the report: the sheet cannot be made
        return _told(error, 1)
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
