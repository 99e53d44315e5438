"""`python -m reid_lab.export --checkpoint last.ckpt --out FOLDER [key=value ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reid_lab.errors import UserError
from reid_lab.export.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """0: exported and the same as PyTorch; 1: told in one message; 130: interrupted."""
    args = parse(argv)
    from hydra.errors import HydraException  # torch and hydra are slow to import
    from omegaconf.errors import OmegaConfBaseException

    from reid_lab.export.command import export

    try:
        export(args)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
