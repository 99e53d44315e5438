"""Runs command lines as `python -m MODULE` does, in a fraction of the time.

A parent imports torch and its friends once, when the first test connects to it, and forks a child
for every test process, which forks one for every command. That child leaves the parent's code and
becomes the command, in a session of its own: it may crash, hang, or be killed. Where the platform
cannot fork safely, commands are started the ordinary way.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAVY = (
    *("torch", "pytorch_lightning", "hydra", "faiss", "matplotlib.pyplot", "scipy.stats"),
    *("reid_lab.run.run", "reid_lab.config.build", "reid_lab.report", "reid_lab.doctor.examine"),
    *("reid_lab.cli.gallery_actions", "reid_lab.export.checkpoint", "reid_lab.frontier.tables"),
    *("reid_lab.runtime.files", "reid_lab.profiling.measure"),
)
MEMORY = 6 << 30  # bytes that a command may take beside what the parent has mapped


@dataclass
class Running:
    """A command that was started; its process is also its session and process group."""

    pid: int
    output: Path
    launcher: Launcher
    status: int | None = None  # as far as it was waited for

    def wait(self, timeout: float) -> int | None:
        """Its exit status, negative for a signal; None if it still runs after `timeout`."""
        if self.status is None:
            self.status = self.launcher.ask({"pid": self.pid, "timeout": timeout})["status"]
        return self.status

    def kill(self, by: int) -> None:
        """Send a signal to the main process alone, as a user or the system would."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, by)

    def left(self, patience: float = 5) -> list[str]:
        """Command lines of processes that outlive it by `patience` seconds."""
        deadline = time.monotonic() + patience
        while (found := members(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def text(self) -> str:
        return self.output.read_text(errors="replace")


class Launched:
    """A command that was started the ordinary way."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process, self.pid, self.output = process, process.pid, output

    def wait(self, timeout: float) -> int | None:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self, by: int) -> None:
        self.process.send_signal(by)

    def text(self) -> str:
        return self.output.read_text(errors="replace")


class Starter:
    """What `Launcher` does, where the platform cannot fork safely: a process for each command."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        output: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Launched:
        command = [sys.executable, *([] if module.endswith(".py") else ["-m"]), module, *arguments]
        own = {**self.environment, **(environment or {})}
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=folder, env=own, stdout=file, stderr=subprocess.STDOUT
            )
        return Launched(process, output)

    def close(self) -> None:
        pass


class Parent:
    """The process that all commands are forked from, with `environment` instead of the caller's.

    It ends with its caller.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("")  # Linux chooses a name, which is no file
        listener.listen()
        self.address: str = listener.getsockname().decode("latin-1")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.launcher", str(listener.fileno())],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
        listener.close()

    def close(self) -> None:
        self.process.communicate()


class Launcher:
    """Has commands started by the `Parent` of this address."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address.encode("latin-1"))
        self.stream = self.socket.makefile("rw", encoding="utf-8")

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        output: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Running:
        """Start `python -m module arguments...` in `folder`; what it prints goes to `output`.

        A module that ends with .py is a script in `folder`.
        """
        request = {"module": module, "arguments": list(arguments), "folder": str(folder)}
        request |= {"output": str(output), "environment": dict(environment or {})}
        return Running(self.ask(request)["pid"], output, self)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.stream.write(json.dumps(request) + "\n")
        self.stream.flush()
        return json.loads(self.stream.readline())

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


def members(session: int) -> list[str]:
    """Command lines of the processes of a session, but for those that only wait to be reaped."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state not in "ZX":
                words = (folder / "cmdline").read_bytes().split(b"\0")
                found.append(b" ".join(words).decode(errors="replace").strip())
    return found


def accept(listener: socket.socket) -> socket.socket:
    """Wait for test processes; returns in the child that is forked for one, with its connection."""
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:  # it ended
            os._exit(0)  # without what libraries print about their own leaks
        connection, _ = listener.accept()
        if "torch" not in sys.modules:
            warm_up()
        if not os.fork():
            listener.close()
            return connection
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def warm_up() -> None:
    """Import what commands take."""
    for name in HEAVY:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # children share what is never collected


def serve(connection: socket.socket) -> dict[str, Any]:
    """Answer a test process; returns in the child that is forked for a command, which it gives."""
    stream = connection.makefile("rw", encoding="utf-8")
    for line in stream:
        request = json.loads(line)
        if "pid" in request:
            answer = {"status": _wait(**request)}
        elif pid := os.fork():
            answer = {"pid": pid}
        else:
            os.close(connection.detach())
            return request
        stream.write(json.dumps(answer) + "\n")
        stream.flush()
    os._exit(0)


def become(request: Mapping[str, Any]) -> None:
    """Turn this child into the command, and end as it ends."""
    prepare(request)
    status: Any = 0
    try:
        if request["module"].endswith(".py"):
            runpy.run_path(request["module"], run_name="__main__")
            raise SystemExit(0)
        package, _, tool = request["module"].partition(".")
        module = request["module"]
        if package == "reid_lab" and tool:  # of `reid-lab`
            sys.argv.insert(1, tool)
            module = "reid_lab.cli"
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    # without taking down what was imported, which takes longer than most commands
    os._exit(1 if isinstance(status, str) else int(status or 0) & 255)


def prepare(request: Mapping[str, Any]) -> None:
    """A session, a folder, an output and arguments of its own."""
    from tests import undrawn

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a `nohup` or `&`
    os.chdir(request["folder"])
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND),
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(1, 2)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    os.environ.update(request["environment"])
    if undrawn.UNDRAWN.items() <= request["environment"].items():
        undrawn.FigureCanvasAgg.print_png = undrawn.print_png  # type: ignore
    set_rank()
    tempfile.tempdir = None
    import resource  # which Windows does not have, nor does it get here

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    sys.argv = [request["module"], *request["arguments"]]
    sys.path.insert(0, request["folder"])  # as python -m does


def set_rank() -> None:
    """What Lightning reads from the environment as it is imported."""
    from lightning_fabric.utilities.rank_zero import _get_rank, rank_zero_only

    rank_zero_only.rank = _get_rank() or 0  # type: ignore[attr-defined]


def _wait(pid: int, timeout: float) -> int | None:
    deadline = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)


if __name__ == "__main__":
    become(serve(accept(socket.socket(fileno=int(sys.argv[1])))))
