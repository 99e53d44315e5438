"""The cost account as the report shows it."""

from __future__ import annotations

import csv
import math
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reid_lab.report.cost_section import conditions_line, cost, cost_table, joules, size
from reid_lab.report.tables import stream_table
from reid_lab.results.rows.budget import StreamRow
from reid_lab.results.rows.cost import COST, CostRow

LINE = CostRow(
    exit="fusion",
    kind="exit",
    mul_adds=2_673_600_000,
    parameters=27_980_000,
    weight_bytes=112_300_000,
    peak_memory_bytes=4_390_000,
    dim=128,
    embedding_bytes=512,
    gallery=19_732,
    gallery_bytes=10_102_784,
    matching_mul_adds=2_525_696,
    latency_p50_ms=41.23,
    latency_p95_ms=123.4,
    images_per_second=1234.5,
    joules_per_image=math.nan,
    batch=16,
    views=1,
    repeats=20,
    batch_repeats=3,
    device="a CPU",
    threads=2,
    allocator="glibc 2.36, blocks kept",
    precision="32-true",
)
REFERENCE = replace(
    LINE, exit="hsv", kind="reference", parameters=math.nan, peak_memory_bytes=math.nan
)


def test_what_is_known_is_shown_in_units() -> None:
    table = cost_table([LINE, REFERENCE])
    shown = dict(zip(table.header, table.rows[0], strict=True))
    assert shown == {
        "Exit": "fusion",
        "Mul-Adds": "2.67 G",
        "Parameters": "28.0 M",
        "Weights": "112 MB",
        "Peak memory": "4.39 MB",
        "Latency p50": "41.2 ms",
        "p95": "123 ms",
        "Images/s": "1,234",
        "Dim": "128",
        "Embedding": "512 B",
        "Gallery": "10.1 MB",
        "Matching": "2.5 M",
    }
    other = dict(zip(table.header, table.rows[1], strict=True))
    assert (other["Exit"], other["Parameters"], other["Peak memory"]) == (
        "hsv (reference)",
        "–",
        "–",
    )


def test_energy_has_a_column_where_it_is_known() -> None:
    assert "Energy" not in cost_table([LINE]).header
    table = cost_table([replace(LINE, joules_per_image=0.0312)])
    assert table.rows[0][table.header.index("Energy")] == "31.2 mJ"
    assert joules(2.5) == "2.50 J"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6e3, "1.00 MB"), (2048, "2.05 kB"), (11.6e9, "11.6 GB")],
)
def test_bytes(count: float, text: str) -> None:
    assert size(count) == text


def test_the_section_says_how_it_was_measured() -> None:
    assert cost([]) == []
    (section,) = cost([LINE])
    for word in ("a CPU", "2 threads", "blocks kept", "batch 16 over 3", "19,732 images"):
        assert word in section.lead
    assert "view" not in section.lead
    together = conditions_line([replace(LINE, views=10)])  # of an older run
    assert "latency of one image, 10 views at once, over 20 passes" in together
    apart = conditions_line([replace(LINE, views=10, per="view")])
    assert "all costs of one of 10 views of an image" in apart and "of one view over" in apart
    few = replace(LINE, repeats=1)
    assert "over 1 pass (too few to rely on)" in conditions_line([few])
    assert "p95" in cost_table([LINE]).header and "p95" not in cost_table([few]).header
    assert "Gallery" not in cost([replace(LINE, gallery=None, gallery_bytes=math.nan)])[0].lead


def test_a_line_of_the_file_is_a_record(tmp_path: Path) -> None:
    path = tmp_path / "cost.csv"
    values = {f.name: getattr(LINE, f.name) for f in fields(CostRow)}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(values))
        writer.writeheader()
        writer.writerow(values | {"joules_per_image": "", "gallery": ""})
    (read,) = COST.read(path)
    unknown = ("joules_per_image", "file_bytes", "process_bytes")
    assert all(math.isnan(getattr(read, name)) for name in unknown)
    known = dict.fromkeys(unknown, 0)
    assert replace(read, **known) == replace(LINE, **known, gallery=None)


@pytest.mark.parametrize(("cost", "unit"), [("latency", "ms"), ("energy", "J"), ("mul_adds", "")])
def test_streams_show_the_unit_of_their_budgets(cost: str, unit: str) -> None:
    row = StreamRow(
        policy="margin",
        planned=2e9,
        realised=1e9,
        a=1.0,
        rank1=0.5,
        mAP=0.4,
        cost=cost,
        budget=12.34,
        spent=12.51,
    )
    run: Any = SimpleNamespace(stream=[row], policies={"margin": [row]})
    table = stream_table(run)
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert cells["Planned"] == "2.00 G"
    assert (f"Budget ({unit})" in cells) == bool(unit)
    if unit:
        assert (cells[f"Budget ({unit})"], cells[f"Spent ({unit})"]) == ("12.3", "12.5")
