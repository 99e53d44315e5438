"""What the command lines share: numbers that options take, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from reid_lab.errors import UserError


def count(text: str) -> int:
    """A number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def attempt(work: Callable[[], int], wrong: int = 1, interrupted: str = "interrupted") -> int:
    """The status of `work`; what went wrong is told in one message.

    Returns:
        1 where a file cannot be read or written, 130 where it was interrupted.

    Args:
        wrong: the status of an error in the command or its config.
        interrupted: said then.
    """
    from hydra.errors import HydraException  # slow to import
    from omegaconf.errors import OmegaConfBaseException

    try:
        return work()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return told(error, wrong)
    except OSError as error:
        return told(error, 1)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130


def told(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status
