"""A miniature of the full-size studies: packed, unpacked, run in slices, collected."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.full import slices
from experiments.full.__main__ import main
from experiments.full.bundle import bundle, closure
from experiments.full.estimate import estimate, remaining
from experiments.full.slices import Queue
from experiments.full.studies import STUDIES, StudyRun, all_runs, command, missing_input
from experiments.full.tables import accuracy, collect, gather, thinned
from reid_lab.config.overrides import composed
from reid_lab.config.settings import check_settings
from reid_lab.errors import UserError
from tests.absent import without
from tests.launcher import Launcher, Starter
from tests.undrawn import UNDRAWN

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
MINI = (
    *("dataset=market1501", "dataset.batch_size=4", "dataset.transforms.height=64"),
    *("dataset.transforms.width=32", "model.iterations=12", "trainer.val_check_interval=6"),
    *("trainer.log_every_n_steps=1", "trainer.accelerator=cpu", "trainer.precision=32-true"),
    *("threads=1", "callbacks.cost=null", "callbacks.ranked_lists=null"),
    *("callbacks.attention=null", "callbacks.verification=null", "callbacks.stream.points=4"),
    *("callbacks.checkpoint.every_n_train_steps=2", "callbacks.throughput=null"),
)
ONE = ("--only", "han_small", "--seeds", "0", "--minutes", "9")
SOON = "callbacks.deadline.minutes=1e-4"  # after the first step
VARYING = ("elapsed_s", "commit")
# has all but these three, of which one is there as source only
HAVE = ["torch", "torchvision", "pytorch-lightning", "torchmetrics", "scipy", "h5py", "filelock"]
HAVE += ["pillow", "simplejpeg", "pydantic", "annotated-types", "rich", "matplotlib", "jinja2"]
HAVE += ["pyyaml", "numpy", "packaging"]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in VARYING} for row in csv.DictReader(file)]


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A slice on the machine without network."""
    command = [sys.executable, "start.py", "--install-to", "site", "--", *ONE, *words]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        env = without({"wandb", "faiss", "botorch"}, folder / "absent")
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, people: Path) -> Path:
    out = tmp_path_factory.mktemp("packed")
    try:
        bundle(out, [f"dataset.root={people}", *MINI], {}, 1, PYTHON, HAVE)
    except UserError as error:
        pytest.skip(f"no package index: {error}")
    return out


def test_slices_with_a_kill_between_them_equal_one_go(
    packed: Path,
    people: Path,
    tmp_path: Path,
    starter: Launcher | Starter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, words = tmp_path / "whole", (f"dataset.root={people}", *MINI, *ONE)

    def execute(args: Sequence[str], run: StudyRun, queue: Queue) -> int | None:
        module, *given = args
        run.folder.mkdir(parents=True)
        output = run.folder / "output.txt"
        return starter.start(module, given, whole, output, UNDRAWN).wait(queue.left)

    whole.mkdir()
    monkeypatch.setattr(slices, "execute", execute)
    assert main([*words, "--runs", str(whole / "runs"), "--out", str(whole / "out")]) == 0

    first = start(packed, SOON)
    printed, _ = first.communicate(timeout=300)
    assert first.returncode == 0 and "han_small/seed0: part, at step 1 " in printed, printed
    assert {"hydra", "omegaconf", "antlr4", "reid_lab"} <= {
        p.name for p in (packed / "site").iterdir()
    }
    last = packed / "runs/full/han_small/seed0/checkpoints/last.ckpt"
    written = last.stat().st_mtime_ns
    second = starter.start("experiments.full", words, packed, tmp_path / "second.txt")
    while last.stat().st_mtime_ns == written and second.wait(0) is None:
        time.sleep(0.01)
    os.killpg(second.pid, signal.SIGKILL)
    assert second.wait(60) is not None
    third = start(packed)
    printed, _ = third.communicate(timeout=300)
    assert third.returncode == 0 and "han_small/seed0: done, at step 12 " in printed, printed

    back, study = packed / "runs/full_tables", tmp_path / "study"
    collect(back, study)
    for name in ("results", "stream", "curves"):
        assert table(study / f"{name}.csv") == table(whole / "out" / f"{name}.csv")
    attempts = table(study / "slices.csv")
    assert [(row["status"], row["steps"]) for row in attempts] == [("75", "1"), ("0", "12")]
    assert attempts[1]["from_step"] != "1"  # of the killed one


def test_parts_that_are_missing_or_damaged_are_named(packed: Path, tmp_path: Path) -> None:
    for path in packed.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    last = sorted(tmp_path.glob("part.*"))[-1]
    whole = last.read_bytes()
    assert len(whole) <= 2**20 and last.name != "part.000"
    last.unlink()
    words = [sys.executable, str(tmp_path / "start.py"), "--to", str(tmp_path / "there")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.endswith(f"{tmp_path}: {last.name}\n")
    last.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and f"{last} is damaged" in done.stderr


def test_a_bundle_needs_a_data_set(tmp_path: Path) -> None:
    for words in ([], [f"dataset.root={tmp_path / 'nowhere'}"]):
        with pytest.raises(UserError, match="dataset.root=DIR"):
            bundle(tmp_path / "out", words, {}, 60, "3.12", [])


def test_what_a_package_needs_is_there_with_it() -> None:
    assert {"torch", "numpy", "sympy"} <= closure(["torchvision"])
    assert closure(["no-such-package"]) == {"no-such-package"}


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
@pytest.mark.parametrize("cuda", [False, True])
def test_every_study_is_a_config_that_can_be_run(tmp_path: Path, study: object, cuda: bool) -> None:
    run = next(run for run in all_runs(tmp_path) if run.study == study)
    weights = {run.study.name: tmp_path / "weights.pth"}
    module, *words = command(run, tmp_path, weights, ["dataset.root=."], 9, cuda)
    words = [word for word in words if not word.startswith("hydra.")]
    cfg = composed([*words, f"run_dir={run.folder}"])
    assert module == "reid_lab" and not check_settings(cfg)
    assert "read_cuhk03_np" in str(cfg.dataset.reader)
    assert cfg.callbacks.deadline.minutes == 9


def test_seeds_come_before_long_studies_and_after_other_studies(tmp_path: Path) -> None:
    names = [run.name for run in all_runs(tmp_path)]
    assert names[:2] == ["han_small/seed0", "han_medium/seed0"]
    assert names.index("han_small/seed1") > names.index("jlml_scratch/seed0")
    assert names[-1] == "pla_search/seed0"
    assert [run.name for run in all_runs(tmp_path, ["han_large"], [1])] == ["han_large/seed1"]
    with pytest.raises(UserError, match="unknown study han_huge; available: han_small"):
        all_runs(tmp_path, ["han_huge"])


def test_what_is_collected_is_not_run_again(tmp_path: Path) -> None:
    names = ["han_small/seed0", "han_large/seed0"]
    by_name = {run.name: run for run in all_runs(tmp_path, collected=names)}
    assert [name for name, run in by_name.items() if run.state == "done"] == names
    student = by_name["distill_han/seed0"]  # whose teacher's checkpoint is elsewhere
    assert missing_input(student, tmp_path, {}) == "han_large/seed0"


def test_a_run_needs_its_weights_and_its_teacher(tmp_path: Path) -> None:
    by_name = {run.study.name: run for run in all_runs(tmp_path, seeds=[0])}
    assert missing_input(by_name["dare_resnet50"], tmp_path, {}) == "--weights dare_resnet50=FILE"
    student, teacher = by_name["distill_han"], by_name["han_large"]
    assert missing_input(student, tmp_path, {}) == "han_large/seed0"
    (teacher.folder / "results").mkdir(parents=True)
    (teacher.folder / "results/summary.json").write_text("{}")
    assert teacher.state == "done" and missing_input(student, tmp_path, {}) == ""


def test_an_estimate_counts_and_is_corrected_by_what_ran(tmp_path: Path) -> None:
    run = all_runs(tmp_path, ["han_small"], [0])[0]
    expected = estimate(run.study)
    assert (expected.steps, expected.batch) == (69000, 32)
    # HAN(Small) at 160x64, batches of 32: 2 FLOPs a Mul-Add, the backward pass twice the forward
    assert expected.flops == pytest.approx(6 * 185.6e6 * 32 * 69000, rel=0.01)
    assert remaining(run, expected) == expected.minutes
    run.record({"from_step": 0, "steps": 23000, "seconds": 300.0})
    assert remaining(run, expected) == pytest.approx(10 + 1)  # twice as much, and the test


def rows(run: str, count: int, **more: object) -> list[dict[str, object]]:
    return [{"run": run, "step": i, **more} for i in range(count)]


def test_tables_stay_within_their_limits(tmp_path: Path) -> None:
    run = all_runs(tmp_path, ["han_small"], [0])[0]
    run.record({"status": 75, "from_step": 0, "steps": 4000, "seconds": 1})
    log = run.folder / "logs/version_0/metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("step,train/loss\n" + "".join(f"{i},{1 / (i + 1)}\n" for i in range(4000)))
    gather([run], tmp_path / "out", 8, 0.05)
    curves = tmp_path / "out/curves.csv"
    assert 20_000 < curves.stat().st_size <= 0.05 * 2**20
    assert table(curves)[:2] == [
        {"run": "han_small/seed0", "step": "0", "loss": "1.0"},
        {"run": "han_small/seed0", "step": "4", "loss": "0.2"},
    ]
    assert table(tmp_path / "out/slices.csv")[0]["steps"] == "4000"
    assert thinned(rows("a", 5)) == [{"run": "a", "step": i} for i in (0, 2, 4)]
    with pytest.raises(UserError, match="--max-files=2"):
        gather([run], tmp_path / "out", 2, 16)
    with pytest.raises(UserError, match="--max-mib"):
        gather([run], tmp_path / "out", 8, 1e-5)


def test_collecting_again_replaces_a_run_and_keeps_the_others(tmp_path: Path) -> None:
    study = tmp_path / "study"
    for number, (run, rank1) in enumerate(
        [
            ("han_large/seed0", 0.5),
            ("han_small/seed1", 0.3),
            ("han_small/seed0", 0.1),
            ("han_small/seed0", 0.2),
        ]
    ):
        back = tmp_path / str(number)
        back.mkdir()
        line = f"{run},joint,exit,{rank1},{rank1 / 2}"
        (back / "results.csv").write_text(f"run,name,kind,rank1,mAP\n{line}\n")
        collect(back, study)
    found = table(study / "results.csv")
    assert [(row["run"], row["rank1"]) for row in found] == [
        ("han_small/seed0", "0.2"), ("han_small/seed1", "0.3"), ("han_large/seed0", "0.5"),
    ]  # fmt: skip
    assert accuracy(found) == {
        "han_small": "25.0 ± 7.1 / 12.5 ± 3.5",
        "han_large": "50.0 / 25.0",
    }
    with pytest.raises(UserError, match="has no table; expected any of results.csv"):
        collect(study / "nowhere", study)


def test_the_list_shows_the_state_of_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = all_runs(tmp_path, ["han_small"], [0])[0]
    run.record({"status": 75, "from_step": 0, "steps": 34500, "seconds": 240})
    assert main(["--only", "han_small", "--runs", str(tmp_path), "--study", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "han_small/seed2" in printed and "40.9 / 40.0" in printed and "4.0" in printed
    assert main(["--only", "x", "--runs", str(tmp_path)]) == 1
    assert "unknown study x" in capsys.readouterr().err


def test_several_runs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, no more than `jobs`, a student when its teacher is done."""
    running, most, order, lock = set[str](), 0, [], threading.Lock()

    def execute(args: object, run: StudyRun, queue: Queue) -> int:
        nonlocal most
        with lock:
            running.add(run.name)
            order.append(run.name)
            most = max(most, len(running))
        time.sleep(0.1)
        (run.folder / "results").mkdir(parents=True)
        (run.folder / "results" / "summary.json").write_text("{}")
        with lock:
            running.remove(run.name)
        return 0

    monkeypatch.setattr(slices, "execute", execute)
    runs = all_runs(tmp_path, ["han_small", "han_large", "distill_han", "bot_mobilenetv2"], [0, 1])
    options = slices.Options(tmp_path, {}, [])
    assert slices.run_slice(runs, options, 9, jobs=2) == []
    assert most == 2
    assert set(order[:2]) == {"han_small/seed0", "han_large/seed0"} and len(order) == 6
    for seed in (0, 1):
        assert order.index(f"distill_han/seed{seed}") > order.index(f"han_large/seed{seed}")
    assert all(run.slices()[0]["jobs"] == "2" for run in runs if run.name in order)


def test_an_interruption_ends_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[StudyRun]()

    def execute(args: object, run: StudyRun, queue: Queue) -> int:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        queue.started(run, process)
        started.append(run)
        if started[1:] == [run]:  # once: both threads can see two
            os.kill(os.getpid(), signal.SIGINT)
        return process.wait()

    monkeypatch.setattr(slices, "execute", execute)
    runs = all_runs(tmp_path, ["han_small", "han_large"], [0])
    # as in a terminal: below a `nohup` or `&`, or after another test, it may be ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            slices.run_slice(runs, slices.Options(tmp_path, {}, []), 9, jobs=2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [run.slices()[0]["status"] for run in started] == ["-15", "-15"]
