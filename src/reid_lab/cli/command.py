"""What the command lines share: numbers that options take, and how they end."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from reid_lab.errors import UserError


def program(command: str, module: str = "") -> str:
    """How a command was called, for its usage."""
    if Path(sys.argv[0]).stem == "reid-lab":
        return f"reid-lab {command}"
    return f"python -m reid_lab.{module or command}"


def count(text: str, most: int = 10**12) -> int:
    """A whole number from 1."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    if number > most:
        raise argparse.ArgumentTypeError(f"{number} is more than {most}")
    return number


def batch_size(text: str) -> int:
    """Images that a network is given at a time."""
    return count(text, most=4096)


def positive(text: str) -> float:
    """A number above 0, such as seconds or minutes; 86,400 at most, never NaN."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 86400")
    return number


def attempt(work: Callable[[], int], wrong: int = 1, interrupted: str = "interrupted") -> int:
    """The status of `work`; what went wrong is reported in one message.

    Returns:
        1 where a file cannot be read or written, 130 where it was interrupted, 141 where nobody
        reads the output any more, as after `| head`.

    Args:
        wrong: the status of an error in the command or its config.
        interrupted: said then.
    """
    for stream in (sys.stdout, sys.stderr):  # names that the terminal cannot show are escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = work()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 141
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, UserError) or _of_config(error):
            return report_error(error, wrong)
        if isinstance(error, OSError):
            return report_error(error, 1)
        raise


def _of_config(error: Exception) -> bool:
    try:
        from hydra.errors import HydraException  # slow to import
        from omegaconf.errors import OmegaConfBaseException
    except ImportError:  # the runtime needs neither
        return False
    return isinstance(error, (HydraException, OmegaConfBaseException))


def report_error(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


def terminable(command: Callable[[], int]) -> int:
    """The status of `command`, which SIGTERM interrupts as Ctrl-C does, so that it cleans up."""

    terminated: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        terminated.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        status = command()
    finally:
        signal.signal(signal.SIGTERM, before)
    return 128 + signal.SIGTERM if terminated else status


def piped(work: Callable[[], int | None]) -> int:
    """The status of a command whose output may be cut off, as by `| head`, without a traceback."""
    status: int | str | None
    try:
        try:
            status = work()
        except SystemExit as stopped:  # argparse's, after --help
            status = stopped.code
        sys.stdout.flush()
    except BrokenPipeError:
        # what is left in the buffers goes nowhere, else Python complains as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    if isinstance(status, str):
        raise SystemExit(status)
    return status or 0
