"""`reid-lab workspace`: set up a W&B workspace for the runs."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers

EXAMPLES = """\
examples:
  reid-lab workspace me/reid --frontier frontier/frontier.csv
  reid-lab workspace me/reid --spec workspace.json
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "workspace",
        help="set up a W&B workspace for the runs",
        description="Save a W&B workspace for reid_lab's runs, and log the frontier's table.",
        epilog=EXAMPLES,
    )
    parser.add_argument("project", type=_project, metavar="ENTITY/PROJECT")
    parser.add_argument("--frontier", type=Path, help="a frontier.csv to log as a table")
    parser.add_argument(
        "--spec", type=Path, help="write the workspace to this JSON file, send nothing"
    )
    parser.add_argument("--columns", nargs="+", help="config keys for the parallel coordinates")
    parser.set_defaults(command=Command(work))


def work(args: argparse.Namespace) -> int:
    from reid_lab.run.workspace import CONFIG, save_workspace

    entity, project = args.project.split("/")
    written = save_workspace(
        entity,
        project,
        frontier=args.frontier,
        columns=args.columns or CONFIG,
        spec=args.spec,
    )
    if written is not None:
        print(f"workspace: {written}")
    return 0


def _project(text: str) -> str:
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", text):
        raise argparse.ArgumentTypeError(f"{text} is not ENTITY/PROJECT")
    return text
