"""experiments.frontier_synthetic: the commands it runs, their order, and what it skips."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from experiments.frontier_synthetic.__main__ import (
    METHODS,
    Method,
    command,
    measure,
    run_folder,
    train,
)
from reid_lab.config.choices import conf_dir

TEACHER, STUDENT = Method("t"), Method("p", teacher="t")


class Recorder:
    """Replaces the training and records its arguments; `failing` is the method that fails."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.seen = failing, list[list[str]]()

    def __call__(self, words: list[str], folder: Path) -> int:
        self.seen.append(words)
        return int(folder.parent.name == self.failing)

    @property
    def names(self) -> list[str]:
        return [
            next(w for w in words if w.startswith("+experiment=")).partition("=")[2]
            for words in self.seen
        ]


@pytest.mark.parametrize("method", [m for m in METHODS if m.teacher is None], ids=lambda m: m.name)
def test_experiments_exist(method: Method) -> None:
    recipe = method.words[0].removeprefix("+experiment=")
    assert (conf_dir() / "experiment" / f"{recipe}.yaml").is_file()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_student_waits_for_its_teacher(tmp_path: Path, jobs: int) -> None:
    run = Recorder()
    assert train([STUDENT, TEACHER], [0, 1], tmp_path, 64, jobs, run) == []
    assert sorted(run.names) == ["p", "p", "t", "t"]
    for seed in (0, 1):
        mine = [w for w in run.seen if f"seed={seed}" in w]
        assert [w[1] for w in mine] == ["+experiment=t", "+experiment=p"]
        checkpoint = run_folder(tmp_path, "t", seed) / "checkpoints" / "last.ckpt"
        assert f"model.teacher={checkpoint}" in mine[1]


def test_finished_runs_are_kept_and_interrupted_runs_resumed(tmp_path: Path) -> None:
    done, half = run_folder(tmp_path, "t", 0), run_folder(tmp_path, "t", 1)
    (done / "results").mkdir(parents=True)
    (done / "results" / "summary.json").touch()
    (half / "checkpoints").mkdir(parents=True)
    (half / "checkpoints" / "last.ckpt").touch()
    run = Recorder()
    train([TEACHER], [0, 1, 2], tmp_path, 64, 1, run)
    assert [("ckpt_path=last" in w, w[2]) for w in run.seen] == [
        (True, "seed=1"),
        (False, "seed=2"),
    ]


def test_a_failed_method_does_not_stop_the_others(tmp_path: Path) -> None:
    run = Recorder(failing="t")
    failed = train([TEACHER, STUDENT, Method("x")], [0], tmp_path, 64, 2, run)
    assert failed == [run_folder(tmp_path, "t", 0), run_folder(tmp_path, "p", 0)]
    assert sorted(run.names) == ["t", "x"]


@pytest.mark.parametrize("steps", ["model.iterations", "model.student.iterations", None])
def test_methods_train_on_equally_many_images(tmp_path: Path, steps: str | None) -> None:
    words = command(Method("m", batch=64, steps=steps), 0, tmp_path, None, 640)
    assert [w for w in words if "iterations=" in w] == ([f"{steps}=10"] if steps else [])


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_batch_sizes_are_those_of_the_recipes(method: Method) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        data = compose("config", overrides=[*method.words, "run_dir=."]).dataset
    if method.steps:
        assert method.batch == (data.batch_size or data.p * data.k)


def test_costs_are_measured_once_in_rounds(tmp_path: Path) -> None:
    known = run_folder(tmp_path, "t", 0) / "results" / "cost.csv"
    known.parent.mkdir(parents=True)
    known.touch()
    run = Recorder(failing="p")
    failed = measure([TEACHER, STUDENT], [0, 1], tmp_path, run)
    assert [w[:2] for w in run.seen] == [["reid_lab.cli", "cost"]] * 3
    assert run.names == ["p", "t", "p"]
    assert failed == [run_folder(tmp_path, "p", seed) for seed in (0, 1)]
