"""A multirun must end with one table of its runs, whatever happened to some of them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reid_lab.config.paths import conf_dir
from reid_lab.report.sweep import Swept
from reid_lab.run import multirun

pytestmark = pytest.mark.system

CONFIG = """
defaults: [_self_]
a: 0
b: {c: 1}
hydra:
  sweep: {dir: "out/${now:%Y}"}
  callbacks:
    runs_table: {_target_: reid_lab.run.multirun.RunsTable}
"""
PROGRAM = """
import json
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from reid_lab.run.multirun import print_pending
from reid_lab.config.paths import register_resolvers

register_resolvers()

@hydra.main(config_path=".", config_name="config", version_base="1.3")
def main(cfg):
    if cfg.a == "bad":
        raise RuntimeError("the GPU is gone [for good]\\nand more")
    if cfg.a == "killed":
        raise SystemExit(7)
    folder = Path(HydraConfig.get().runtime.output_dir, "results")
    folder.mkdir(exist_ok=True)
    metrics = {"test/fusion/rank1": cfg.a / 10, "test/fusion/mAP": 0.25}
    metrics |= {"test/stage1/rank1": 0.125, "test/stage1/mAP": 0.0625, "val/loss": 3}
    metrics |= {"test/histogram/rank1": 0.99}  # a reference, which costs no budget
    summary = {"name": "x", "seed": 0, "metrics": metrics, "elapsed_s": 1.5}
    summary["mul_adds"] = {"stage1": 1000, "fusion": 1234567890}
    text = json.dumps(summary) if cfg.a != 4 else "{broken"
    (folder / "summary.json").write_text(text)

try:
    main()
finally:
    print_pending()
"""


def run(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", *overrides]
    source = str(Path(multirun.__file__).parents[2])
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_jobs_of_several_names_share_a_folder_and_a_table(tmp_path: Path) -> None:
    shipped = OmegaConf.load(conf_dir() / "config.yaml")
    where = OmegaConf.to_container(shipped.hydra.sweep, resolve=False)["dir"]  # type: ignore
    done = run(tmp_path, "-m", "a=1,2", "+name=run_${a}", f"hydra.sweep.dir='{where}'")
    assert done.returncode == 0, done.stderr
    (table,) = tmp_path.rglob("runs.csv")
    with table.open(newline="") as file:
        assert [row["folder"] for row in csv.DictReader(file)] == ["0", "1"]
    assert f"All figures: {table}" in done.stdout
    assert sorted(path.name for path in table.parent.glob("[0-9]")) == ["0", "1"]


def read_rows(folder: Path) -> list[dict[str, str]]:
    (path,) = folder.glob("out/*/runs.csv")
    assert [p.name for p in path.parent.glob(".runs*")] == []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_good(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "a=3,2", "+b.d=5", "b.c=7")
    assert done.returncode == 0, done.stderr
    rows = read_rows(tmp_path)
    assert rows[0] == {
        "job": "0",
        "a": "3",
        "status": "done",
        "histogram/rank1": "0.99",
        "stage1/rank1": "0.125",
        "stage1/mAP": "0.0625",
        "stage1/mul_adds": "1000",
        "fusion/rank1": "0.3",
        "fusion/mAP": "0.25",
        "fusion/mul_adds": "1234567890",
        "elapsed_s": "1.5",
        "folder": "0",
        "error": "",
    }
    assert [(row["job"], row["a"]) for row in rows] == [("0", "3"), ("1", "2")]
    assert done.stdout.count("Runs (figures of the last exit)") == 1
    (line,) = [line for line in done.stdout.splitlines() if "30.0%" in line]
    for text in ("done", "25.0%", "1.23 G", "1.5 s"):
        assert text in line
    assert "runs.csv" in done.stdout


def test_a_failed_job_keeps_the_table(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "a=1,bad,3,4", "b.c=2,1")
    assert done.returncode != 0
    rows = read_rows(tmp_path)
    assert [row["job"] for row in rows] == list("01234567")
    assert [row["b.c"] for row in rows] == ["2", "1"] * 4
    expected = ["done", "failed", "done", "no results"]
    assert [row["status"] for row in rows[::2]] == expected
    assert rows[2]["error"] == "RuntimeError: the GPU is gone [for good]"
    assert rows[2]["fusion/rank1"] == "" and rows[4]["fusion/rank1"] == "0.3"
    assert done.stdout.count("Runs (figures of the last exit)") == 1
    assert "failed: RuntimeError: the GPU is gone [for good]" in done.stdout
    assert "no results" in done.stdout
    assert "RuntimeError" in done.stderr


def test_a_program_that_ends_midway_keeps_the_table(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "a=1,killed,3")
    assert done.returncode == 7
    assert [row["status"] for row in read_rows(tmp_path)] == ["done", "unfinished"]
    assert "unfinished" in done.stdout


def test_a_failed_rerun_does_not_show_old_results(tmp_path: Path) -> None:
    run(tmp_path, "-m", "a=1,2")
    run(tmp_path, "-m", "a=bad,2")
    rows = read_rows(tmp_path)
    assert rows[0]["status"] == "failed"
    assert rows[0]["fusion/rank1"] == ""


def test_a_single_run_has_no_table(tmp_path: Path) -> None:
    done = run(tmp_path, "a=1", "hydra.run.dir=one")
    assert done.returncode == 0
    assert "Runs" not in done.stdout
    assert list(tmp_path.rglob("runs.csv")) == []


@pytest.mark.parametrize(
    "summary",
    [
        "",
        "[1]",
        "null",
        "\0",
        '{"metrics":' + "[" * 99_999,
        json.dumps({"metrics": 3, "mul_adds": [1]}),
        '{"metrics": {"test/a/rank1": NaN, "test/a/mAP": 1e999}, "mul_adds": {"a": -1}}',
        json.dumps({"metrics": {"test/a/rank1": 10**4000}, "mul_adds": {"a": 10**4000}}),
        json.dumps({"mul_adds": {"\x1b[2J\udcff": 10**20}, "elapsed_s": [1]}),
        '{"metrics": {"test/a/mAP": 1}}',
    ],
)
def test_any_summary_can_be_read(
    tmp_path: Path,
    summary: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bomb = "- &a [x]\n" + "- [*a, *a]\n" * 9
    every = (("2", "- a=1\n"), ("10", "- ++a=2\n- ~b\n"), ("x", "{broken"), ("y", bomb))
    for number, overrides in every:
        (tmp_path / number / ".hydra").mkdir(parents=True)
        (tmp_path / number / ".hydra/overrides.yaml").write_text(overrides)
        (tmp_path / number / "results").mkdir()
        (tmp_path / number / "results/summary.json").write_text(summary)
    jobs = multirun.write_csv(tmp_path)
    assert [job.number for job in jobs] == ["2", "10", "x", "y"]
    assert [job.overrides for job in jobs] == [{"a": "1"}, {"a": "2", "~b": ""}, {}, {}]
    monkeypatch.setattr(multirun, "_pending", (tmp_path, multirun.RunsTable()))
    multirun.print_pending()
    multirun.print_pending()
    assert capsys.readouterr().out.count("Runs (") == 1


@pytest.mark.parametrize(
    "state", ["", "[" * 9999, '{"job": {"a": 1}, "status": 3}', '{"job": "9999999999999"}', "\0"]
)
def test_any_status_can_be_read(tmp_path: Path, state: str) -> None:
    for number in ("0", "1"):
        (tmp_path / number / ".hydra").mkdir(parents=True)
        (tmp_path / number / ".hydra/overrides.yaml").write_text("- a=1\n")
    (tmp_path / "0/.hydra/status.json").write_text(state)
    (tmp_path / "1/.hydra/status.json").write_text('{"job": 1, "status": "failed", "error": "x"}')
    jobs = {job.folder.name: job.status for job in multirun.write_csv(tmp_path)}
    assert jobs["1"] == "failed" and jobs.keys() == {"0", "1"}


def test_figures_that_are_no_numbers_are_not_drawn(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text("- a=1\n")
    for value in ("NaN", "1e999", '"x"', "null", "9" * 5000):
        figures = f'{{"test/a/rank1": {value}, "test/a/mAP": 0.5}}'
        (tmp_path / "results/summary.json").write_text(f'{{"metrics": {figures}}}')
        assert multirun._swept(multirun.Job.read(tmp_path), "a", None) is None


def test_a_sweep_with_an_axis_is_drawn(tmp_path: Path) -> None:
    drawing = ["+hydra.callbacks.runs_table.x=a", "+hydra.callbacks.runs_table.lines=b.c"]
    compared = "+hydra.callbacks.runs_table.compare={teacher: one, nobody: none}"
    run(tmp_path, "a=9", "hydra.run.dir=one")
    done = run(tmp_path, "-m", "a=1,2,bad", "b.c=1,2", *drawing, compared)
    assert sorted(p.name for p in tmp_path.glob("out/*/*.png")) == [
        "sweep_mAP.png",
        "sweep_rank1.png",
    ]
    assert "sweep_rank1.png" in done.stdout
    assert "none holds no results: nobody is not drawn" in done.stderr
    assert not list(tmp_path.glob("one/*.png"))


def test_points_are_the_last_exits(tmp_path: Path) -> None:
    summary = {"metrics": {"test/a/rank1": 0.5, "test/a/mAP": 0.25, "test/h/mAP": 1}}
    summary["mul_adds"] = {"a": 1}
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text("- a=1\n- +b.c=x\n")
    (tmp_path / "results/summary.json").write_text(json.dumps(summary))
    job = multirun.Job.read(tmp_path)
    assert multirun._swept(job, "a", "b.c") == Swept("1", "x", 0.5, 0.25)
    assert multirun._swept(job, "a", None) == Swept("1", "", 0.5, 0.25)
    assert multirun._swept(job, "other", None) is None


def test_empty_sweep_folder(tmp_path: Path) -> None:
    assert multirun.write_csv(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
