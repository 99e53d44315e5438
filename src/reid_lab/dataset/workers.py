"""Worker processes that end with the process that started them, and leave Ctrl-C to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from types import TracebackType


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """A pool whose processes end when this one does, even if it is killed.

    Submit the work within `undisturbed`.
    """
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=follow_parent)


def follow_parent() -> None:
    """Run first in a worker: end with the parent; an interrupt is the parent's to handle."""
    ignore_interrupts()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def ignore_interrupts(worker: int = 0) -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the parent.

    What is left in the middle of then, such as handing over a batch, is no error of the worker's.

    Args:
        worker: its number, as a DataLoader's `worker_init_fn` is called with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _all_but_broken_off


def _all_but_broken_off(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C while processes are started: they inherit that until they can see to it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody waits for what it was doing
