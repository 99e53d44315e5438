"""The report of a fake run: what it says, what it marks, and what it does without."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from rich.console import Console

from reid_lab.report import ReportError, load_run, plots, style, write_report
from reid_lab.report.console import print_exits
from reid_lab.report.headlines import headlines
from reid_lab.report.logs import read_logs
from reid_lab.report.tables import duration, mul_adds, percent, points

COSTS = [513_700_000, 1_185_400_000, 2_142_900_000, 2_673_600_000, 2_673_600_000]
RANK1 = [0.667, 0.80, 0.87, 0.86, 0.885]
MAP = [0.421, 0.561, 0.672, 0.664, 0.709]
NAMES = ["stage1", "stage2", "stage3", "stage4", "fusion"]
PAGE = "report/report.html"
SECTIONS = {
    "exits.csv": "Accuracy by exit",
    "anytime.csv": "Anytime",
    "stream.csv": "Budgeted stream",
    "queries.json": "Ranked lists",
}


def make_run(folder: Path, name: str = "dare-r50", steps: int = 60, queries: int = 2) -> Path:
    """A run folder with believable numbers and painted people."""
    results = folder / "results"
    results.mkdir(parents=True)
    _write(results / "exits.csv", _exits())
    _write(results / "anytime.csv", _anytime())
    _write(results / "stream.csv", _stream())
    (results / "queries.json").write_text(json.dumps({"queries": _queries(folder, queries)}))
    (results / "summary.json").write_text(json.dumps(_summary(name)))
    (folder / "config.yaml").write_text("model:\n  backbone: resnet50\nseed: 7\n")
    make_logs(folder / "logs" / "version_0", range(0, steps * 2 // 3, 1))
    make_logs(folder / "logs" / "version_1", range(steps // 2, steps, 1))
    return folder


def make_logs(folder: Path, steps: range, shift: float = 0.0) -> None:
    """Sparse columns, as Lightning's CSVLogger leaves them."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for step in steps:
        decay = np.exp(-step / 300)
        noise = random.normal(0, 0.15, len(NAMES))
        losses = {
            f"train/loss_{n}": 6 * decay + 1.5 - 0.2 * i + noise[i] + shift
            for i, n in enumerate(NAMES)
        }
        rows.append({"step": step, "epoch": step // 50, "train/images_per_second": 412, **losses})
        if step % 20 == 0:
            accuracy = {
                f"val/{n}/rank1": r * (1 - decay) for n, r in zip(NAMES, RANK1, strict=True)
            }
            rows.append({"step": step, "epoch": step // 50, **accuracy})
    _write(folder / "metrics.csv", rows)


def _exits() -> list[dict[str, object]]:
    fixed = {"dim": 128, "rank5": 0.95, "rank10": 0.97, "rank20": 0.98, "mINP": 0.3}
    asked = {"queries": 3368, "skipped": 0}
    rows: list[dict[str, object]] = [
        {"name": n, "kind": "exit", "mul_adds": c, "rank1": r, "mAP": m, **fixed, **asked}
        for n, c, r, m in zip(NAMES, COSTS, RANK1, MAP, strict=True)
    ]
    reference = {"name": "hsv_histogram", "kind": "reference", "mul_adds": 100_000}
    return [*rows, {**reference, "rank1": 0.2, "mAP": 0.061, **fixed, **asked}]


def _anytime() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for budget in np.linspace(0, max(COSTS), 60).astype(int):
        reached = [i for i, cost in enumerate(COSTS) if cost <= budget]
        last = reached[-1] if reached else None
        rows.append(
            {
                "mul_adds": budget,
                "exit": "" if last is None else NAMES[last],
                "rank1": "" if last is None else RANK1[last],
                "mAP": "" if last is None else MAP[last],
            }
        )
    return rows


def _stream() -> list[dict[str, object]]:
    gains = {"random": 0.0, "distance": 0.03, "margin": 0.05, "margin (oracle)": 0.07}
    low, high = COSTS[0], COSTS[-1]
    rows: list[dict[str, object]] = []
    for policy, gain in gains.items():
        for i, planned in enumerate(np.linspace(low, high, 50)):
            t = i / 49
            curve = np.interp(planned, COSTS[:3] + COSTS[4:], RANK1[:3] + RANK1[4:])
            rank1 = curve + gain * 4 * t * (1 - t)
            shares = np.array([(1 - t) ** 4, 0.3 * (1 - t), 0.2 * t, 0.1 * t, t**2]) + 1e-6
            shares /= shares.sum()
            rows.append(
                {
                    "policy": policy,
                    "planned": planned,
                    "realised": planned * (1 + 0.4 * gain * np.sin(5 * t)),
                    "a": 2.0 * t - 1,
                    "rank1": rank1,
                    "mAP": rank1 - 0.19,
                    **{f"share_{n}": s for n, s in zip(NAMES, shares, strict=True)},
                }
            )
    return rows


def _queries(folder: Path, count: int) -> list[dict[str, object]]:
    random = np.random.default_rng(1)
    pool = [_person(folder / "images" / f"{i}.jpg", i) for i in range(8)]

    def shot(pid: int, distance: float, wanted: int) -> dict[str, object]:
        return {
            "path": str(pool[pid]),
            "pid": pid,
            "camid": 2,
            "distance": distance,
            "match": pid == wanted,
        }

    found = []
    for q in range(count):
        group = "easy" if q < count // 2 else "hard"
        ranked = {}
        for i, name in enumerate(NAMES):
            hit = random.random(6) < (0.95 if group == "easy" else 0.2 * i)
            pids = [q % 8 if h else int(random.integers(8)) for h in hit]
            ranked[name] = [shot(pid, 0.2 + 0.05 * k, q % 8) for k, pid in enumerate(pids)]
        path = f"images/{q % 8}.jpg"  # relative to the run folder
        found.append({"path": path, "pid": q % 8, "camid": 1, "group": group, "ranked": ranked})
    return found


def _person(path: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    ground, shirt, legs = (tuple(int(v) for v in c) for c in random.integers(40, 230, (3, 3)))
    image = Image.new("RGB", (32, 64), ground)
    draw = ImageDraw.Draw(image)
    draw.ellipse((12, 4, 20, 14), fill=(222, 184, 150))
    draw.rectangle((9, 15, 23, 36), fill=shirt)
    draw.rectangle((10, 37, 15, 60), fill=legs)
    draw.rectangle((17, 37, 22, 60), fill=legs)
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return path


def _summary(name: str) -> dict[str, object]:
    return {
        "name": name,
        "task": "train and evaluate",
        "seed": 7,
        "command": "reid-lab train experiment=dare_r50",
        "commit": "0123abcd",
        "machine": "1 GPU, 16 cores",
        "versions": {"python": "3.11", "torch": "2.4"},
        "elapsed_s": 7384,
        "dataset": {
            "name": "market1501",
            "train": {"images": 12936, "pids": 751, "cameras": 6},
            "gallery": {"images": 19732, "pids": 751, "cameras": 6},
        },
        "notes": ["Images are 256 by 128 pixels."],
        "metrics": {},
        "mul_adds": {},
    }


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


class Links(HTMLParser):
    """Collects whatever a page would load or follow, and its element names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]


@pytest.fixture(scope="module", autouse=True)
def coarse() -> Iterator[None]:
    """Small plots, for speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DPI", 40)
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are made but not rasterised, which is what takes the time."""

    def save(figure: Figure, target: io.BytesIO, **_: object) -> None:
        Image.new("RGB", (8, 8)).save(target, "PNG")

    monkeypatch.setattr(Figure, "savefig", save)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report, only to be looked at."""
    run = make_run(tmp_path_factory.mktemp("done") / "run")
    write_report(run)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.mark.usefixtures("undrawn")
def test_writes_the_page_and_what_is_behind_it(run: Path) -> None:
    before = dict(matplotlib.rcParams)
    target = write_report(run)
    assert target == run / "report" / "report.html"
    written = {path.name for path in target.parent.iterdir()}
    assert {
        "report.html",
        "ranked.png",
        "exits_rank1.png",
        "anytime_rank1.png",
        "stream.png",
        "budget.png",
        "loss.png",
        "validation.png",
    } <= written
    assert {"exits.csv", "anytime.csv", "stream.csv", "training.csv"} <= written
    assert dict(matplotlib.rcParams) == before
    for path in target.parent.glob("*.png"):
        Image.open(path).verify()


def test_formats_numbers() -> None:
    assert [mul_adds(n) for n in (513.7e6, 2673.6e6, 1e5, 999.96e6, 12_345, 7)] == [
        "513.7 M",
        "2.67 G",
        "0.1 M",
        "1.00 G",
        "12.3 k",
        "7",
    ]
    assert [percent(0.885), percent(float("nan")), points(-0.018)] == ["88.5%", "–", "−1.8"]
    assert [duration(s) for s in (12.4, 75, 7384)] == ["12 s", "1 min 15 s", "2 h 3 min"]


def test_page_tells_the_numbers(done: Path) -> None:
    page = (done / PAGE).read_text()
    for text in (
        "dare-r50",
        "88.5%",
        "66.7%",
        "513.7 M",
        "2.67 G",
        "hsv_histogram (reference)",
        "3,368 queries",
        "412 images/s",
        "Margin over random",
        "2 h 3 min",
        "0123abcd",
        "backbone: resnet50",
        "Images are 256 by 128 pixels.",
        "12,936",
    ):
        assert text in page, text
    assert "fusion itself" in page  # no cheaper exit is within one point
    assert "left out" not in page


def test_cheapest_exit_within_a_point(run: Path) -> None:
    path = run / "results" / "exits.csv"
    path.write_text(path.read_text().replace("0.87,", "0.876,"))
    headline = headlines(load_run(run))[1]
    assert headline.value == "2.14 G"
    assert headline.note == "Mul-Adds of stage3, 19.8% below fusion; Rank-1 87.6%"


def test_marks_right_and_wrong(done: Path) -> None:
    page = (done / PAGE).read_text()
    queries = load_run(done).queries
    matches = [s.match for q in queries for shots in q.ranked.values() for s in shots]
    assert page.count('class="shot right"') == page.count("✓</i>") == sum(matches) > 0
    assert page.count('class="shot wrong"') == page.count("✗</i>") == matches.count(False) > 0
    assert "<h3>Easy queries</h3>" in page and "<h3>Hard queries</h3>" in page


def test_page_needs_nothing_else(done: Path) -> None:
    page = (done / PAGE).read_text()
    found = Links(page)
    assert found.links and all(link.startswith("data:image/") for link in found.links)
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert not re.search(r"url\(|@import", page)
    assert str(done) not in page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", SECTIONS)
def test_survives_a_missing_result(run: Path, name: str) -> None:
    (run / "results" / name).unlink()
    page = write_report(run).read_text()
    assert f"{SECTIONS[name]} left out: results/{name}" in page
    assert f"<h2>{SECTIONS[name]}</h2>" not in page
    assert page.count("left out:") == 1


@pytest.mark.usefixtures("undrawn")
def test_survives_other_missing_pieces(run: Path) -> None:
    (run / "results" / "summary.json").unlink()
    (run / "config.yaml").unlink()
    (run / "images" / "0.jpg").unlink()
    for path in run.glob("logs/*/metrics.csv"):
        path.unlink()
    page = write_report(run).read_text()
    assert "<h1>run</h1>" in page  # the folder's name
    assert "Training left out: no losses" in page
    assert 'class="lost"' in page and "1 could not be read" in page


@pytest.mark.usefixtures("undrawn")
def test_only_a_summary_is_enough(run: Path) -> None:
    write_report(run)
    for name in SECTIONS:
        (run / "results" / name).unlink()
    folder = write_report(run).parent
    assert not list(folder.glob("exits*"))  # nothing stale stays behind


def test_says_what_is_wrong(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no run folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match="no results"):
        write_report(tmp_path / "empty")
    (run / "results" / "exits.csv").write_text("name,kind\nstage1,exit\n")
    with pytest.raises(ReportError, match="exits.csv: no column 'mul_adds'"):
        write_report(run)


def test_resumed_logs_merge_and_the_later_wins(tmp_path: Path) -> None:
    make_logs(tmp_path / "version_2", range(0, 40))
    make_logs(tmp_path / "version_10", range(30, 60), shift=100.0)
    logs = read_logs(tmp_path)
    steps, values = logs.losses["stage1"]
    assert list(steps) == list(range(60))
    assert (values[:30] < 50).all() and (values[30:] > 50).all()
    assert list(logs.validation["fusion"][0]) == [0, 20, 40]


@pytest.mark.usefixtures("undrawn")
def test_escapes_hostile_names(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    run = make_run(tmp_path / "run", name=hostile)
    for path in (run / "results" / "exits.csv", run / "results" / "queries.json"):
        path.write_text(path.read_text().replace("stage1", "<img onerror=x>"))
    page = write_report(run, [run]).read_text()
    assert "<script" not in page and "<img onerror" not in page
    assert "&lt;script&gt;alert(1)" in page and "&lt;img onerror=x&gt;" in page


def test_draws_a_name_that_looks_like_mathematics(run: Path) -> None:
    path = run / "results" / "exits.csv"
    path.write_text(path.read_text().replace("stage1", "$x_$"))
    assert style.png(partial(plots.exits, load_run(run), {}, "rank1"))


@pytest.mark.usefixtures("undrawn")
def test_compares_runs(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", name="se-resnet")
    write_report(run, [other, make_run(tmp_path / "twin")])
    for draw in (plots.exits, plots.anytime):
        figure = draw(load_run(run), {"baseline": load_run(other)}, "rank1")
        assert figure and {"dare-r50", "baseline"} <= set(
            figure.axes[0].get_legend_handles_labels()[1]
        )
    with (run / "report" / "exits.csv").open() as file:
        labels = {row["run"] for row in csv.DictReader(file)}
    assert labels == {"dare-r50", "se-resnet", "dare-r50 (twin)"}
    assert not (other / "report").exists()


def test_prints_exits(run: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    print_exits(run, console=console)
    text = console.export_text()
    assert "dare-r50" in text and "fusion" in text and "88.5%" in text and "2.67 G" in text
    assert "…" not in text  # nothing is cut off
