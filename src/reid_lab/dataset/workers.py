"""Worker processes that exit when their parent does and leave Ctrl-C to it."""

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
    """Return a pool whose processes exit when this process does, even if it is killed.

    Submit the work within `interrupts_ignored`.
    """
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=follow_parent)


def follow_parent(worker: int = 0) -> None:
    """Set up a worker process: exit with the parent, and leave Ctrl-C to it.

    Ctrl-C reaches all processes of a terminal. Connections that break while the parent handles it,
    for example when a batch is handed over, print no traceback.

    torch's own check (every 5 s, whether the parent's pid is still the first one seen) keeps a
    worker alive forever if its parent was killed before the worker saw the pid.

    Args:
        worker: the worker's number; a DataLoader passes it to its `worker_init_fn`. Unused.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _report_all_but_broken_connections
    threading.Thread(target=_exit_with_parent, daemon=True).start()


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C while processes start: they inherit that until `follow_parent` has run."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _report_all_but_broken_connections(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # without clean-up: nothing waits for this worker's results
