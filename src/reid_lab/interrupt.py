"""Ctrl-C and SIGTERM: one message, and the status that shells expect."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TIME_IS_UP = 75  # the exit status of a deadline: try again later (EX_TEMPFAIL)
AGAIN = 0.05  # seconds until a signal that was lost is sent again

_received: int | None = None
_taker: Callable[[Interrupted], None] | None = None  # takes the first signal, see `hand_signals_to`
_again = False  # it was lost, and is sent again


class Interrupted(SystemExit):
    """The command was stopped by a signal. `code` is 128 plus the signal's number."""

    def __init__(self, code: int, message: str = "interrupted") -> None:
        super().__init__(code)
        self.message = message


def raise_on_signals() -> None:
    """Let the first Ctrl-C or SIGTERM raise `Interrupted`; a second one ends the process at once.

    For the main thread of a command line.
    """
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _raise)
        sys.unraisablehook = _send_again


@contextmanager
def raising_on_signals() -> Iterator[None]:
    """`raise_on_signals` for a part of a process, after which all is as before.

    In other threads than the main one, and inside of another such part, it does nothing.
    """
    global _received, _again
    numbers = [*SIGNALS, *filter(None, [getattr(signal, "SIGCHLD", None)])]
    before = {number: signal.getsignal(number) for number in numbers}
    main = threading.current_thread() is threading.main_thread()
    if not main or before[signal.SIGINT] is _raise:
        yield
        return
    hook = sys.unraisablehook
    raise_on_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        sys.unraisablehook = hook
        _received, _again = None, False


def hand_signals_to(taker: Callable[[Interrupted], None] | None) -> None:
    """Call `taker` with the first signal's `Interrupted` instead of raising it; None: raise it.

    For work that is saved at its next step. A second signal ends the process all the same.
    """
    global _taker
    _taker = taker


def leave_signals() -> None:
    """Let signals end the process at once again: nothing remains to be cleaned up."""
    for number in SIGNALS:
        if signal.getsignal(number) is _raise:
            signal.signal(number, signal.SIG_DFL)


def end_with_parent() -> None:
    """End this process when the one that started it is gone, even while it waits for others.

    For the processes of a run that are not its first; on Windows a parent's end is not seen.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def status_of(error: BaseException) -> int | None:
    """The status of a command that an error ended, if it was interrupted; None if it was not.

    Whatever comes after a signal counts: a loader, for one, complains of workers that the same
    signal ended.
    """
    if isinstance(error, Interrupted):
        return int(str(error.code))
    if _received is not None:
        return 128 + _received
    # Lightning makes SystemExit of Ctrl-C, and raises one without a code on SIGTERM
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return 128 + signal.SIGTERM if isinstance(error, SystemExit) and error.code is None else None


def _send_again(lost: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in finalisers and in the hooks of a fork: interrupt again.

    What else is lost after a signal follows from it, as torch's error about ended workers.
    """
    global _again
    if _received is None:
        sys.__unraisablehook__(lost)
    elif isinstance(lost.exc_value, Interrupted):
        _again = True
        threading.Timer(AGAIN, os.kill, (os.getpid(), _received)).start()


def _raise(number: int, frame: FrameType | None) -> None:
    global _received, _again
    if _received is not None and not _again:  # a second signal: cleaning up may take long
        os._exit(128 + number)
    try:
        _forget_children()
    finally:  # torch's handler may raise in the moment before it is replaced
        first, _received, _again = _received is None, number, False
        interrupted = Interrupted(128 + number)
        if _taker is None or not first:
            raise interrupted
        _taker(interrupted)


def _forget_children() -> None:
    """Replace the handler in which torch raises an error for loader workers that have ended.

    The same signal ends them, and the error could be raised anywhere, in `_send_again` too.
    """
    if hasattr(signal, "SIGCHLD") and callable(signal.getsignal(signal.SIGCHLD)):
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
