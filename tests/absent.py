"""Environments that lack packages."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

# Python imports a module of this name when it starts, in processes that it starts, too
SITECUSTOMIZE = """
import sys
from importlib.machinery import PathFinder

ABSENT = {absent!r}
ASKED = set()

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if (root := name.partition(".")[0]) in ABSENT:
            ASKED.add(root)
            return None
        return super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context):
        if (context.name or "").partition("-")[0] in ABSENT:
            return iter(())
        return super().find_distributions(context)

sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
"""


def without(packages: Iterable[str], folder: Path) -> dict[str, str]:
    """The environment of a process in which `packages` (as imported) are not installed.

    `sitecustomize.ASKED` holds those that were looked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(absent=sorted(packages)))
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
