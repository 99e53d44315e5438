"""`reid-lab COMMAND ...`: one command for all that the suite does; see `reid-lab --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from reid_lab.cli.command import piped

RUN = "run"
COMMANDS = {  # name -> module, what it does
    RUN: ("reid_lab.__main__", "train and test by a config; -m runs a sweep"),
    "doctor": ("reid_lab.doctor.__main__", "check a data set before training"),
    "cost": ("reid_lab.cost.__main__", "measure what each exit costs on this machine"),
    "frontier": ("reid_lab.frontier.__main__", "compare finished runs under a budget"),
    "gallery": ("reid_lab.gallery.__main__", "embed a folder of images, find people in it"),
    "export": ("reid_lab.export.__main__", "write a checkpoint as ONNX"),
    "runtime": ("reid_lab.runtime.__main__", "embed images with an exported network"),
    "workspace": ("reid_lab.dashboard", "set up a W&B workspace for the runs"),
}
EXAMPLES = """\
examples:
  reid-lab run +experiment=demo
  reid-lab run -m +experiment=demo model.lr=1e-4,3e-4
  reid-lab doctor market1501 /data/Market-1501-v15.09.15
  reid-lab frontier runs/ --max-mul-adds 5e8
  reid-lab gallery build --checkpoint last.ckpt --images people/ --out gallery/
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The status of the command; 2: there is no such command."""
    words = list(sys.argv[1:] if argv is None else argv)
    return piped(lambda: dispatch(words))


def dispatch(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    name, *rest = words
    if name in COMMANDS:
        return call(name, rest)
    if "=" in name or name.startswith("-"):  # as before there were commands, and in DDP's processes
        return call(RUN, words)
    close = get_close_matches(name, COMMANDS, 1)
    hint = f"did you mean {close[0]}?" if close else f"available: {', '.join(COMMANDS)}"
    print(f"error: unknown command {name}; {hint}", file=sys.stderr)
    return 2


def call(name: str, words: Sequence[str]) -> int:
    module = import_module(COMMANDS[name][0])  # only what is asked for
    if name == RUN:
        sys.argv[1:] = words  # where Hydra looks for them
        return int(module.main() or 0)
    return int(module.main(words))


def usage() -> str:
    """What `--help` prints."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {does}" for name, (_, does) in COMMANDS.items())
    return (
        "usage: reid-lab COMMAND ...\n\n"
        "Person re-identification under a compute budget.\n\n"
        f"commands (each has --help):\n{listed}\n\n{EXAMPLES}"
    )


if __name__ == "__main__":
    sys.exit(main())
