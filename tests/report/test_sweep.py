from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from reid_lab.report.sweep import Swept, sweep, write_sweep

LEVELS = {"teacher": Swept("", "", 0.9, 0.8)}


def drawn(
    points: list[Swept], others: dict[str, list[Swept]] | None = None, **levels: Swept
) -> Figure:
    figure = sweep(
        points, "rank1", "model.temperature", "model.student_weight", levels, others or {}
    )
    assert figure is not None
    return figure


def test_a_line_a_value_in_the_order_of_numbers() -> None:
    points = [Swept(x, w, 0.1, 0.0) for w in ("1e-2", "1e-4", "1e-3") for x in ("10", "2", "1")]
    (ax,) = drawn(points, **LEVELS).axes
    labels = [str(line.get_label()) for line in ax.lines]
    assert labels == [
        "student_weight 1e-4",
        "student_weight 1e-3",
        "student_weight 1e-2",
        "teacher",
    ]
    assert list(ax.lines[0].get_xdata()) == [1, 2, 10]
    assert set(ax.lines[-1].get_ydata()) == {90}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("temperature", "Rank-1 (%)")


def test_other_sweeps_are_lines_of_their_own() -> None:
    others = {"ResNet-50": [Swept("4", "", 0.3, 0.0), Swept("8", "", 0.4, 0.0)]}
    (ax,) = drawn([Swept(x, "", 0.1, 0.0) for x in ("1", "2")], others).axes
    assert [str(line.get_label()) for line in ax.lines] == ["this sweep", "ResNet-50"]
    assert list(ax.lines[1].get_xdata()) == [4, 8]
    (ax,) = drawn([Swept("1", "1e-3", 0.1, 0.0)], others).axes
    assert [str(line.get_label()) for line in ax.lines] == ["student_weight 1e-3", "ResNet-50"]


def test_seeds_are_dots_around_their_mean() -> None:
    points = [Swept("1", "", y, 0) for y in (0.2, 0.4)] + [Swept("2", "", 0.5, 0)]
    line, dots = drawn(points).axes[0].lines
    assert list(line.get_ydata()) == pytest.approx([30, 50])
    assert list(dots.get_ydata()) == pytest.approx([20, 40])


@pytest.mark.parametrize(
    ("values", "scale", "places"),
    [
        (["1", "30"], "linear", [1, 30]),
        (["1e-4", "1e-2"], "log", [1e-4, 1e-2]),
        (["0", "1000"], "linear", [0, 1000]),
        (["small", "large"], "linear", [0, 1]),
        (["1", "inf"], "linear", [0, 1]),
    ],
)
def test_axis(values: list[str], scale: str, places: list[float]) -> None:
    (ax,) = drawn([Swept(x, "", 0.1, 0.1) for x in values]).axes
    assert ax.get_xscale() == scale
    assert list(ax.lines[0].get_xdata()) == places


def test_files(tmp_path: Path) -> None:
    written = write_sweep(tmp_path, [Swept("1", "", 0.1, 0.2)], "a", levels=LEVELS)
    assert [path.name for path in written] == ["sweep_rank1.png", "sweep_mAP.png"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written)
    assert write_sweep(tmp_path, [], "a") == []
    assert not list(tmp_path.iterdir())
