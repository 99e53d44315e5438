"""`reid-lab export`: write a checkpoint as ONNX, OpenVINO and TorchScript."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers, add_overrides, batch_size, count, positive

EXAMPLES = """\
examples:
  reid-lab export --checkpoint last.ckpt --out exported
  reid-lab export --checkpoint last.ckpt --out exported --int8 dataset=market1501 \\
    dataset.root=/data/Market-1501-v15.09.15
  reid-lab export --checkpoint last.ckpt --out exported --to onnx,openvino,torchscript
"""
FORMATS = ("onnx", "openvino", "torchscript")


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "export",
        help="write a checkpoint as ONNX, OpenVINO and TorchScript",
        description=(
            "Write a checkpoint as ONNX, whole and in stages, compared with PyTorch; with --to "
            "in other formats, too, and timed."
        ),
        epilog=EXAMPLES,
    )
    add_overrides(
        parser,
        "dataset=csv dataset.root=... to rank its test split with PyTorch and with onnxruntime",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a run: .../last.ckpt")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an export of that name")
    parser.add_argument(
        "--to",
        type=_formats,
        default=(),
        metavar="FORMATS",
        help="onnx,openvino,torchscript or some of them: beside ONNX, which is always written, "
        "OUT/openvino and OUT/torchscript; all are timed beside PyTorch: OUT/cost.csv",
    )
    parser.add_argument(
        "--triton",
        action="store_true",
        help="write OUT/triton, too, a model repository for NVIDIA's Triton server",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="write OUT/int8, too, with OpenVINO OUT/openvino/int8, and measure what it loses",
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
    parser.add_argument(
        "--seconds", type=positive, default=15.0, help="to time each format, %(default)s"
    )
    parser.add_argument(
        "--repeats", type=count, default=50, help="timed passes at most, %(default)s a round"
    )
    parser.add_argument(
        "--threads",
        type=partial(count, most=1024),
        default=1,
        help="of the network while it is timed, %(default)s",
    )
    parser.set_defaults(
        command=Command(work, interrupted="interrupted: nothing was written", mixed=True)
    )


def _formats(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    if unknown := [name for name in found if name not in FORMATS]:
        raise argparse.ArgumentTypeError(
            f"unknown format {', '.join(map(repr, unknown))}; available: {', '.join(FORMATS)}"
        )
    return found


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and 1")
    return number


def work(args: argparse.Namespace) -> int:
    from reid_lab.export.command import export

    export(args)
    return 0
