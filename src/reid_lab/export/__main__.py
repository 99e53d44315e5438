"""`python -m reid_lab.export --checkpoint last.ckpt --out FOLDER [key=value ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reid_lab.cli.command import attempt, piped, terminable
from reid_lab.export.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """0: exported and the same as PyTorch; 1: reported in one message; 130: interrupted."""
    args = parse(argv)

    def work() -> int:
        from reid_lab.export.command import export  # torch and hydra are slow to import

        export(args)
        return 0

    return terminable(lambda: attempt(work, interrupted="interrupted: nothing was written"))


if __name__ == "__main__":
    sys.exit(piped(main))
