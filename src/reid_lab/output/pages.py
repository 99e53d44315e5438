"""HTML pages from the templates of our packages."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template


def template(package: str, file: str, /, **filters: Callable[..., Any]) -> Template:
    """The template in a file of a package; values are escaped, unknown names are errors."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters)
    return environment.from_string(package_text(package, file))


def package_text(package: str, file: str) -> str:
    """The text of a file of a package."""
    return files(package).joinpath(file).read_text("utf-8")
