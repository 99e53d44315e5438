"""How every command line ends: one message, a status, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

import pytest

from reid_lab.cli import command
from reid_lab.cli.command import attempt
from reid_lab.cli.main import RUN, main, tree
from reid_lab.errors import UserError
from reid_lab.interrupt import Interrupted

# command -> words that are enough, and what is interrupted
COMMANDS = {
    "compare": ("a b", "reid_lab.frontier.compare.compare_runs"),
    "cost": ("+experiment=demo", "reid_lab.profiling.measure.measure_costs"),
    "doctor": ("dataset=folder", "reid_lab.doctor.examine.examine_data"),
    "embed": (
        "--checkpoint a.ckpt --images b --out c.npz",
        "reid_lab.gallery.embedded_file.read_images",
    ),
    "export": ("--checkpoint a.ckpt --out b", "reid_lab.export.checkpoint.export_checkpoint"),
    "export-fiftyone": ("g --out x", "reid_lab.gallery.fiftyone_csv.export_fiftyone"),
    "export-people": ("p --out x", "reid_lab.serve.people_export.export_people"),
    "frontier": ("runs", "reid_lab.frontier.draw.draw_frontier"),
    "gallery": ("info g", "reid_lab.cli.gallery_content.GalleryRows.open_rows"),
    "runtime": ("g a.jpg --out o.npz", "reid_lab.runtime.model.Model"),
    "serve": ("--model g --people p", "reid_lab.serve.open.Model"),
    "soften": (
        "--checkpoint a.ckpt --images b --out c",
        "reid_lab.gallery.soften.read_images",
    ),
    "weights": ("fetch mobilenetv2", "reid_lab.backbone.weights.fetch"),
    "workspace": ("a/b", "reid_lab.run.workspace.workspace"),
}


def interrupt(*_: object, **__: object) -> int:
    raise KeyboardInterrupt


def test_every_command_is_tried() -> None:
    assert tree()[1].keys() - {RUN} == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, work = COMMANDS[name]
    monkeypatch.setattr(work, interrupt)
    assert main([name, *words.split()]) == 130
    told = capsys.readouterr().err
    assert told.startswith(("interrupted", "stopped")) and told.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handled_as_in_a_run(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """It raises `Interrupted`, which no `except Exception` takes, and all is then as before."""
    cleaned = []

    def work(args: Namespace) -> int:
        try:
            signal.raise_signal(number)
        except Interrupted as error:
            cleaned.append(error.code)
            raise RuntimeError("a loader complains of its workers") from None
        return 0

    parser = command.Parser("reid-lab test")
    parser.set_defaults(command=command.Command(work, interrupted="interrupted: try again"))
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    for _ in range(2):  # a command before leaves nothing behind
        assert command.run_command(parser, []) == 128 + number
        assert capsys.readouterr().err == "interrupted: try again\n"
    assert cleaned == [128 + number] * 2
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_second_signal_ends_a_command_at_once() -> None:
    code = """
import os, signal, time
from reid_lab.cli.command import Command, Parser, run_command
def work(args):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        print("cleaning up", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
parser = Parser("reid-lab test")
parser.set_defaults(command=Command(work))
run_command(parser, [])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaning up\n", "")


@pytest.mark.parametrize(
    ("error", "status"),
    [(UserError("wrong"), 7), (OSError("disk"), 1), (PermissionError(13, "no", "f"), 1)],
)
def test_what_a_user_can_cause_is_one_line(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert attempt(work, wrong=7) == status
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def work() -> int:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError):
        attempt(work)


def test_a_false_accept_rate_is_above_0_and_at_most_1() -> None:
    assert [command.accept_rate(text) for text in ("1", "1e-6")] == [1, 1e-6]
    for text in ("0", "-1", "1.0001", "nan", "inf"):
        with pytest.raises(ArgumentTypeError, match="give one with 0 < rate <= 1"):
            command.accept_rate(text)
    with pytest.raises(ArgumentTypeError, match="'x' is not a number"):
        command.accept_rate("x")


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("run", ["attempt", "piped"])
def test_nobody_reads_the_output(run: str) -> None:
    lines = "print('x' * 9999, flush=True) or 0 for _ in range(99)"
    code = f"from reid_lab.cli.command import {run}; exit({run}(lambda: sum({lines})))"
    source = str(Path(command.__file__).parents[2])
    done = subprocess.run(
        f"{sys.executable} -c {code!r} | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_name_that_the_terminal_cannot_show() -> None:
    code = "from reid_lab.cli.command import attempt; exit(attempt(lambda: print('\\u884c') or 0))"
    source = str(Path(command.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": source, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "\\u884c\n")
