"""`reid-lab export`: write a checkpoint as ONNX, OpenVINO, TorchScript and TFLite."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from reid_lab.cli.command import (
    Command,
    Parser,
    Subparsers,
    add_overrides,
    batch_size,
    count,
    positive,
)

EXAMPLES = """\
examples:
  reid-lab export --checkpoint last.ckpt --out exported
  reid-lab export --checkpoint last.ckpt --out exported --int8 dataset=market1501 \\
    dataset.root=/data/Market-1501-v15.09.15
  reid-lab export --checkpoint last.ckpt --out exported --to onnx,openvino,torchscript
"""
FORMATS = ("onnx", "openvino", "torchscript", "tflite")
TENSORRT = ". TensorRT's trtexec builds its engine from OUT/model.onnx, see docs/export.md"
TENSORRT += " (experimental, not run)"


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "export",
        help="write a checkpoint as ONNX, OpenVINO, TorchScript and TFLite",
        description=(
            "Export a checkpoint to ONNX, whole and in stages, and compare it with PyTorch; with "
            "--to also to other formats, which are timed."
        ),
        epilog=EXAMPLES,
    )
    add_overrides(
        parser,
        "dataset=csv dataset.root=..., to compare the accuracies on its test split, too",
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="checkpoint of a run, such as .../last.ckpt"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing export")
    parser.add_argument(
        "--to",
        type=_formats,
        default=(),
        metavar="FORMATS",
        help="formats, separated by commas: onnx (always written), openvino (to OUT/openvino), "
        "torchscript (to OUT/torchscript), tflite (to OUT/tflite); all are timed and compared with "
        "PyTorch in OUT/cost.csv",
    )
    parser.add_argument(
        "--triton",
        action="store_true",
        help="experimental, not run in a server: also write OUT/triton, a model repository for "
        "NVIDIA's Triton server",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also write OUT/int8 (with --to openvino, OUT/openvino/int8) and measure its accuracy",
    )
    parser.add_argument(
        "--calibration",
        type=count,
        default=256,
        help="number of training images to calibrate --int8 with; default: %(default)s",
    )
    _add_tolerances(parser)
    _add_timing(parser)
    parser.set_defaults(
        command=Command(work, interrupted="interrupted: nothing was written", mixed=True)
    )


def _add_tolerances(parser: Parser) -> None:
    parser.add_argument(
        "--tolerance",
        type=_share,
        default=1e-4,
        help="largest difference from PyTorch, relative to the exit's largest value; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--map-tolerance",
        type=_share,
        default=1e-3,
        help="largest difference of mAP and Rank-1; default: %(default)s",
    )


def _add_timing(parser: Parser) -> None:
    parser.add_argument(
        "--batch-size",
        type=batch_size,
        default=32,
        help="batch size for images/s; default: %(default)s",
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        default=15.0,
        help="seconds to time each format; default: %(default)s",
    )
    parser.add_argument(
        "--repeats",
        type=count,
        default=50,
        help="most timed passes in each of the three rounds; default: %(default)s",
    )
    parser.add_argument(
        "--threads",
        type=partial(count, most=1024),
        default=1,
        help="threads of the network while it is timed; default: %(default)s",
    )


def _formats(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    if unknown := [name for name in found if name not in FORMATS]:
        message = f"unknown format {', '.join(map(repr, unknown))}; available: {', '.join(FORMATS)}"
        raise argparse.ArgumentTypeError(message + TENSORRT * ("tensorrt" in unknown))
    return found


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 0 and 1")
    return number


def work(args: argparse.Namespace) -> int:
    from reid_lab.cli.show import export as show
    from reid_lab.export.checkpoint import export_checkpoint
    from reid_lab.output.console import stderr

    with stderr.status("read the checkpoint ...") as status:
        result = export_checkpoint(
            args.checkpoint,
            args.out,
            to=args.to,
            data=args.overrides,
            int8=args.int8,
            calibration_images=args.calibration,
            triton=args.triton,
            overwrite=args.overwrite,
            tolerance=args.tolerance,
            map_tolerance=args.map_tolerance,
            batch_size=args.batch_size,
            seconds=args.seconds,
            repeats=args.repeats,
            threads=args.threads,
            progress=lambda work: status.update(f"{work} ..."),
        )
    show.outcome(result.folder, result.formats)
    return 0
