"""The subcommands of `reid-lab` as functions: words -> exit status, in this process."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence

from reid_lab.cli.command import parse
from reid_lab.cli.main import main, tree


def _command(name: str) -> Callable[[Sequence[str]], int]:
    return lambda words: main([name, *words])


doctor, cost, frontier, gallery = map(_command, ("doctor", "cost", "frontier", "gallery"))
export, runtime, workspace = map(_command, ("export", "runtime", "workspace"))
embed, soften, weights = map(_command, ("embed", "soften", "weights"))
export_fiftyone = _command("export-fiftyone")
export_people = _command("export-people")


def arguments(name: str, words: Sequence[str]) -> Namespace:
    """The arguments that a command would get."""
    return parse(tree()[1][name], words)
