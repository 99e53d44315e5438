"""Runs as points: seeds pooled, settings told apart, data sets and machines kept apart."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import yaml

from reid_lab.errors import UserError
from reid_lab.files.atomic import write_text
from reid_lab.frontier import tables
from reid_lab.frontier.best import answer, command
from reid_lab.frontier.collect import collect
from reid_lab.frontier.costs import one_setting
from reid_lab.frontier.identity import distinct_labels, settings
from reid_lab.frontier.plots import frontier
from reid_lab.frontier.points import FRONTIER, FrontierError, Point, read_points
from reid_lab.frontier.pool import best_policies, pool
from tests.frontier.runs import cost_row, make_run


def gather(runs: list[Path], dataset: str | None = None) -> tuple[list[Point], list[str]]:
    found = tables.gather(runs, None, dataset)
    assert found.broken == []
    return found.points, found.notes


def of(points: list[Point], point: str, kind: str = "exit") -> list[Point]:
    return [p for p in points if (p.point, p.kind) == (point, kind)]


def test_seeds_are_pooled_at_any_depth(tmp_path: Path) -> None:
    for seed, rank1 in enumerate((0.5, 0.6, 0.4)):
        make_run(tmp_path / "a" / f"b{seed}", seed=seed, exits={"early": (1e6, rank1)})
    points, notes = gather([tmp_path])
    (early,) = of(points, "early")
    assert (early.method, early.seeds, notes) == ("two", "0 1 2", [])
    assert (early.rank1, early.rank1_min, early.rank1_max) == pytest.approx((0.5, 0.4, 0.6))
    assert early.mAP == pytest.approx(0.4)
    assert len(early.runs.split(";")) == 3
    assert len(of(points, "hsv", "reference")) == 1


def test_seeds_with_keys_of_before_are_pooled_with_those_of_today(tmp_path: Path) -> None:
    for seed, (crop, weight) in enumerate((("view", "weight"), ("test_crop", "triplet_weight"))):
        config = make_run(tmp_path / str(seed), seed=seed) / "config.yaml"
        model = f"model: {{_target_: reid_lab.model.PLA, {weight}: 0.5, "
        text = config.read_text().replace("model: {", model)
        config.write_text(text.replace("recipe: ", f"transforms: {{{crop}: whole}}, recipe: "))
    points, notes = gather([tmp_path])
    (early,) = of(points, "early")
    assert (early.method, early.seeds, notes) == ("two", "0 1", [])


def test_intervals_are_of_a_seed_and_older_runs_have_none(tmp_path: Path) -> None:
    line = {"margin": [(10e6, 0.5), (20e6, 0.7)]}
    for seed, low in enumerate((0.3, 0.4)):
        ends = {"rank1_low": low, "rank1_high": 0.9, "mAP_low": 0.1, "mAP_high": low + 0.4}
        make_run(tmp_path / "new" / str(seed), seed=seed, policies=line, bounds=ends)
    make_run(tmp_path / "old")
    points, _ = gather([tmp_path / "new"])
    for kind, point in (("exit", "late"), ("stream", "margin")):
        p = of(points, point, kind)[0]
        assert (p.rank1_low, p.rank1_high) == pytest.approx((0.35, 0.9))
        assert (p.mAP_low, p.mAP_high) == pytest.approx((0.1, 0.75))
    page = tables.write(tmp_path, points, []).read_text()
    assert "Below an accuracy: its 95% confidence interval" in page and '"rank1_low": 0.35' in page
    (again,) = of(read_points(tmp_path / "frontier.csv"), "late")
    assert (again.rank1_low, again.mAP_high) == (0.35, 0.75)
    assert "Rank-1 70.0% (95% CI 35.0–90.0), mAP" in answer(points, {"mul_adds": 2e7}, "rank1")
    older, _ = gather([tmp_path / "old"])
    assert all(math.isnan(p.rank1_low) for p in older)
    assert "Below an accuracy" not in tables.write(tmp_path, older, []).read_text()


def test_another_setting_is_another_method(tmp_path: Path) -> None:
    make_run(tmp_path / "a", lr=0.1)
    make_run(tmp_path / "b", lr=0.2)
    make_run(tmp_path / "c", lr=0.2, seed=1)
    points, _ = gather([tmp_path])
    found = {p.method: p.seeds for p in of(points, "early")}
    assert found == {"two (lr=0.1)": "0", "two (lr=0.2)": "0 1"}


def test_another_division_of_the_people_is_another_setting(tmp_path: Path) -> None:
    """A reader's seed says who is tested, such as VIPeR's halves: it is no seed of training."""
    for number in range(2):
        reader = f"{{_target_: reid_lab.dataset.read_viper, seed: {number}}}"
        folder = make_run(tmp_path / str(number))
        config = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(
            config.replace("recipe: {seed: 3}", f"reader: {reader}")
        )
    points, notes = gather([tmp_path])
    assert notes == [] and len(of(points, "early")) == 2


def test_a_grid_over_four_settings_is_as_many_methods(tmp_path: Path) -> None:
    for i, (dim, hidden, drop, lr) in enumerate(product("12", "34", "56", (0.1, 0.2))):
        config = f"backbone: {{dim: {dim}, hidden: {hidden}}}\nloss: {{drop: {drop}}}"
        make_run(tmp_path / str(i), lr=lr, more=config)
    points, notes = gather([tmp_path])
    methods = {p.method for p in of(points, "early")}
    assert (len(methods), notes) == (16, [])
    assert "two (dim=1, hidden=3, drop=5, lr=0.1)" in methods


def test_labels_are_short_where_few_settings_tell_apart() -> None:
    same = {"a.x": "1", "a.y": "1", "a.z": "1"}
    assert distinct_labels(["n", "n", "m"], [same, same, {}]) == ["n", "n", "m"]
    every = [{f"a.k{i}": str(10 * i + run) for i in range(5)} for run in range(2)]
    assert distinct_labels(["n", "n"], every)[1] == "n (k0=1, k1=11, k2=21, ...)"
    # the fourth alone tells the last two apart
    every = [{"a.k1": "1", "a.k2": "2", "a.k3": "3"}, *({"a.k4": str(i)} for i in range(2))]
    assert distinct_labels(["n"] * 3, every)[2] == "n (k1=-, k4=1, k2=-, ...)"


def test_settings_of_one_word_in_two_places() -> None:
    together = [{"a.dim": "1", "b.dim": "1"}, {"a.dim": "2", "b.dim": "2"}]
    assert distinct_labels(["n", "n"], together) == ["n (dim=1)", "n (dim=2)"]
    alone = [{"a.dim": "1", "b.dim": "1", "c.dim": "2"}, {"a.dim": "1", "b.dim": "2", "c.dim": "2"}]
    alone.append({"a.dim": "2", "b.dim": "2", "c.dim": "1"})
    assert len(set(distinct_labels(["n"] * 3, alone))) == 3
    assert distinct_labels(["n"] * 3, alone)[0] == "n (a.dim=1, b.dim=1, c.dim=2)"


def trainer(steps: int, more: str = "devices: 1") -> str:
    return f"backbone: {{iterations: {steps}}}\ntrainer: {{max_steps: {steps}, {more}}}"


def test_a_shorter_training_is_another_method(tmp_path: Path) -> None:
    make_run(tmp_path / "a", more=trainer(60_000))
    make_run(tmp_path / "b", seed=1, more=trainer(60_000, "devices: 2, val_check_interval: 9"))
    make_run(tmp_path / "c", seed=2, more=trainer(10))
    make_run(tmp_path / "d", seed=3, more=trainer(10, "gradient_clip_val: 1"))
    points, _ = gather([tmp_path])
    assert {p.method: p.seeds for p in of(points, "early")} == {
        "two (iterations=60000, gradient_clip_val=-)": "0 1",
        "two (iterations=10, gradient_clip_val=-)": "2",
        "two (iterations=10, gradient_clip_val=1)": "3",
    }


def test_streams_that_look_elsewhere_are_kept_apart(tmp_path: Path) -> None:
    for name, rank1 in (("all", 0.6), ("other_cameras", 0.5)):
        points = int(100 * rank1)
        stream = "callbacks: {stream: {_target_: reid_lab.callbacks.StreamCurve, "
        stream += f"candidates: {name}, points: {points}}}}}"
        make_run(tmp_path / name, policies={"margin": [(15e6, rank1)]}, more=stream)
    points, notes = gather([tmp_path])
    found = {p.method: p.rank1 for p in of(points, "margin", "stream")}
    assert found == {"two (candidates=all)": 0.6, "two (candidates=other_cameras)": 0.5}
    assert notes == []


STREAM = "{_target_: reid_lab.callbacks.StreamCurve, candidates: all, exits: null}"


def test_a_run_without_a_stream_is_the_same_method(tmp_path: Path) -> None:
    line = {"margin": [(15e6, 0.6)]}
    make_run(tmp_path / "0", policies=line, more=f"callbacks: {{stream: {STREAM}}}")
    make_run(tmp_path / "1", seed=1, more="callbacks: {stream: null}")
    make_run(tmp_path / "2", seed=2)
    points, notes = gather([tmp_path])
    assert [(p.method, p.seeds) for p in of(points, "early")] == [("two", "0 1 2")]
    assert [(p.method, p.seeds) for p in of(points, "margin", "stream")] == [("two", "0")]
    assert notes == []


def test_a_run_without_a_stream_beside_two_streams(tmp_path: Path) -> None:
    for name in ("all", "other_cameras"):
        make_run(tmp_path / name, more=f"callbacks: {{stream: {{candidates: {name}}}}}")
    make_run(tmp_path / "none", seed=1)
    make_run(tmp_path / "faster", seed=1, lr=0.2)
    found = {p.method: p.seeds for p in of(gather([tmp_path])[0], "early")}
    assert found == {
        "two (lr=0.1, candidates=all)": "0 1",
        "two (lr=0.1, candidates=other_cameras)": "0",
        "two (lr=0.2, candidates=-)": "1",
    }


def test_a_newer_run_without_a_stream_leaves_the_older_stream(tmp_path: Path) -> None:
    line = {"margin": [(15e6, 0.6)]}
    old = make_run(tmp_path / "a", policies=line, more=f"callbacks: {{stream: {STREAM}}}")
    new = make_run(tmp_path / "b", exits={"early": (1e6, 0.9)})
    os.utime(old / "results" / "summary.json", (1, 1))
    points, notes = gather([tmp_path])
    assert [p.rank1 for p in of(points, "early")] == [0.9]
    assert [p.rank1 for p in of(points, "margin", "stream")] == [0.6]
    assert notes == [f"only the stream of {old}, as {new} is newer and has none"]


@pytest.mark.parametrize(
    ("callback", "apart"),
    [
        ("checkpoint: {_target_: reid_lab.callbacks.Checkpoints, dirpath: DIR}", False),
        ("checkpoint: {_target_: reid_lab.callbacks.Checkpoints, dirpath: DIR, monitor: x}", True),
        ("mine: {_target_: mine.StopEarly, monitor: x}", True),
        ("best: {_target_: reid_lab.callbacks.BestCheckpoint, dirpath: DIR}", True),
        ("early_stopping: {_target_: reid_lab.callbacks.StopEarly}", True),
    ],
)
@pytest.mark.parametrize("part", ["trainer: {val_check_interval: 9}", "dataset: {validate: test}"])
def test_validation_makes_another_method_if_it_selects_weights(
    callback: str, apart: bool, part: str
) -> None:
    found = [
        settings(yaml.safe_load(f"callbacks: {{{callback.replace('DIR', folder)}}}\n{more}"))
        for folder, more in (("a", ""), ("b", ""), ("b", part))
    ]
    assert found[0] == found[1]
    assert (found[1] != found[2]) == apart


def test_a_teacher_is_the_same_however_it_was_tested(tmp_path: Path) -> None:
    for seed, stream in enumerate(("null", STREAM)):
        more = f"callbacks: {{stream: {stream}}}"
        teacher = make_run(tmp_path / f"t{seed}", "teacher", more=more)
        make_run(tmp_path / f"p{seed}", "pupil", seed, teacher=teacher)
    points, _ = gather([tmp_path / "p0", tmp_path / "p1"])
    assert [p.seeds for p in of(points, "early")] == ["0 1"]


def test_a_test_of_a_checkpoint_from_elsewhere_names_it(tmp_path: Path) -> None:
    trained = make_run(tmp_path / "trained", seed=2)
    checkpoint = f"{trained}/checkpoints/last.ckpt"
    tested = make_run(tmp_path / "tested", more=f"task: test\nckpt_path: {checkpoint}")
    os.utime(trained / "results" / "summary.json", (1, 1))
    points, notes = gather([tmp_path])
    assert notes == [f"left out: {trained}, as {tested} is the same and newer"]
    assert {p.seeds for p in of(points, "early")} == {"2"}
    text = answer(points, {}, "rank1")
    assert f"checkpoint  {checkpoint}\n" in text and f"--checkpoint {checkpoint} " in text
    assert str(tested) not in text


def test_a_teacher_of_another_seed_is_the_same_teacher(tmp_path: Path) -> None:
    for seed in (0, 1):
        teacher = make_run(tmp_path / f"t{seed}", "teacher", seed)
        make_run(tmp_path / f"p{seed}", "pupil", seed, teacher=teacher)
    other = make_run(tmp_path / "big", "big", lr=0.5)
    make_run(tmp_path / "p", "pupil", 0, teacher=other)
    points, _ = gather([tmp_path])
    pupils = {p.method: p.seeds for p in of(points, "early") if p.method.startswith("pupil")}
    assert sorted(pupils.values()) == ["0", "0 1"]
    assert max(map(len, pupils)) < 40


def test_the_newest_of_the_same_seed_counts(tmp_path: Path) -> None:
    old = make_run(tmp_path / "z", exits={"early": (1e6, 0.1)})
    make_run(tmp_path / "a", exits={"early": (1e6, 0.9)})
    os.utime(old / "results" / "summary.json", (1, 1))
    points, notes = gather([tmp_path])
    assert [p.rank1 for p in of(points, "early")] == [0.9]
    assert notes == [f"left out: {old}, as {tmp_path / 'a'} is the same and newer"]


def test_runs_that_answer_other_questions_are_kept_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "a", gallery=50)
    make_run(tmp_path / "b", gallery=90)
    make_run(tmp_path / "c", dataset="other")
    make_run(tmp_path / "d", dataset="other", protocol={"query": "multi"})
    points, _ = gather([tmp_path])
    names = {p.dataset for p in points}
    keys = {re.sub(r"@[0-9a-f]{4} ", " ", name): name for name in names}
    assert set(keys) == {
        "people (gallery images=50)",
        "people (gallery images=90)",
        "other",
        "other multi-query",
    }
    assert {p.dataset for p in gather([tmp_path], "other")[0]} == {"other"}
    large = keys["people (gallery images=90)"]
    short = large.partition(" (")[0]
    for given in (large, short, short.partition("@")[2]):
        assert {p.dataset for p in gather([tmp_path], given)[0]} == {large}
    with pytest.raises(FrontierError, match="'people' is the name of 2; available: .*people@"):
        gather([tmp_path], "people")
    with pytest.raises(FrontierError, match="available: .*people"):
        gather([tmp_path], "elsewhere")


def test_recipes_of_synthetic_people_are_data_sets_of_their_own(tmp_path: Path) -> None:
    for number, seed in enumerate((3, 3, 4)):
        run = make_run(tmp_path / str(number), seed=number)
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(config.replace("{seed: 3}", f"{{seed: {seed}}}"))
    points = of(gather([tmp_path])[0], "early")
    seeds = {p.dataset.partition(" ")[2]: p.seeds for p in points}
    assert seeds == {"(seed=3)": "0 1", "(seed=4)": "2"}
    (alone,) = {p.dataset for p in gather([tmp_path / "0", tmp_path / "1"])[0]}
    assert alone == "people"


def test_what_is_not_finished_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    (run / "results" / "exits.csv").unlink()
    with pytest.raises(FrontierError, match="no run has results.*\n.*no results/exits.csv"):
        collect([tmp_path])
    with pytest.raises(FrontierError, match="no such folder"):
        collect([tmp_path / "nowhere"])


def test_the_best_policy_stays(tmp_path: Path) -> None:
    policies = {
        "random": [(10e6, 0.5), (15e6, 0.6), (20e6, 0.7)],
        "margin": [(10e6, 0.5), (15e6, 0.69), (20e6, 0.7)],
        "margin (oracle)": [(10e6, 0.9), (20e6, 0.9)],
        "margin (by camera)": [(10e6, 0.9), (20e6, 0.9)],
    }
    make_run(tmp_path / "a", policies=policies)
    make_run(tmp_path / "b", seed=1, policies=policies)
    points = best_policies(pool(collect([tmp_path]).points))
    stream = [p for p in points if p.kind == "stream"]
    assert [(p.point, p.planned, p.rank1) for p in stream] == [
        ("margin", 10e6, 0.5),
        ("margin", 15e6, 0.69),
        ("margin", 20e6, 0.7),
    ]


def test_streams_in_milliseconds_are_points_of_their_own(tmp_path: Path) -> None:
    policies = {"margin": [(15e6, 0.6)], "margin (steered, latency)": [(15e6, 0.65)]}
    path = make_run(tmp_path / "a", policies=policies) / "results/stream.csv"
    head, *rows = path.read_text().splitlines()
    ends = ("mul_adds,,", "latency,12.5,12.4")
    lines = [f"{row},{end}" for row, end in zip(rows, ends, strict=True)]
    path.write_text("\n".join([f"{head},cost,budget,spent", *lines]))
    found = {p.planned_in: p for p in collect([tmp_path]).points if p.kind == "stream"}
    assert found["mul_adds"].rank1 == 0.6 and found["latency"].rank1 == 0.65
    assert found["latency"].note == "planned 12.5 ms per query, spent 12.4 by the profile"
    assert found["mul_adds"].note == "" and found["mul_adds"].exits.endswith("%")
    steered = found["latency"]
    assert (steered.point, steered.policy, steered.thresholds) == (
        "margin (steered, latency)",
        "margin",
        "steered",
    )
    FRONTIER.write(tmp_path / "new.csv", [steered])
    new = FRONTIER.text([steered])
    assert FRONTIER.text(read_points(tmp_path / "new.csv")) == new
    before = replace(steered, note=f"exits: {steered.exits}; {steered.note}")
    before = replace(before, policy="", thresholds="", planned_in="", exits="")
    FRONTIER.write(tmp_path / "old.csv", [before])
    assert FRONTIER.text(read_points(tmp_path / "old.csv")) == new


def test_costs_of_an_image_with_all_its_views_are_another_setting(tmp_path: Path) -> None:
    """Older runs measured ten views at once, later ones measure one."""
    for name, per, views in (("a", "view", 10), ("b", "view", 1), ("c", "image", 10)):
        rows = [cost_row(exit, 2.0, per=per, views=views) for exit in ("early", "late")]
        make_run(tmp_path / name, name, costs=rows)
    points, notes = one_setting(pool(collect([tmp_path]).points))
    known = {p.method: math.isfinite(p.latency_p50_ms) for p in of(points, "early")}
    assert known == {"a": True, "b": True, "c": False}
    assert len(notes) == 1 and "10 views at once" in notes[0]


def test_the_gain_of_a_stream_is_pooled_and_drawn(tmp_path: Path) -> None:
    for seed in (0, 1):
        run = make_run(tmp_path / str(seed), seed=seed, policies={"margin": [(15e6, 0.69)]})
        path = run / "results/stream.csv"
        head, row = path.read_text().splitlines()
        path.write_text(f"{head},rank1_gain,rank1_gain_low\n{row},{0.04 + 0.02 * seed},0.01\n")
    points = pool(collect([tmp_path]).points)
    (stream,) = of(points, "margin", "stream")
    assert stream.above_random == pytest.approx(0.05)
    figure = frontier(points, "mul_adds", "rank1")
    assert figure is not None
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "two, stream by margin (+5.0 over random)" in legend


def test_several_views_are_on_the_labels(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    path = run / "results/exits.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},views", *(f"{row},10" for row in rows)]))
    points = pool(collect([tmp_path]).points)
    assert {p.views for p in points} == {10}
    figure = frontier(points, "mul_adds", "rank1")
    assert figure is not None
    ax = figure.axes[0]
    assert ax.get_xlabel() == "Mul-Adds per view"
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "two, 10 views"


def test_costs_of_exits_and_of_a_stream(tmp_path: Path) -> None:
    rows = [cost_row("early", 2.0), cost_row("early", 20.0, batch=32), cost_row("late", 6.0)]
    make_run(tmp_path / "a", costs=rows, policies={"margin": [(12.5e6, 0.6)]})
    points = pool(collect([tmp_path]).points)
    (early,) = of(points, "early")
    assert (early.latency_p50_ms, early.images_per_second) == (2.0, 1600.0)
    assert early.measured_on == "2 cores, cpu, threads 1, images/s at batch 1"
    (stream,) = of(points, "margin", "stream")
    # three quarters leave early
    assert stream.latency_p50_ms == pytest.approx(0.75 * 2 + 0.25 * 6)
    seconds = 0.75 / 1600 + 0.25 * 6e-3
    assert stream.images_per_second == pytest.approx(1 / seconds)
    assert (stream.peak_memory_bytes, stream.embedding_bytes) == (6e6, 1024)
    assert stream.exits == "early 75%, late 25%"


def test_a_stream_of_a_shared_space_keeps_one_embedding(tmp_path: Path) -> None:
    policies = {"margin": [(12.5e6, 0.6)]}
    make_run(tmp_path / "a", policies=policies, shared="late")
    (stream,) = of(collect([tmp_path / "a"]).points, "margin", "stream")
    assert stream.embedding_bytes == 4 * 128
    rows = [cost_row("early", 2.0), cost_row("late", 6.0, embedding_bytes=128)]  # as INT8
    make_run(tmp_path / "b", costs=rows, policies=policies, shared="late")
    make_run(tmp_path / "c", costs=rows, policies=policies)
    for folder, stored in (("b", 128), ("c", 512 + 128)):
        (stream,) = of(collect([tmp_path / folder]).points, "margin", "stream")
        assert stream.embedding_bytes == stored


def test_a_cost_that_few_seeds_have_is_kept(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1)
    make_run(tmp_path / "c", seed=2, costs=[cost_row("early", 2.0), cost_row("late", 6.0)])
    (early,) = of(pool(collect([tmp_path]).points), "early")
    assert (early.seeds, early.latency_p50_ms, early.parameters) == ("0 1 2", 2.0, 7)
    assert early.measured_on and early.embedding_bytes == 512


def test_without_costs_the_embedding_is_still_known(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    (early,) = of(collect([tmp_path]).points, "early")
    assert early.embedding_bytes == 4 * 128
    assert math.isnan(early.latency_p50_ms)


def test_a_broken_cost_table_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "a", costs=[{"exit": "early", "latency_p50_ms": "fast"}])
    with pytest.raises(UserError, match=r"cost.csv: row 1: latency_p50_ms is 'fast', not a"):
        collect([tmp_path])


def test_latencies_of_two_machines_are_not_compared(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / name, name, costs=[cost_row(e, 2.0) for e in ("early", "late")])
    make_run(tmp_path / "c", "far", costs=[cost_row("early", 0.1, device="gpu")])
    points, notes = one_setting(pool(collect([tmp_path]).points))
    latencies = {p.method: p.latency_p50_ms for p in of(points, "early")}
    assert (latencies["a"], latencies["b"]) == (2.0, 2.0)
    assert math.isnan(latencies["far"])
    assert len(notes) == 1 and "far (on 2 cores, gpu" in notes[0]


def test_milestones_are_compared_in_steps() -> None:
    shares = {"model": {"milestones": [0.5], "iterations": 120}}
    epochs = {"model": {"milestones": [6], "epoch": 10, "iterations": 120}}
    later = {"model": {"milestones": [7], "epoch": 10, "iterations": 120}}
    assert settings(shares) == settings(epochs) != settings(later)
    assert settings({"model": {"milestones": "x", "iterations": []}})  # a file of any content
    warm = {"model": {"milestones": [60], "warmup": 20, "iterations": 120, "epoch": None}}
    same = {"model": {**epochs["model"], "warmup": 2}}
    cold = {"model": {**warm["model"], "warmup": 2}}
    assert settings(warm) == settings(same) != settings(cold)


@pytest.mark.parametrize(
    ("task", "data", "method"),
    [
        ("test", "others", "two (trained on others)"),
        ("test", "people", "two"),
        ("test", "not known", "two"),
        ("fit", "others", "two"),
    ],
)
def test_a_checkpoint_tested_on_other_data_is_labelled(
    tmp_path: Path, task: str, data: str, method: str
) -> None:
    as_test(make_run(tmp_path / "a"), task=task, card={"data": data})
    points, _ = gather([tmp_path])
    assert {p.method for p in of(points, "early")} == {method}


def as_test(run: Path, **summary: object) -> None:
    path = run / "results/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | summary))


@pytest.mark.parametrize(
    ("recipe", "metric", "methods"),
    [
        (3, "l1", {"two"}),
        (3, "cosine", {"two (metric=l1)", "two (metric=cosine)"}),
        (4, "l1", {"two", "two (trained on another people)"}),
    ],
)
def test_a_tested_checkpoint_has_the_settings_of_its_training(
    tmp_path: Path, recipe: int, metric: str, methods: set[str]
) -> None:
    """Its test composes defaults: they set nothing but the ranking and the data set."""
    run = make_run(tmp_path / "runs/a", more="callbacks: {ranking: {metric: l1}}")
    test = make_run(tmp_path / "sweep/0", lr=0.7)
    config = f"dataset: {{p: 99, recipe: {{seed: {recipe}}}}}\n"
    config += f"callbacks: {{ranking: {{metric: {metric}}}}}\n"
    config += f"task: test\nckpt_path: {run}/checkpoints/last.ckpt\n"
    (test / "config.yaml").write_text(config)
    as_test(test, task="test", card={"data": "people"})
    points, notes = gather([tmp_path])
    assert {p.method for p in of(points, "early")} == methods
    assert len(notes) == (len(methods) == 1)


@pytest.mark.parametrize(
    ("selected", "name", "same"),
    [("", "last", True), ("", "step_200", False), ("best", "best", True), ("best", "last", False)],
)
def test_another_checkpoint_of_a_training_is_another_method(
    tmp_path: Path, selected: str, name: str, same: bool
) -> None:
    more = f"callbacks: {{{selected}: {{dirpath: checkpoints}}}}" if selected else ""
    run = make_run(tmp_path / "a", more=more)
    make_run(tmp_path / "b", more=f"task: test\nckpt_path: {run}/checkpoints/{name}.ckpt")
    points, _ = gather([tmp_path])
    methods = {p.method for p in of(points, "early")}
    assert len(methods) == (1 if same else 2)
    assert same or any(f"checkpoint={name}" in method for method in methods)


@pytest.mark.parametrize(("task", "kept"), [("fit", True), ("test", False)])
def test_the_best_checkpoint_is_the_one_to_deploy(tmp_path: Path, task: str, kept: bool) -> None:
    more = f"task: {task}\ncallbacks: {{best: {{dirpath: checkpoints}}}}"
    run = make_run(tmp_path / "a", more=more)
    for name in ("best", "last"):
        write_text(run / "checkpoints" / f"{name}.ckpt", "")
    points, _ = gather([tmp_path])
    expected = "best" if kept else "last"
    assert f"{run}/checkpoints/{expected}.ckpt" in command(of(points, "early")[0])


def test_a_data_set_is_labelled_by_its_settings_rather_than_by_counts() -> None:
    every = [
        {"gallery images": "69", "train images": "1", "recipe.seed": "1", "recipe.cameras": "3"},
        {"gallery images": "67", "train images": "2", "recipe.seed": "0", "recipe.cameras": "3"},
    ]
    assert distinct_labels(["x", "x"], every) == ["x (seed=1)", "x (seed=0)"]
    for own in every:
        del own["recipe.seed"]
    counts = ["x (gallery images=69, train images=1)", "x (gallery images=67, train images=2)"]
    assert distinct_labels(["x", "x"], every) == counts


def test_over_the_gallerys_bytes_a_stream_is_its_best_at_each() -> None:
    found = [(512, 0.5), (512, 0.6), (2048, 0.7), (2048, 0.65)]
    stream = [
        Point("d", "m", "stream", "margin", rank1, rank1, 1e6, embedding_bytes=size)
        for size, rank1 in found
    ]
    ours = Point("d", "m", "exit", "last", 0.7, 0.7, 2e6, embedding_bytes=512)
    reference = Point("d", "h", "reference", "", 0.1, 0.1, 1e3, embedding_bytes=9000)
    figure = frontier([*stream, ours, reference], "embedding", "rank1")
    assert figure is not None
    (ax,) = figure.axes
    (dashes,) = (line for line in ax.lines if line.get_marker() == "_")
    assert sorted(map(tuple, dashes.get_xydata().tolist())) == [(512, 60), (2048, 70)]
    assert ax.get_xlim()[1] > 9000  # a reference that costs more is inside
