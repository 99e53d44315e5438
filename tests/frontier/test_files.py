"""What the command writes, and the published numbers."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import pytest

from reid_lab.frontier import tables
from reid_lab.frontier.page import page
from reid_lab.frontier.points import Point
from reid_lab.frontier.published import published, rows
from tests.commands import frontier as main
from tests.frontier.runs import cost_row, make_run

POLICIES = {"margin": [(10e6, 0.5), (15e6, 0.68), (20e6, 0.7)]}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    costs = [cost_row("early", 2.0), cost_row("late", 6.0)]
    make_run(tmp_path / "runs" / "a", "two", 0, costs=costs, policies=POLICIES)
    make_run(tmp_path / "runs" / "b", "two", 1, costs=costs, policies=POLICIES)
    make_run(tmp_path / "runs" / "c", "one", exits={"pool": (30e6, 0.6)})
    return tmp_path / "runs"


@pytest.fixture
def unpictured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are slow, and the test is not about them."""
    monkeypatch.setattr(tables, "png", lambda draw: None)


@pytest.fixture
def one_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the pictures."""
    monkeypatch.setattr(tables, "METRICS", ("rank1",))


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "frontier.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_pictures_and_page(runs: Path, tmp_path: Path) -> None:
    assert main([str(runs), "--out", str(tmp_path / "out")]) == 0
    out = tmp_path / "out"
    pictures = {p.name for p in out.glob("*.png")}
    kinds = ("mul_adds", "latency", "throughput", "memory", "embedding")
    assert pictures == {f"frontier_{k}_{m}.png" for k in kinds for m in ("rank1", "mAP")}
    marked = {(r["method"], r["point"]) for r in table(out) if r["pareto_mul_adds_rank1"]}
    assert marked == {("two", "early"), ("two", "late"), ("two", "margin")}
    html = (out / "frontier.html").read_text()
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)", html)
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])  # type: ignore[index]
    assert len(data["points"]) == len(table(out))
    assert set(data["colours"]) == {"one", "two"}


@pytest.mark.usefixtures("one_metric")
def test_a_table_is_drawn_again_to_the_byte(runs: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert main([str(runs), "--out", str(first)]) == 0
    assert main(["--from", str(first / "frontier.csv"), "--out", str(again)]) == 0
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


@pytest.mark.usefixtures("one_metric")
def test_a_picture_without_data_goes(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main([str(runs), "--out", str(out)])
    main([str(runs / "c"), "--out", str(out)])
    left = {"frontier_mul_adds_rank1.png", "frontier_embedding_rank1.png"}
    assert {p.name for p in out.glob("*.png")} == left


@pytest.mark.usefixtures("unpictured")
def test_budgets_on_the_command_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(runs), "--out", str(tmp_path / "out")]
    assert main([*words, "--max-mul-adds", "12e6"]) == 0
    assert "two margin" not in capsys.readouterr().out
    assert main([*words, "--max-mul-adds", "16e6", "--max-embedding-bytes", "2000"]) == 0
    assert "policy      margin, planned 1.5e+07" in capsys.readouterr().out
    assert main([*words, "--max-latency-ms", "1"]) == 1
    assert "the least is 2, of two early" in capsys.readouterr().err


@pytest.mark.usefixtures("unpictured")
def test_the_mean_over_data_sets_has_a_folder(runs: Path, tmp_path: Path) -> None:
    make_run(runs / "d", "one", dataset="other", exits={"pool": (30e6, 0.8)})
    out = tmp_path / "out"
    assert main([str(runs), "--out", str(out), "--average"]) == 0
    found = [row for row in table(out / "average") if row["kind"] == "exit"]
    assert [(row["method"], row["dataset"]) for row in found] == [("one", "mean of people, other")]
    assert float(found[0]["rank1"]) == pytest.approx(0.7)
    assert "left out of the mean" in (out / "average" / "frontier.html").read_text()


@pytest.mark.usefixtures("unpictured")
def test_data_sets_get_a_folder_each(runs: Path, tmp_path: Path) -> None:
    make_run(runs / "d", "two", dataset="other")
    out = tmp_path / "out"
    assert main([str(runs), "--out", str(out)]) == 0
    assert {p.parent.name for p in out.glob("*/frontier.csv")} == {"people", "other"}
    assert main([str(runs), "--out", str(out), "--dataset", "other"]) == 0
    assert {r["dataset"] for r in table(out)} == {"other"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no such folder"),
        (["--from", "nowhere.csv"], "no such file"),
        (["--from", __file__], "not a frontier.csv"),
    ],
)
def test_mistakes_are_told(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["runs", "--from", "x.csv"], ["r", "--max-mul-adds", "x"]])
def test_wrong_command_lines(words: list[str]) -> None:
    assert main(words) == 2


def test_a_name_cannot_break_the_page() -> None:
    bad = Point("<b>&", "</script><script>x", "exit", "x", 0.5, 0.5, 1e6)
    html = page([bad], ["<i>"])
    assert html.count("<script") == 2
    assert "<b>" not in html and "<i>" not in html


def test_published_numbers_where_they_compare(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "m" / "a", dataset="market1501", gallery=19732)
    out = tmp_path / "out"
    assert main([str(tmp_path / "m"), "--published", "--out", str(out)]) == 0
    drawn = {r["method"]: r for r in table(out) if r["kind"] == "published"}
    assert drawn["HAN(Small)"]["source"] == "HAN, Table 3"
    assert not any(r["pareto_mul_adds_rank1"] for r in drawn.values())
    assert published("market1501", 19732 + 500_000) == []
    assert published("synthetic", 2757) == []
    both = [published(f"cuhk03_{kind}_detected", 5332) for kind in ("new", "np")]
    assert [p.method for p in both[0]] == [p.method for p in both[1]] != []
    assert [p.method for p in published("cuhk03_old_detected_7", 100)] == ["JLML"]


def test_published_units() -> None:
    for row in rows():
        assert row["source"] and row["printed_unit"], row
        assert 0 < float(row["rank1"]) < 100
        if row["printed_cost"] and row["mul_adds"]:
            ratio = float(row["printed_cost"]) / float(row["mul_adds"])
            wanted = 2 if "halved" in row["printed_unit"] else 1
            assert ratio == pytest.approx(wanted, rel=0.05 * ("rounded" in row["printed_unit"])), (
                row
            )
        assert not row["image"] or re.fullmatch(r"\d+x\d+", row["image"]), row
        assert row["views"] in ("?", "1", "2", "10")
        assert row["pretraining"] in ("", "none", "ImageNet-1K", "ImageNet-21K", "LUPerson", "CLIP")
        assert not row["parameters"] or 1e5 < float(row["parameters"]) < 1e9
    assert len({(r["dataset"], r["method"], r["source"]) for r in rows()}) == len(rows())
    assert not any(math.isnan(p.rank1) for p in published("market1501", 19732))


def test_published_settings_are_in_the_notes() -> None:
    notes = {p.method: p.note for p in published("market1501", 19732)}
    assert "images of 256x128; pre-training: ImageNet-1K; 2.2 M parameters" in notes["OSNet x1.0"]
    assert (
        "pre-training: LUPerson" in notes["SOLIDER (Swin-T)"] and "views not given" in notes["PCB"]
    )
    for method in ("DaRe(R)", "PLA"):
        assert "; 10 views; " in notes[method] and "cost of one view" in notes[method]
    assert "views" not in notes["OSNet x1.0"]


@pytest.mark.usefixtures("unpictured")
def test_a_method_may_be_shown_under_another_name(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(runs), "--out", str(out), "--name", "two=small DaRe"]) == 0
    assert {row["method"] for row in table(out) if row["kind"] == "exit"} == {"small DaRe", "one"}
    assert "small DaRe" in (out / "frontier.html").read_text()
    again = ["--from", str(out / "frontier.csv"), "--out", str(tmp_path / "again")]
    assert main([*again, "--name", "small DaRe=DaRe", "--name", "one=ResNet"]) == 0
    exits = [row for row in table(tmp_path / "again") if row["kind"] == "exit"]
    assert {row["method"] for row in exits} == {"DaRe", "ResNet"}


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["three=DaRe"], "no method 'three'; the methods are two, "),
        (["two=one"], "'one' is given twice"),
        (["two=DaRe", "two=PLA"], "is given twice"),
        (["two=DaRe", "one=DaRe"], "'DaRe' is given twice"),
        (["two"], "'two' is not METHOD=NAME"),
        (["two= "], "is not METHOD=NAME"),
    ],
)
def test_a_wrong_name_is_refused(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    says: str,
) -> None:
    given = [word for name in names for word in ("--name", name)]
    assert main([str(runs), "--out", str(tmp_path / "out"), *given]) != 0
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
