"""The full-size studies on CUHK03 (detected boxes, new protocol): recipes, seeds and order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.tables import Rows, read, write
from reid_lab.config.paths import last_checkpoint
from reid_lab.errors import UserError
from reid_lab.results import SUMMARY, results_of

State = Literal["open", "part", "done"]
SLICES = "slices.csv"


@dataclass(frozen=True)
class Study:
    """A recipe with its seeds.

    Attributes:
        weights: config key of the pre-trained weights; a study with this key is skipped until
            `--weights NAME=FILE` is given.
        teacher: the study whose network of the same seed is the teacher.
        published: the paper's Rank-1 and mAP.
        long: takes hours; runs after all seeds of the other studies.
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
# two workers draw the random numbers of the augmentation
GPU = (
    *("trainer=gpu", "dataset.cache=device", "dataset.workers=2"),
    "callbacks.cuda_graph.enabled=true",
)
CPU = ("trainer=cpu", "dataset.workers=0")
# 180 of HAN's 300 epochs, with the two last falls of the rate just before the end
SHORT = ("model.iterations=41500", "model.milestones=[100,170,176]")
# the paper names no augmentation; torchreid's HACNN, the earlier network, is trained with these
CROPS = ("dataset.transforms.enlarge=1.125", "dataset.transforms.flip=0.5")
SCRATCH = "backbone.weights=null"
MOBILE = "backbone=mobilenetv2"
WHOLE = "dataset.transforms.test_crop=whole"
# 120 epochs of 7,365 // 64
BOT = (CUHK03, MOBILE, "model.epoch=115", "model.iterations=13800")
STUDIES = (
    Study("han_small", "han_cuhk03", published="40.9 / 40.0"),
    Study("han_medium", "han_cuhk03", ("model.size=medium",), published="42.8 / 42.0"),
    Study("han_large", "han_cuhk03", ("model.size=large",), published="47.5 / 45.5"),
    Study("han_small_180", "han_cuhk03", SHORT, (0,)),
    Study("han_medium_180", "han_cuhk03", ("model.size=medium", *SHORT), (0,)),
    Study("han_large_180", "han_cuhk03", ("model.size=large", *SHORT), (0,)),
    Study("han_large_180_crops", "han_cuhk03", ("model.size=large", *SHORT, *CROPS), (0,)),
    # the seed that has run was tested with the whole image
    Study("bot_mobilenetv2", "bot_market", (*BOT, WHOLE), (0,), weights="backbone.weights"),
    Study("bot_mobilenetv2_centre", "bot_market", BOT, weights="backbone.weights"),
    Study(
        "dare_mobilenetv2",
        "dare_cuhk03",
        (MOBILE, "backbone.last_stride=1", "model.iterations=10000"),
        weights="backbone.weights",
    ),
    Study(
        "dare_mobilenetv2_fusion",
        "dare_cuhk03",
        (
            MOBILE,
            "backbone.last_stride=1",
            "model.iterations=10000",
            "model.deep_supervision=false",
        ),
        weights="backbone.weights",
    ),
    Study(
        "dare_mobilenetv2_strips",
        "dare_cuhk03",
        (
            MOBILE,
            "backbone.last_stride=1",
            "model.iterations=10000",
            "model.cross_entropy=1",
            "model.strips=4",
        ),
        weights="backbone.weights",
    ),
    Study(
        "pla_mobilenetv2",
        "pla_market_fixed",
        (CUHK03, MOBILE, "model.iterations=8700"),  # 150 epochs of ceil(7,365 / 128) = 58 batches
        weights="backbone.weights",
    ),
    Study("jlml_scratch", "jlml_market", (CUHK03,)),
    Study(
        "distill_han",
        "distill_han",
        (CUHK03, "model.student.iterations=69000", "model.student.epoch=230"),
        teacher="han_large",
    ),
    Study("dare_scratch", "dare_cuhk03", (SCRATCH,)),
    Study("dare_resnet50", "dare_cuhk03", weights="backbone.weights", published="61.6 / 58.1"),
    Study(
        "pla_resnet50",
        "pla_market_fixed",
        (CUHK03, "model.iterations=17400"),
        weights="backbone.weights",
    ),
    Study("pla_search", "pla_cuhk03", (), (0,), "backbone.weights", None, "67.2 / 63.2", long=True),
)


@dataclass(frozen=True)
class StudyRun:
    """One seed of a study, in its own folder.

    Attributes:
        collected: its results are among the study's tables already, wherever it ran.
    """

    study: Study
    seed: int
    folder: Path
    collected: bool = False

    @property
    def name(self) -> str:
        return f"{self.study.name}/seed{self.seed}"

    @property
    def state(self) -> State:
        if self.collected or (results_of(self.folder) / SUMMARY).is_file():
            return "done"
        return "part" if last_checkpoint(self.folder).is_file() else "open"

    def slices(self) -> Rows:
        """Machine, seconds, steps and exit status of each attempt."""
        return read(self.folder / SLICES)

    @property
    def minutes(self) -> float:
        return sum(float(row["seconds"]) for row in self.slices()) / 60

    def record(self, row: Mapping[str, Any]) -> None:
        """Append an attempt to the slices."""
        write(self.folder / SLICES, [*self.slices(), {"run": self.name, **row}])


def all_runs(
    runs: Path,
    only: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    collected: Collection[str] = (),
) -> list[StudyRun]:
    """The runs in the order of execution: one seed of all studies before the next seed.

    Args:
        collected: names of runs whose results are in the study's tables.

    Raises:
        UserError: an unknown study.
    """
    names = [study.name for study in STUDIES]
    if unknown := [name for name in only if name not in names]:
        raise UserError(f"unknown study {', '.join(unknown)}; available: {', '.join(names)}")
    chosen = [study for study in STUDIES if not only or study.name in only]
    selected = [
        StudyRun(
            study, seed, runs / study.name / f"seed{seed}", f"{study.name}/seed{seed}" in collected
        )
        for study in chosen
        for seed in study.seeds
        if seeds is None or seed in seeds
    ]
    return sorted(
        selected, key=lambda run: (run.study.long, run.seed)
    )  # a stable sort keeps the listed order


def command(
    run: StudyRun,
    runs: Path,
    weights: Mapping[str, Path],
    overrides: Sequence[str],
    minutes: float,
    cuda: bool,
) -> list[str]:
    """Arguments of `python -m` that start or resume a run for a number of minutes."""
    study = run.study
    args = ["reid_lab", f"+experiment={study.experiment}", *study.overrides]
    args += [*GPU] if cuda else [*CPU]
    args += [f"name=full/{study.name}", f"seed={run.seed}", f"hydra.run.dir={run.folder}"]
    args += ["callbacks.progress=null", "+trainer.enable_progress_bar=false"]
    args += [f"callbacks.deadline.minutes={minutes:.3f}", *overrides]
    if study.weights:
        args.append(f"{study.weights}={weights[study.name].resolve()}")
    if study.teacher:
        teacher = runs / study.teacher / f"seed{run.seed}"
        args.append(f"model.teacher={last_checkpoint(teacher).resolve()}")
    return [*args, "ckpt_path=last"] if run.state == "part" else args


def missing_input(run: StudyRun, runs: Path, weights: Mapping[str, Path]) -> str:
    """The weights or the teacher that a run waits for; empty if it can start."""
    study = run.study
    if study.weights and study.name not in weights:
        return f"--weights {study.name}=FILE"
    if study.teacher:
        teacher = StudyRun(study, run.seed, runs / study.teacher / f"seed{run.seed}")
        if teacher.state != "done":
            return f"{study.teacher}/seed{run.seed}"
    return ""
