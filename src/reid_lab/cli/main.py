"""`reid-lab COMMAND ...`: one command for everything; see `reid-lab --help`.

Shell completion (bash, zsh): `pip install argcomplete`, and in the shell's start-up file
`eval "$(register-python-argcomplete reid-lab)"`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from reid_lab import __version__
from reid_lab.cli import (
    compare,
    cost,
    doctor,
    embed,
    export,
    export_fiftyone,
    export_people,
    frontier,
    gallery,
    runtime,
    serve,
    soften,
    weights,
    workspace,
)
from reid_lab.cli.command import Parser, piped, run_command
from reid_lab.cli.run_help import HELP, help_text

RUN = "run"
EXAMPLES = """\
examples:
  reid-lab run +experiment=demo
  reid-lab run -m +experiment=demo model.lr=1e-4,3e-4
  reid-lab doctor dataset=market1501 dataset.root=/data/Market-1501-v15.09.15
  reid-lab frontier runs/ --max-mul-adds 5e8
  reid-lab gallery build --checkpoint last.ckpt --images people/ --out gallery/
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 1 failed, 2 usage, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    return piped(lambda: dispatch(words))


def dispatch(words: Sequence[str]) -> int:
    parser, commands = tree()
    complete(parser)
    if not words:
        parser.print_help()
        return 2
    name, *rest = words
    if name == RUN:
        return run(rest)
    if name in commands:
        return run_command(commands[name], rest)
    if name in ("-h", "--help", "--version"):
        parser.parse_args([name])
    if "=" in name or name.startswith("-"):  # without `run`: older usage, and DDP's processes
        return run(words)
    close = get_close_matches(name, commands, 1)
    hint = f"did you mean {close[0]}?" if close else f"available: {', '.join(commands)}"
    print(f"error: unknown command {name}; {hint}", file=sys.stderr)
    return 2


def tree() -> tuple[Parser, dict[str, Parser]]:
    """The parser of `reid-lab`, and those of its commands by name."""
    parser = Parser(
        "reid-lab",
        description="Person re-identification under a compute budget.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands (each has --help)", metavar="COMMAND")
    commands.add_parser(RUN, help="train and test by a config; -m runs a sweep", add_help=False)
    for module in (
        doctor,
        cost,
        frontier,
        compare,
        gallery,
        embed,
        weights,
        export,
        export_fiftyone,
        export_people,
        runtime,
        serve,
        soften,
        workspace,
    ):
        module.add(commands)
    return parser, dict(commands.choices)


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell if it asks for completions, and argcomplete is installed."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)


def run(words: Sequence[str]) -> int:
    """Hydra's entry, `python -m reid_lab`."""
    if {*HELP} & {*words}:
        print(help_text(words), end="")
        return 0
    from reid_lab.__main__ import main as hydra_main  # slow to import

    sys.argv[1:] = words  # where Hydra looks for them
    hydra_main()  # raises SystemExit
    return 0


if __name__ == "__main__":
    sys.exit(main())
