"""What the command line takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reid_lab.cli.command import batch_size, count, program


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options and overrides. Exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(program("export"))
    parser.description = "Write a checkpoint as ONNX, compared with PyTorch."
    parser.epilog = (
        "Example: python -m reid_lab.export --checkpoint last.ckpt --out exported "
        "dataset=market1501 dataset.root=/data/Market-1501-v15.09.15 --int8"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="as of `python -m reid_lab`, dataset=csv dataset.root=...: rank its test split with "
        "PyTorch and with onnxruntime",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a run: .../last.ckpt")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an export of that name")
    parser.add_argument(
        "--int8", action="store_true", help="write OUT/int8, too, and measure what it loses"
    )
    parser.add_argument(
        "--calibration",
        type=count,
        default=256,
        help="training images that tell --int8 the ranges, %(default)s",
    )
    parser.add_argument(
        "--tolerance",
        type=_share,
        default=1e-4,
        help="largest difference from PyTorch, of an exit's largest value, %(default)s",
    )
    parser.add_argument(
        "--map-tolerance", type=_share, default=1e-3, help="of mAP and Rank-1, %(default)s"
    )
    parser.add_argument("--batch-size", type=batch_size, default=32, help="%(default)s")
    return parser.parse_intermixed_args(argv)


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and 1")
    return number
