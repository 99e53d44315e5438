"""The tests of a changed tree, run in a fork of this process, which has imported the libraries."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from experiments.mutation.executed import Recorder

# what the tests import and no mutant changes: loaded once, before a fork for each mutant
LOADED = [
    "torch",
    "torchvision",
    "pytorch_lightning",
    "torchmetrics",
    "hydra",
    "scipy",
    "faiss",
    "matplotlib",
    "hypothesis",
    "pydantic",
    "onnxruntime",
    "torch.utils.flop_counter",
]
SURVIVED, KILLED, TIMEOUT = "survived", "killed", "timeout"


def load_libraries() -> None:
    for name in LOADED:
        importlib.import_module(name)


class Trial:
    """Tests that run in a separate process until the first failure.

    Args:
        tree: a tree of the repository.
        tests: node ids in order; only their files are collected.
        seconds: limit on CPU time, which does not depend on other processes. Longer tests hang.
    """

    def __init__(self, tree: Path, tests: Sequence[str], seconds: float) -> None:
        self.output = tree / "mutation.log"
        self.begun = time.monotonic()
        self.limit = seconds
        files = sorted({test.split("::")[0] for test in tests})
        self.pid = _fork(lambda: _run(tree, files, self.output, [Chosen(tests)], int(seconds) + 1))

    def ended(self) -> dict[str, str] | None:
        """None while it runs; then the outcome, the first test that failed, and seconds."""
        seconds = time.monotonic() - self.begun
        if seconds > 10 * self.limit:  # it sleeps
            os.kill(self.pid, signal.SIGKILL)
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        code = os.waitstatus_to_exitcode(status)
        test = first_failure(self.output)
        return {"outcome": outcome_of(code), "test": test, "seconds": f"{seconds:.1f}"}


def outcome_of(code: int) -> str:
    """What the exit code of a process means."""
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return SURVIVED
    return TIMEOUT if -code in (signal.SIGXCPU, signal.SIGKILL) else KILLED


def first_failure(output: Path) -> str:
    text = output.read_text() if output.exists() else ""
    noticed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", text, re.MULTILINE)
    return noticed[1] if noticed else ""


def measure(
    tree: Path,
    tests: Sequence[str],
    packages: Iterable[str],
    file: Path,
    known: Collection[str] = (),
) -> None:
    """Write which tests execute which line of `packages`; all must pass where nothing is changed.

    Args:
        known: tests that are not run.

    Raises:
        SystemExit: a test fails.
    """
    output = tree / "mutation.log"

    def recorded() -> int:
        sys.dont_write_bytecode = False  # for the mutants
        recorder = Recorder(tree, packages, known)
        status = _run(tree, tests, output, [recorder])
        if not status:
            recorder.executed().save(file)
        return status

    if os.waitpid(_fork(recorded), 0)[1]:
        raise SystemExit(f"{first_failure(output) or output}: fails without any change")


class Chosen:
    """Plugin of pytest that runs these tests of those that it collects, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.rank = {test: number for number, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = [item for item in items if item.nodeid in self.rank]
        items[:] = sorted(kept, key=lambda item: self.rank[item.nodeid])


def _fork(work: Callable[[], int]) -> int:
    """The process that does some work and exits with its status."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _run(
    tree: Path, tests: Sequence[str], output: Path, plugins: list[object], seconds: int = 0
) -> int:
    """pytest's exit status, on the packages of `tree` instead of those that are imported here."""
    if seconds:
        import resource  # not on Windows, where there is no fork either

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    os.chdir(tree)
    paths = [str(tree / "src"), str(tree)]
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS="1")
    sys.path[:0] = paths
    for name in [n for n in sys.modules if n.split(".")[0] in ("reid_lab", "experiments")]:
        del sys.modules[name]
    with output.open("w") as log, redirect_stdout(log), redirect_stderr(log):
        os.dup2(log.fileno(), 1)  # what does not go through sys.stdout
        os.dup2(log.fileno(), 2)
        options = ["-n0", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
        options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
        return int(pytest.main([*options, *tests], plugins=plugins))
