"""Import on first use: third-party packages that few features need, and a package's own names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from reid_lab.errors import UserError

DISTRIBUTIONS = {"faiss": "faiss-cpu"}  # distributions whose name is not that of the module


class MissingPackageError(UserError):
    """A package that cannot be imported; `fix` is the command that installs it."""

    fix = ""


def load(package: str, user: str) -> Any:
    """Import and return the module `package`.

    Args:
        user: what needs the package, for the error message.

    Raises:
        MissingPackageError: the package cannot be imported.
    """
    try:
        return import_module(package)
    except ImportError as error:
        fix = f"pip install {DISTRIBUTIONS.get(package, package)}"
        message = f"{user} needs {package}, which cannot be imported ({error}): {fix}"
        missing = MissingPackageError(message)
        missing.fix = fix
        raise missing from error


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package that imports its public names on first use.

    Args:
        package: the package's `__name__`.
        homes: public name -> the module that defines it, relative to the package.
    """

    def get_name(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get_name, list_names
