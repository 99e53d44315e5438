"""Packages that only some of the suite takes, imported where they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from reid_lab.errors import UserError

DISTRIBUTIONS = {"faiss": "faiss-cpu"}  # where pip has another name than import


class MissingPackageError(UserError):
    """A package that cannot be imported; `fix` installs it."""

    fix = ""


def load(package: str, user: str) -> Any:
    """The module `package`, which `user` needs.

    Raises:
        MissingPackageError: it cannot be imported.
    """
    try:
        return import_module(package)
    except ImportError as error:
        fix = f"pip install {DISTRIBUTIONS.get(package, package)}"
        message = f"{user} needs {package}, which cannot be imported ({error}): {fix}"
        missing = MissingPackageError(message)
        missing.fix = fix
        raise missing from error
