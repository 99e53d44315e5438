"""The command that trains everything: what it runs, in which order, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.frontier_synthetic.__main__ import METHODS, Method, command, place, train
from reid_lab.paths import conf_dir

TEACHER, PUPIL = Method("t"), Method("p", teacher="t")


class Recorder:
    """Stands for the training; `failing` are the methods that fail."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.seen = failing, list[list[str]]()

    def __call__(self, words: list[str], folder: Path) -> int:
        self.seen.append(words)
        return int(folder.parent.name == self.failing)

    @property
    def names(self) -> list[str]:
        return [words[0].partition("=")[2] for words in self.seen]


@pytest.mark.parametrize("method", [m for m in METHODS if m.teacher is None], ids=lambda m: m.name)
def test_experiments_exist(method: Method) -> None:
    assert (conf_dir() / "experiment" / f"{method.name}.yaml").is_file()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_pupil_waits_for_its_teacher(tmp_path: Path, jobs: int) -> None:
    run = Recorder()
    assert train([PUPIL, TEACHER], [0, 1], tmp_path, None, jobs, run) == []
    assert sorted(run.names) == ["p", "p", "t", "t"]
    for seed in (0, 1):
        mine = [w for w in run.seen if f"seed={seed}" in w]
        assert [w[0] for w in mine] == ["+experiment=t", "+experiment=p"]
        checkpoint = place(tmp_path, "t", seed) / "checkpoints" / "last.ckpt"
        assert f"model.teacher={checkpoint}" in mine[1]


def test_finished_stays_and_interrupted_goes_on(tmp_path: Path) -> None:
    done, half = place(tmp_path, "t", 0), place(tmp_path, "t", 1)
    (done / "results").mkdir(parents=True)
    (done / "results" / "summary.json").touch()
    (half / "checkpoints").mkdir(parents=True)
    (half / "checkpoints" / "last.ckpt").touch()
    run = Recorder()
    train([TEACHER], [0, 1, 2], tmp_path, None, 1, run)
    assert [("ckpt_path=last" in w, w[1]) for w in run.seen] == [
        (True, "seed=1"),
        (False, "seed=2"),
    ]


def test_who_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    run = Recorder(failing="t")
    failed = train([TEACHER, PUPIL, Method("x")], [0], tmp_path, None, 2, run)
    assert failed == [place(tmp_path, "t", 0), place(tmp_path, "p", 0)]
    assert sorted(run.names) == ["t", "x"]


@pytest.mark.parametrize("steps", ["model.iterations", "model.student.iterations", None])
def test_iterations_of_methods_that_have_them(tmp_path: Path, steps: str | None) -> None:
    words = command(Method("m", steps=steps), 0, tmp_path, None, 7)
    assert [w for w in words if w.endswith("iterations=7")] == ([f"{steps}=7"] if steps else [])
