"""The benchmarks' tables; nothing is timed against a limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig
from pytorch_lightning.profilers import SimpleProfiler

from experiments.bench import __main__ as bench
from experiments.bench import checkouts
from experiments.bench.exchange import bench_exchange
from experiments.bench.inference import Inference
from experiments.bench.people import write_people
from experiments.bench.recipes import (
    WARM_UP,
    Recipes,
    RecipeSpeed,
    StepProfiler,
    config_of,
    measured,
    medians_of,
    recipes,
)
from experiments.bench.shares import Shares, bench_shares, busiest
from experiments.bench.timing import Comparison
from experiments.bench_retrieval.sizes import Size
from experiments.tables import read
from reid_lab.config.overrides import composed
from tests.conftest import write_jpegs


@pytest.fixture
def few(tmp_path: Path) -> Path:
    names = [f"bounding_box_train/{p:04}_c{c}s1_00000{c}_00.jpg" for p in (1, 2) for c in (1, 2)]
    for part in ("query", "bounding_box_test"):
        names += [f"{part}/000{p}_c{p - 2}s1_000000_00.jpg" for p in (3, 4)]
    return write_jpegs(tmp_path / "few", names)


def small(cfg: DictConfig) -> DictConfig:
    cfg.dataset.p = cfg.dataset.k = 2
    cfg.dataset.transforms.height, cfg.dataset.transforms.width = 32, 16
    return cfg


def test_all_recipes_for_a_cpu_are_measured(few: Path) -> None:
    names = recipes()
    assert {"demo", "dare_mobilenetv2_cuhk03_cpu", "bot_mobilenetv2_cuhk03_cpu"} <= set(names)
    assert "distill_mobilenetv2_cuhk03_cpu" not in names  # it needs a teacher
    assert "distill_dare_cuhk03_cpu" in names  # its own
    for name in names:
        cfg = config_of(name, few)
        assert cfg.dataset.root == str(few) and cfg.threads == 1
        assert not cfg.logger and not any(cfg.callbacks.values())
        own = composed([f"+experiment={name}", "run_dir=."]).dataset
        for key in ("transforms", "p", "k", "batch_size"):  # a data set's own values, too
            assert cfg.dataset.get(key) == own.get(key), (name, key)


def test_a_network_that_teaches_itself_is_measured(few: Path) -> None:
    cfg = small(config_of("distill_dare_cuhk03_cpu", few))
    assert measured(cfg, "distill", steps=1).forward_ms > 0


def test_the_parts_of_a_step_are_within_it(few: Path) -> None:
    speed = measured(small(config_of("demo", few)), "demo", steps=2)
    parts = (speed.images_ms, speed.forward_ms, speed.backward_ms, speed.optimiser_ms)
    assert (speed.recipe, speed.precision) == ("demo", "32-true")
    assert (speed.height, speed.width, speed.batch) == (32, 16, 4)
    assert min(parts) > 0
    assert sum(parts) < 2 * speed.step_ms  # medians of different steps


def test_medians_leave_out_the_warm_up() -> None:
    profiler = StepProfiler()
    seconds = {"[Loop].train_dataloader_next": 0.001, "[Strategy]S.batch_to_device": 0.002}
    seconds |= {"[Strategy]S.training_step": 0.01, "[Strategy]S.backward": 0.02}
    seconds |= {"[LightningModule]M.optimizer_step": 0.035}
    for name, each in seconds.items():
        profiler.recorded_durations[name] = [1.0] * WARM_UP + [each] * 3
    ends = [float(i) for i in range(WARM_UP)] + [WARM_UP - 1 + 0.04 * i for i in (1, 2, 3)]
    found = medians_of(ends, profiler)
    assert found == pytest.approx(
        {"step_ms": 40, "images_ms": 3, "forward_ms": 10, "backward_ms": 20, "optimiser_ms": 5}
    )
    assert isinstance(profiler, SimpleProfiler)


def test_tables_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = Comparison("t", {"a": [1.0, 3.0], "b": [2.0, 6.0]}, "a")
    speeds = Recipes([RecipeSpeed("demo", "32-true", 32, 16, 4, 8.0, 1.0, 2.0, 3.0, 1.0)])
    found = {"step": compared, "recipes": speeds, "gpu": "no GPU"}
    monkeypatch.setattr(bench, "SECTIONS", {k: lambda root, v=v: v for k, v in found.items()})
    monkeypatch.setattr(bench, "write_people", lambda root: None)
    monkeypatch.setattr("sys.argv", ["bench", "--out", str(tmp_path / "o")])
    bench.main()
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["recipes.csv", "step.csv"]
    rows = read(tmp_path / "o" / "step.csv")
    assert [(r["name"], r["round"], float(r["per_second"])) for r in rows] == [
        ("a", "0", 1.0), ("a", "1", 3.0), ("b", "0", 2.0), ("b", "1", 6.0)
    ]  # fmt: skip
    (row,) = read(tmp_path / "o" / "recipes.csv")
    assert float(row["images_per_second"]) == 500 and row["seed"] == "0" and row["commit"]


def test_inference_has_a_row_for_each_number_of_threads() -> None:
    one, two = (Comparison("t", {"a": [2.0 * n], "b": [1.0 * n]}, "a") for n in (1, 2))
    found = Inference({1: one, 2: two}, {"a": 10, "b": 20})
    assert [(r["name"], r["threads"], r["per_second"], r["mul_adds"]) for r in found.rows()] == [
        ("a", 1, 2.0, 10), ("b", 1, 1.0, 20), ("a", 2, 4.0, 10), ("b", 2, 2.0, 20)
    ]  # fmt: skip
    assert len(found.table().renderables) == 2


def test_checkouts_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        checkouts, "step", lambda home, recipe, people, precision: (home.name, len(precision))
    )
    found = list(checkouts.rows([Path("a"), Path("b")], "demo", "people", rounds=2))
    assert [(r["round"], r["commit"], r["step_ms"]) for r in found] == [
        (number, commit, ms) for number in (0, 1) for commit in "ab" for ms in (7, 10)
    ]


@pytest.mark.system
def test_a_checkout_is_measured(tmp_path: Path) -> None:
    write_people(tmp_path)
    commit, ms = checkouts.step(Path(__file__).parents[1], "demo", str(tmp_path), "32-true")
    assert len(commit.removesuffix("+changes")) == 12 and ms > 0


@pytest.mark.system
def test_an_exchange_keeps_and_receives_shares() -> None:
    found = bench_exchange((2,), images=1_503, size=(16, 8))
    (row,) = found.rows()
    assert (row["whole_bytes"], row["kept_bytes"]) == (1_503 * 3 * 18 * 9, 752 * 3 * 18 * 9)
    assert 0 < row["received_bytes"] < 36 * 3 * 18 * 9
    assert min(value for name, value in row.items() if name.endswith("_ms")) > 0
    assert found.table().row_count == 1


@pytest.mark.system
def test_processes_that_share_an_evaluation_are_measured() -> None:
    small = Size(people=20, query=600, gallery=90, distractors=0, cameras=3, dim=8)
    found = bench_shares((2,), small, rounds=1)
    assert [(row["processes"], row["round"], row["rank"]) for row in found.rows()] == [
        (2, 0, 0),
        (2, 0, 1),
    ]
    assert all(row["rank_s"] > 0 for row in found.rows())


def test_the_busiest_process_counts() -> None:
    rows = [{"processes": 2, "rank": i % 2, "rank_s": float(i)} for i in range(6)]
    assert busiest(rows, "rank_s") == 3  # the median of 1, 3 and 5
    table = Shares([row | {"rerank_s": 1.5} for row in rows]).table()
    assert [list(column.cells) for column in table.columns] == [["2"], ["3.00"], ["1.50"]]
