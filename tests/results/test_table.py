"""One writer and one reader for all tables: what is written is read back, older files too."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from reid_lab.files.stored import StoredFileError
from reid_lab.results import OF_A_TEST, TABLES, Results
from reid_lab.results.cells import CASTS
from reid_lab.results.results import read_tables
from reid_lab.results.rows.accuracy import EXITS
from reid_lab.results.rows.budget import ANYTIME, POLICIES, STREAM, AnytimeRow, Routing, StreamRow
from reid_lab.results.rows.multirun import RUNS, RunRow
from reid_lab.results.rows.verification import FORMER, OPERATING_POINTS, ROC
from reid_lab.results.table import Table

VALUES: dict[str, Any] = {"str": "a, b", "int": 3, "int | None": None, "Signed": -1.5}
EVERY = [*TABLES.values(), RUNS]
STREAM_ROW = StreamRow(
    policy="margin",
    planned=2.0,
    realised=1.5,
    a=0.1,
    rank1=0.5,
    mAP=0.4,
    matching=3.0,
    budget=2.0,
    spent=1.5,
    shares={"x": 1.0},
    **{
        f"{m}_{of}{end}": -0.1
        for m in ("rank1", "mAP")
        for of in ("gain", "over_last")
        for end in ("", "_low", "_high")
    },
    **{f"{m}{end}": 0.3 for m in ("rank1", "mAP") for end in ("_low", "_high")},
)


def filled(table: Table[Any]) -> Any:
    """A row with a value in each column."""
    kinds = {f.name: str(f.type) for f in fields(table.row)}
    values = {
        name: {"x/y" if name == "figures" else "x": VALUES.get(kind[10:-1], 1.0)}
        if name in table.spread
        else VALUES.get(kind, 0.25)
        for name, kind in kinds.items()
    }
    known = {"kind": "exit", "condition": "size"}
    return table.row(**values | {name: value for name, value in known.items() if name in kinds})


@pytest.mark.parametrize("table", EVERY, ids=lambda table: table.file)
def test_rows_are_read_as_they_were_written(table: Table[Any], tmp_path: Path) -> None:
    rows = [filled(table)]
    table.write(tmp_path / table.file, rows)
    assert table.read(tmp_path / table.file) == rows
    assert table.of(table.flat(row) for row in rows) == rows


@pytest.mark.parametrize("table", EVERY, ids=lambda table: table.file)
def test_every_column_has_a_known_type(table: Table[Any]) -> None:
    for f in fields(table.row):
        assert str(f.type).removeprefix("dict[str, ").removesuffix("]") in CASTS


def test_unknown_is_blank_on_disk_and_nan_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "anytime.csv"
    ANYTIME.write(path, [AnytimeRow(budget=5.5, exit="", mul_adds=0, rank1=math.nan, mAP=0.5)])
    text = "budget,cost,exit,mul_adds,rank1,mAP,rank1_low,rank1_high,mAP_low,mAP_high\n"
    assert path.read_text() == f"{text}5.5,mul_adds,,0,,0.5,,,,\n"
    (row,) = ANYTIME.read(path)
    assert math.isnan(row.rank1)
    assert ANYTIME.read(tmp_path / "missing.csv") == []


@pytest.mark.parametrize("more", ["", ",cost,budget"])
def test_budgets_in_mul_adds_of_older_files(tmp_path: Path, more: str) -> None:
    path = tmp_path / "anytime.csv"
    cells = ",mul_adds," if more else ""
    path.write_text(f"mul_adds,exit,rank1,mAP{more}\n5.5,early,0.3,0.5{cells}\n")
    (row,) = ANYTIME.read(path)
    assert (row.budget, row.in_mul_adds, row.exit) == (5.5, 5.5, "early")
    assert math.isnan(row.mul_adds)  # those of the exit, which were not in the file


def test_budgets_in_milliseconds_of_older_files(tmp_path: Path) -> None:
    path = tmp_path / "anytime.csv"
    path.write_text("mul_adds,exit,rank1,mAP,cost,budget\n20,early,0.3,0.5,latency,5.5\n")
    (row,) = ANYTIME.read(path)
    assert (row.budget, row.mul_adds, row.in_mul_adds) == (5.5, 20, 20)


def test_rates_of_older_files_had_other_names(tmp_path: Path) -> None:
    (tmp_path / "roc.csv").write_text("exit,fpr,tpr,threshold\nx,0.1,0.9,1.5\n")
    (row,) = ROC.read(tmp_path / "roc.csv")
    assert (row.fmr, row.tmr) == (0.1, 0.9)
    point = filled(OPERATING_POINTS)
    OPERATING_POINTS.write(tmp_path / "new.csv", [point])
    former = {name: old for old, name in FORMER.items() if old not in ("fpr", "tpr")}
    header, _, rest = (tmp_path / "new.csv").read_text().partition("\n")
    older = [former.get(name, name) for name in header.split(",")]
    assert {"far", "known_tpr_low", "dir", "dir_high", "tpr_at_fpr"} <= {*older}
    (tmp_path / "old.csv").write_text(",".join(older) + "\n" + rest)
    assert OPERATING_POINTS.read(tmp_path / "old.csv") == [point]


def test_older_files_lack_columns_that_have_defaults(tmp_path: Path) -> None:
    path = tmp_path / "stream.csv"
    path.write_text("policy,planned,realised,a,rank1,mAP,share_x,other\nm,2,1,0,0.5,0.4,1,z\n")
    (row,) = STREAM.read(path)
    assert (row.thresholds, row.order, row.shares) == ("online", "shuffled", {"x": 1.0})
    assert math.isnan(row.rank1_low) and math.isnan(row.mAP_high)
    path.write_text("policy,planned,realised,a,rank1\nm,2,1,0,0.5\n")
    with pytest.raises(StoredFileError, match=r"stream.csv: no column 'mAP'$"):
        STREAM.read(path)


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("rank1", "1.5", "row 1: rank1 is 1.5, not a fraction from 0 to 1"),
        ("share_x", "high", "row 1: share_x is 'high', not a number"),
        ("share_x", "0.5", "row 1: the shares of the exits do not add up to 1"),
        ("planned", "", "row 1: planned is nan, not a number"),
        ("policy", "a" * 501, "row 1: policy has 501 letters, at most 500"),
    ],
)
def test_a_malformed_cell_is_named(tmp_path: Path, column: str, cell: str, reason: str) -> None:
    path = tmp_path / "stream.csv"
    values = STREAM.flat(STREAM_ROW) | {column: cell}
    path.write_text(f"{','.join(values)}\n{','.join(map(str, values.values()))}\n")
    with pytest.raises(StoredFileError) as error:
        STREAM.read(path)
    assert str(error.value) == f"{path}: {reason}"


def test_an_exit_is_in_the_table_once(tmp_path: Path) -> None:
    EXITS.write(tmp_path / "exits.csv", [filled(EXITS)] * 2)
    with pytest.raises(StoredFileError, match="duplicate exit 'a, b'"):
        EXITS.read(tmp_path / "exits.csv")


def test_labels_come_before_the_columns() -> None:
    text = STREAM.text([STREAM_ROW], run=["mine"])
    assert text.splitlines()[0].startswith("run,policy,") and text.splitlines()[1][:5] == "mine,"


def test_columns_of_a_multirun_are_settings_and_figures() -> None:
    made = RunRow(
        job="0",
        settings={"lr": "1"},
        status="done",
        figures={"late/mAP": 0.5},
        elapsed_s=1,
        folder="0",
        error="",
    )
    header = ["job", "lr", "status", "late/mAP", "elapsed_s", "folder", "error"]
    assert RUNS.columns([made]) == header


def test_a_test_writes_the_tables_that_have_rows(tmp_path: Path) -> None:
    Results(stream=[STREAM_ROW]).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["stream.csv"]
    read = read_tables(tmp_path)
    assert read.pop("stream") == [STREAM_ROW] and not any(read.values())
    assert "search.csv" not in OF_A_TEST and "cost.csv" in OF_A_TEST


@pytest.mark.parametrize(
    ("name", "routing"),
    [
        ("margin", Routing("margin")),
        ("margin (steered, latency)", Routing("margin", "steered", cost="latency")),
        ("learned (fitted, by camera)", Routing("learned", "fitted", "by_camera")),
        (
            "entropy (steered, energy, by identity)",
            Routing("entropy", "steered", "by_identity", "energy"),
        ),
    ],
)
def test_a_routing_in_the_name_of_an_older_policy(
    tmp_path: Path, name: str, routing: Routing
) -> None:
    assert str(routing) == name and Routing.of_name(name) == routing
    (tmp_path / "stream.csv").write_text(
        f'policy,planned,realised,a,rank1,mAP,cost\n"{name}",10,10,,0.5,0.4,{routing.cost}\n'
    )
    (row,) = STREAM.read(tmp_path / "stream.csv")
    assert row.routing == routing
    against = name.replace(routing.policy, "random", 1) if " (" in name else "random"
    (tmp_path / "policies.csv").write_text(
        f'policy,against,budgets\n"{name}",random,3\n"{name}","{against}",3\n'
    )
    for gains in POLICIES.read(tmp_path / "policies.csv"):
        assert (gains.routing, gains.against) == (routing, "random")
    written = [replace(row, policy="margin"), row]
    STREAM.write(tmp_path / "stream.csv", written)
    assert STREAM.text(STREAM.read(tmp_path / "stream.csv")) == STREAM.text(written)


def test_random_of_an_older_stream_is_geometric(tmp_path: Path) -> None:
    """Its shares were geometric, with an `a`, and no gain was written."""
    head = "policy,planned,realised,a,rank1,mAP,share_a,share_b"
    lines = ["random,10,10,0.5,0.5,0.4,0.7,0.3", "random (by camera),10,10,inf,0.5,0.4,0.7,0.3"]
    (tmp_path / "stream.csv").write_text("\n".join([head, *lines, "random,10,10,,.5,.4,1,0"]))
    rows = STREAM.read(tmp_path / "stream.csv")
    assert [row.policy for row in rows] == ["geometric", "geometric", "random"]
    assert [row.order for row in rows] == ["shuffled", "by_camera", "shuffled"]
    assert all(math.isnan(row.rank1_gain) for row in rows)
