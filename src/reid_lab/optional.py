"""Imports by name: packages that few features need, and the public names of our own packages."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from reid_lab.errors import UserError

# distributions whose name is not that of the module
DISTRIBUTIONS = {"faiss": "faiss-cpu", "ai_edge_litert.interpreter": "ai-edge-litert"}


class MissingPackageError(UserError):
    """A package cannot be imported; `fix` is the command that installs it."""

    fix = ""


def load(package: str, user: str, option: str = "") -> Any:
    """Import and return the module `package`.

    Args:
        user: the feature that needs the package, for the error message.
        option: the same for the message of a command, if it differs.

    Raises:
        MissingPackageError: the package cannot be imported.
    """
    try:
        return import_module(package)
    except ImportError as error:
        fix = f"pip install {DISTRIBUTIONS.get(package, package)}"
        why = f"needs {package}, which cannot be imported ({error}): {fix}"
        missing = MissingPackageError(f"{user} {why}")
        missing.command_text = f"{option or user} {why}"
        missing.fix = fix
        raise missing from error


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package that imports its public names on first use.

    Args:
        package: the package's `__name__`.
        homes: public name -> the module that defines it, relative to the package: `stream`, or
            `.cost.currency` beside the package.
    """

    def get_name(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get_name, list_names


def concrete_classes(package: str, base: type) -> dict[str, type]:
    """Import the modules of a package and return the classes that they define, by name.

    Abstract classes, private ones and `base` are left out.

    Args:
        package: the package's `__name__`; its subpackages are not searched.
        base: the class that the others inherit from.
    """
    found: dict[str, type] = {}
    for module in iter_modules(sys.modules[package].__path__, f"{package}."):
        for name, part in vars(import_module(module.name)).items():
            if not inspect.isclass(part) or part.__module__ != module.name or name[0] == "_":
                continue
            if issubclass(part, base) and part is not base and not inspect.isabstract(part):
                found[name] = part
    return dict(sorted(found.items()))
