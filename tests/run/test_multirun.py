"""A multirun must end with one table of its runs, whatever happened to some of them."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

from reid_lab.cli.show.run import print_pending
from reid_lab.config.choices import conf_dir
from reid_lab.config.paths import register_resolvers
from reid_lab.report.sweep import Swept
from reid_lab.run import multirun
from reid_lab.run.jobs import Job, command_of, read_jobs

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]

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
from reid_lab.cli.show.run import print_pending
from reid_lab.config.paths import register_resolvers

register_resolvers()

@hydra.main(config_path=".", config_name="config", version_base="1.3")
def main(cfg):
    if cfg.a == "bad" and not Path("fixed").exists():
        raise RuntimeError("the GPU is gone [for good]\\nand more")
    if cfg.a == "killed":
        raise SystemExit(7)
    folder = Path(HydraConfig.get().runtime.output_dir, "results")
    folder.mkdir(exist_ok=True)
    rank1 = 0.5 if cfg.a == "bad" else cfg.a / 10
    metrics = {"test/fusion/rank1": rank1, "test/fusion/mAP": 0.25}
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


LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_failed_job_is_repeated_alone_and_completes_the_table(
    tmp_path: Path, launcher: str
) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    swept = ("a=1,bad,4", "b.c=1", "+words='x, y'", "+d=${hydra:job.num}")
    done = run(tmp_path, "-m", *LAUNCHERS[launcher], *swept)
    assert done.returncode != 0
    rows = read_rows(tmp_path)
    assert [(row["job"], row["status"]) for row in rows] == [
        ("0", "done"),
        ("1", "failed"),
        ("2", "no results"),
    ]
    assert rows[1]["error"] == "RuntimeError: the GPU is gone [for good]"
    assert rows[1]["fusion/rank1"] == "" and rows[0]["fusion/rank1"] == "0.1"
    assert done.stdout.count("Runs (figures of the last exit)") == 1
    assert "failed: RuntimeError: the GPU is gone [for good]" in done.stdout
    assert "RuntimeError" in done.stderr

    lines = [line for line in done.stdout.splitlines() if "job 1: python -m reid_lab" in line]
    assert len(lines) == 2  # when it failed, and at the end
    line = lines[-1]
    (log,) = (tmp_path / "out").glob("*/1/program.log")
    assert line.strip() in log.read_text()
    (tmp_path / "fixed").touch()
    again = run(tmp_path, *shlex.split(line.partition(" reid_lab ")[2]))
    assert again.returncode == 0, again.stderr
    after = read_rows(tmp_path)
    assert [row["status"] for row in after] == ["done", "done", "no results"]
    assert after[1] == {
        **rows[1],
        **{"status": "done", "error": "", "elapsed_s": "1.5"},
        **{name: value for name, value in rows[0].items() if "/" in name},
        "fusion/rank1": "0.5",
    }
    assert again.stdout.count("Runs (figures of the last exit)") == 1
    assert sorted(p.name for p in (tmp_path / "out").glob("*/[0-9]")) == ["0", "1", "2"]


def test_commands_that_repeat_jobs(tmp_path: Path) -> None:
    """Only what is of the sweep is left out, and any folder is a value for Hydra and the shell."""
    folder = tmp_path / "it's, a=b" / "3"
    hydra = {
        "job": {"num": 3},
        "mode": "MULTIRUN",
        "runtime": {"cwd": str(tmp_path), "output_dir": str(folder), "config_sources": []},
        "sweep": {"dir": str(folder.parent)},
        "overrides": {
            "task": ["+sweep=seeds", 'name="a b"', "seed=1"],
            "hydra": [
                *("hydra.mode=MULTIRUN", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
                *("hydra.sweep.dir=x", "hydra.sweeper.max_batch_size=1", "+hydra.verbose=true"),
            ],
        },
    }
    config = OmegaConf.create({"hydra": hydra})
    sources = [{"provider": "main", "path": "x"}, {"provider": "command-line", "path": "my conf"}]
    config.hydra.runtime.config_sources = sources
    words = shlex.split(command_of(config))
    assert words[:3] == ["python", "-m", "reid_lab"]
    assert words[3:-1] == [
        *("--config-dir", "my conf", "+sweep=seeds", 'name="a b"', "seed=1"),
        *("+hydra.verbose=true", "hydra.job.num=3", "hydra.mode=RUN"),
    ]
    (place,) = OverridesParser.create().parse_overrides(words[-1:])
    assert place.key_or_group == "hydra.run.dir" and place.value() == "it's, a=b/3"


def test_a_job_that_can_be_resumed_says_so(tmp_path: Path) -> None:
    for number, status in enumerate(("done", "failed", "unfinished")):
        folder = tmp_path / str(number)
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra/overrides.yaml").write_text(f"- a={number}\n- ckpt_path=last\n")
        state = {"job": number, "status": status, "command": f"it a={number}"}
        (folder / ".hydra/status.json").write_text(json.dumps(state))
    (tmp_path / "2" / "checkpoints").mkdir()
    (tmp_path / "2" / "checkpoints" / "last.ckpt").touch()
    jobs = multirun.write_csv(tmp_path)
    assert [job.repeated_by() for job in jobs[1:]] == [
        "job 1: it a=1",
        "job 2: it a=2  (and ckpt_path=last to resume its training)",
    ]
    assert jobs[0].overrides == {"a": "0"}  # how it was resumed is no setting


def test_other_processes_of_a_job_leave_its_status_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/status.json").write_text('{"job": 1, "status": "failed", "sweep": ".."}')
    runtime = {"output_dir": str(tmp_path), "cwd": str(tmp_path)}
    config = OmegaConf.create({"hydra": {"mode": "RUN", "runtime": runtime}})
    table = multirun.RunsTable()
    for name, status in (
        ("LOCAL_RANK", "failed"),
        ("RANK", "failed"),
        ("WORLD_SIZE", "unfinished"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            patch.setattr(multirun, "_pending", None)
            table.on_job_start(config)
        assert Job.read(tmp_path).status == status


def test_slurm_is_given_what_the_docs_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its config, and the script that submitit submits with it."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    import submitit

    text = (ROOT / "docs/training.md").read_text()
    (command,) = re.findall(r"reid_lab (-m hydra/launcher=submitit_slurm .*?)\n", text)
    given = [word for word in command.split() if word.startswith("hydra")]
    place = [f"hydra.sweep.dir={tmp_path}", f"hydra.run.dir={tmp_path}"]
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[*given, *place], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    scripts: list[str] = []

    def keep(executor: Any, *_: Any) -> list[object]:
        scripts.append(executor._executor._make_submission_file_text("true", "id"))
        return []

    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", lambda _: 2)
    monkeypatch.setattr(submitit.AutoExecutor, "map_array", keep)
    launcher = instantiate(cfg.hydra.launcher)
    launcher.setup(hydra_context=None, task_function=None, config=cfg)
    launcher.launch([["seed=0"], ["seed=1"]], 0)
    lines = scripts[0].splitlines()
    for line in ("gpus-per-node=1", "time=1440", "nodes=1", "ntasks-per-node=1"):
        assert f"#SBATCH --{line}" in lines


def test_a_program_that_ends_midway_keeps_the_table(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "a=1,killed,3", "hydra.sweep.subdir='of_${a}'")
    assert done.returncode == 7
    assert [(row["folder"], row["status"]) for row in read_rows(tmp_path)] == [
        ("of_1", "done"),
        ("of_killed", "unfinished"),
        ("of_3", "not started"),
    ]
    assert "job 2: python -m reid_lab a=3" in done.stdout


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
    print_pending()
    print_pending()
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
        assert multirun._swept(Job.read(tmp_path), "a", None) is None


def test_a_sweep_with_an_axis_is_drawn(tmp_path: Path) -> None:
    drawing = ["+hydra.callbacks.runs_table.x=a", "+hydra.callbacks.runs_table.lines=b.c"]
    compared = "+hydra.callbacks.runs_table.compare={teacher: one, theirs: other, nobody: none}"
    run(tmp_path, "a=9", "hydra.run.dir=one")
    run(tmp_path, "-m", "a=1,3", "hydra.sweep.dir=other")
    done = run(tmp_path, "-m", "a=1,2,bad", "b.c=1,2", *drawing, compared)
    assert sorted(p.name for p in tmp_path.glob("out/*/*.png")) == [
        "sweep_mAP.png",
        "sweep_rank1.png",
    ]
    assert "sweep_rank1.png" in done.stdout
    assert "none: no results, or of several keys: nobody is not drawn" in done.stdout
    assert not list(tmp_path.glob("one/*.png"))


def test_another_sweep_is_one_more_line(tmp_path: Path) -> None:
    """Over the same key, or over the only one that differs there but for seeds."""
    for folder, overrides in {
        "same/0": "- a=1\n- b.c=2\n",
        "same/1": "- a=2\n- b.c=3\n",
        "other/0": "- b.c=8\n- seed=0\n",
        "other/1": "- b.c=9\n- seed=1\n",
        "mixed/0": "- d=8\n- e=0\n",
        "mixed/1": "- d=9\n- e=1\n",
    }.items():
        job = tmp_path / folder
        (job / ".hydra").mkdir(parents=True)
        (job / "results").mkdir()
        (job / ".hydra/overrides.yaml").write_text(overrides)
        summary = {"metrics": {"test/x/rank1": 0.5, "test/x/mAP": 0.25}, "mul_adds": {"x": 1}}
        (job / "results/summary.json").write_text(json.dumps(summary))

    def line(name: str) -> list[Swept]:
        return multirun._other_line(read_jobs(tmp_path / name), "a")

    assert line("same") == [Swept(x, "", 0.5, 0.25) for x in "12"]
    assert line("other") == [Swept(x, "", 0.5, 0.25) for x in "89"]
    assert line("mixed") == []


def test_points_are_the_last_exits(tmp_path: Path) -> None:
    summary = {"metrics": {"test/a/rank1": 0.5, "test/a/mAP": 0.25, "test/h/mAP": 1}}
    summary["mul_adds"] = {"a": 1}
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text("- a=1\n- +b.c=x\n")
    (tmp_path / "results/summary.json").write_text(json.dumps(summary))
    job = Job.read(tmp_path)
    assert multirun._swept(job, "a", "b.c") == Swept("1", "x", 0.5, 0.25)
    assert multirun._swept(job, "a", None) == Swept("1", "", 0.5, 0.25)
    assert multirun._swept(job, "other", None) is None


def test_empty_sweep_folder(tmp_path: Path) -> None:
    assert multirun.write_csv(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
