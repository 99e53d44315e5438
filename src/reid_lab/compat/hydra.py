"""Hydra's command line and jobs where it has no public way; one function for each use.

Everything that reads a private name of Hydra is in this module.
"""

from __future__ import annotations

from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobReturn


def option_names() -> list[str]:
    """The options of Hydra's command line that begin with two dashes, such as `--multirun`."""
    return [name for name in get_args_parser()._option_string_actions if name[:2] == "--"]


def error_of(job: JobReturn) -> Any:
    """What a failed job raised; of another one, what it returned.

    The property `return_value` of a failed job writes to stderr and raises.
    """
    return job._return_value
