"""`python -m reid_lab.doctor dataset=... key=value ...`; see `--help`."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from reid_lab.cli.command import attempt, piped, report_error
from reid_lab.doctor.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """0: training would work; 1: it would fail; 2: the command is wrong; 130: interrupted."""
    args = parse(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that are not UTF-8 are shown, too
        sys.stdout.reconfigure(errors="backslashreplace")

    def work() -> int:
        from reid_lab.dataset.records import DatasetError  # torch and hydra are slow to import
        from reid_lab.doctor.examine import examine

        try:
            return examine(args)
        except DatasetError as error:  # only after the report: the sheet cannot be made
            return report_error(error, 1)

    return attempt(work, wrong=2)


if __name__ == "__main__":
    sys.exit(piped(main))
