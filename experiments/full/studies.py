"""The full-size studies on CUHK03 (detected boxes, new protocol): their recipes and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.collect import Rows, read, write
from reid_lab.config.paths import last_checkpoint
from reid_lab.errors import UserError
from reid_lab.results import SUMMARY, results_of

State = Literal["open", "part", "done"]
SLICES = "slices.csv"


@dataclass(frozen=True)
class Study:
    """A recipe with its seeds.

    Attributes:
        weights: the key of its config that takes pre-trained weights; a study that has one is
            left out until `--weights NAME=FILE` gives them.
        teacher: the study whose network of the same seed teaches.
        published: the paper's Rank-1 and mAP.
        long: takes hours, and comes after all seeds of the others.
    """

    name: str
    experiment: str
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    weights: str | None = None
    teacher: str | None = None
    published: str = ""
    long: bool = False


CUHK03 = "dataset=cuhk03_np"
# two workers draw the augmentations' random numbers beside the GPU
GPU = ("trainer=gpu", "dataset.cache=device", "dataset.workers=2")
CPU = ("trainer=cpu", "dataset.workers=0")
SCRATCH = "backbone.weights=null"
STUDIES = (
    Study("han_small", "han_small_cuhk03", published="40.9 / 40.0"),
    Study("han_medium", "han_medium_cuhk03", published="42.8 / 42.0"),
    Study("han_large", "han_large_cuhk03", published="47.5 / 45.5"),
    Study("dare_scratch", "dare_cuhk03", (SCRATCH,)),
    Study("dare_resnet50", "dare_cuhk03", weights="backbone.weights", published="61.6 / 58.1"),
    Study(
        "pla_fixed",
        "pla_market_fixed",
        (CUHK03, "model.iterations=17400"),  # 300 epochs of ceil(7,365 / 128) = 58 batches
        weights="backbone.weights",
    ),
    Study("jlml_scratch", "jlml_cuhk03_np"),
    Study(
        "distill_han",
        "distill_han",
        (CUHK03, "model.student.iterations=69000"),
        teacher="han_large",
    ),
    Study("pla_search", "pla_cuhk03", (), (0,), "backbone.weights", None, "67.2 / 63.2", long=True),
)


@dataclass(frozen=True)
class Run:
    """One seed of a study, in a folder of its own."""

    study: Study
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.study.name}/seed{self.seed}"

    @property
    def state(self) -> State:
        if (results_of(self.folder) / SUMMARY).is_file():
            return "done"
        return "part" if last_checkpoint(self.folder).is_file() else "open"

    def slices(self) -> Rows:
        """What ran so far: machine, seconds, status of each attempt."""
        return read(self.folder / SLICES)

    @property
    def minutes(self) -> float:
        return sum(float(row["seconds"]) for row in self.slices()) / 60

    def record(self, row: Mapping[str, Any]) -> None:
        write(self.folder / SLICES, [*self.slices(), {"run": self.name, **row}])


def all_runs(runs: Path, only: Sequence[str] = (), seeds: Sequence[int] | None = None) -> list[Run]:
    """In the order in which they are run: a seed of all studies before the next seed.

    Raises:
        UserError: a study that there is not.
    """
    names = [study.name for study in STUDIES]
    if unknown := [name for name in only if name not in names]:
        raise UserError(f"unknown study {', '.join(unknown)}; available: {', '.join(names)}")
    chosen = [study for study in STUDIES if not only or study.name in only]
    found = [
        Run(study, seed, runs / study.name / f"seed{seed}")
        for study in chosen
        for seed in study.seeds
        if seeds is None or seed in seeds
    ]
    return sorted(found, key=lambda run: (run.study.long, run.seed))  # stable: as listed


def command(
    run: Run,
    runs: Path,
    weights: Mapping[str, Path],
    overrides: Sequence[str],
    minutes: float,
    cuda: bool,
) -> list[str]:
    """The words after `python -m` that begin a run or resume it, for so many minutes."""
    study = run.study
    words = ["reid_lab", f"+experiment={study.experiment}", *study.overrides]
    words += [*GPU] if cuda else [*CPU]
    words += [f"name=full/{study.name}", f"seed={run.seed}", f"hydra.run.dir={run.folder}"]
    words += ["callbacks.progress=null", "+trainer.enable_progress_bar=false"]
    words += [f"callbacks.deadline.minutes={minutes:.3f}", *overrides]
    if study.weights:
        words.append(f"{study.weights}={weights[study.name].resolve()}")
    if study.teacher:
        teacher = runs / study.teacher / f"seed{run.seed}"
        words.append(f"model.teacher={last_checkpoint(teacher).resolve()}")
    return [*words, "ckpt_path=last"] if run.state == "part" else words


def waits_for(run: Run, runs: Path, weights: Mapping[str, Path]) -> str:
    """What a run lacks before it can begin; empty where nothing."""
    study = run.study
    if study.weights and study.name not in weights:
        return f"--weights {study.name}=FILE"
    if study.teacher:
        teacher = Run(study, run.seed, runs / study.teacher / f"seed{run.seed}")
        if teacher.state != "done":
            return f"{study.teacher}/seed{run.seed}"
    return ""
