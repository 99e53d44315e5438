"""Draw accuracy against Mul-Adds on CUHK03: our trainings and the published ones.

python -m experiments.frontier_cuhk03    # writes real_people.png from the committed tables

Filled: from ImageNet weights; hollow: no pre-training; half-filled: the paper does not state it. Of
several seeds the mean is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.tables import Rows, read
from reid_lab.files.atomic import write_bytes
from reid_lab.frontier.plots import short
from reid_lab.frontier.published import rows as published
from reid_lab.report.style import INK, axes, name_dot, png

HERE = Path(__file__).parent
FIGURE = HERE / "real_people.png"
FILLS = {"ImageNet-1K": "full", "none": "none", "": "left"}
GREY, ORANGE, BROWN = "#7a7a7a", "#d55e00", "#8a4b08"
RIGHT, LEFT, ABOVE, BELOW = (7, 0), (-7, 0), (0, 6), (0, -6)
PLACES = {"ShuffleNet": LEFT, "CondenseNet": ABOVE, "DaRe(R)": LEFT, "DaRe(R)+RE": LEFT}
PLACES |= {"HAN(Small)": BELOW}
SHORT = {f"HAN({size})": f"HAN-{size[0]}" for size in ("Small", "Medium", "Large")}
Names = Mapping[str, tuple[str, tuple[int, int]]]  # of exits: the text, and its offset


@dataclass(frozen=True)
class Training:
    """The exits of a training, joined by a line.

    Args:
        table: a results table, relative to the folder of all studies.
        run: the label of the run in it, or a pattern for several seeds.
        names: labelled exits.
        exits: pattern of the exits to draw.
    """

    table: str
    run: str
    colour: str
    marker: str
    names: Names
    pretraining: str = "none"
    exits: str = "*"

    def points(self) -> list[tuple[float, float, str]]:
        """(Mul-Adds, Rank-1 in percent, name) of each exit, in order of cost."""
        rows = [r for r in read(HERE.parent / self.table) if r["kind"] == "exit"]
        rows = [r for r in rows if fnmatchcase(r["run"], self.run)]
        own: dict[str, Rows] = {}
        for row in rows:
            if fnmatchcase(row["name"], self.exits):
                own.setdefault(row["name"], []).append(row)
        means = [
            (float(same[0]["mul_adds"]), 100 * fmean(float(r["rank1"]) for r in same), name)
            for name, same in own.items()
        ]
        return sorted(means, key=lambda point: point[0])


def trainings() -> Iterator[Training]:
    full, one_view = "full/results.csv", "full/one_view/results.csv"
    dare, pretrained = "dare_mobilenetv2/seed*", "ImageNet-1K"
    names: Names = {"fusion": ("DaRe on MobileNetV2, 10 views", ABOVE)}
    yield Training(full, dare, ORANGE, "D", names, pretrained, "fusion")
    names = {f"stage{n}": (f"stage {n}", at) for n, at in ((1, BELOW), (2, RIGHT), (3, (-6, 13)))}
    names |= {"fusion": ("DaRe, 1 view", RIGHT)}
    yield Training(one_view, "all_exits", ORANGE, "o", names, pretrained)
    names = {f"stage{n}": (f"stage {n}", at) for n, at in ((2, (-5, 5)), (3, (2, -8)))}
    names |= {"stage1": ("DaRe at 128x64", BELOW)}
    yield Training("test_view/results.csv", "centre_seed*", BROWN, "o", names, pretrained)
    names = {"stage1": ("3 stages alone", (-8, -2))}
    smaller = "early_exits_cuhk03/smaller/results.csv"
    yield Training(smaller, "static_*", BROWN, "s", names, pretrained, "stage1")
    names = {"fusion": ("taught by DaRe at 192x96", (-8, 2))}
    taught = "early_exits_cuhk03/taught/larger/results.csv"
    yield Training(taught, "soft_*", BROWN, "s", names, pretrained, "fusion")
    larger = "mobilenetv2_cuhk03/192x96/results.csv"
    names = {"fusion": ("DaRe at 192x96", (-7, 4))}
    yield Training(larger, "dare_*", BROWN, "o", names, pretrained)
    yield Training(larger, "bot_*", "#cc79a7", "s", {}, pretrained)
    names = {"stage4": ("BoT at 256x128 and 192x96", RIGHT)}
    yield Training(full, "bot_mobilenetv2/seed*", "#cc79a7", "s", names, pretrained)
    for size, at in (("small", LEFT), ("medium", LEFT), ("large", RIGHT)):
        names = {"joint": (f"HAN-{size[0].upper()}", at)}
        yield Training(full, f"han_{size}_180/seed*", "#0072b2", "^", names)
    names = {"lomo": ("LOMO", RIGHT), "kissme": ("KISSME", LEFT), "xqda": ("XQDA", BELOW)}
    yield Training("lomo_cuhk03/results.csv", "lomo_cuhk03", "#009e73", "v", names)
    names = {"local": ("HAN-S, CPU", RIGHT)}
    yield Training("han_cuhk03/two_hours/results.csv", "small", "#56b4e9", "^", names)
    for name, at in (("MobileNet", LEFT), ("ShuffleNet", (2, -8))):
        names, table = {"pool": (name, at)}, "han_cuhk03/compared/results.csv"
        yield Training(table, name.lower(), "#56b4e9", "s", names)
    names = {"joint": ("JLML", RIGHT)}
    yield Training("jlml_cuhk03/longer/results.csv", "jlml", "#5b3a8c", "P", names)
    names = {"fusion": ("DaRe from scratch", (0, 5))}
    yield Training("dare_cuhk03/strips/results.csv", "strips_*", ORANGE, "o", names)


def draw() -> Figure:
    title = "CUHK03, detected boxes, new protocol: ours in colour, published in grey"
    figure, ax = axes(title, 9, 5.4)
    for row in published():
        if row["dataset"] == "cuhk03_new_detected" and row["mul_adds"]:
            x, y = float(row["mul_adds"]), float(row["rank1"])
            ax.plot(x, y, **_style(GREY, "d", row["pretraining"]))
            name = row["method"]
            name_dot(ax, SHORT.get(name, name), x, y, *PLACES.get(name, RIGHT))
            ax.texts[-1].set_color(GREY)
    for training in trainings():
        _exits(ax, training)
    _stream(ax)
    ax.set_xscale("log")
    ax.set_xlim(5e6, 2.5e10)
    ax.set_ylim(-4, 78)
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("Mul-Adds per view")
    ax.set_ylabel("Rank-1 (%)")
    _legend(ax)
    return figure


def _exits(ax: Axes, training: Training) -> None:
    points = training.points()
    x, y, _ = zip(*points, strict=True)
    ax.plot(x, y, color=training.colour, linewidth=0.8, alpha=0.7, zorder=2)
    for cost, rank1, exit_ in points:
        ax.plot(cost, rank1, **_style(training.colour, training.marker, training.pretraining))
        if exit_ in training.names:
            name, place = training.names[exit_]
            name_dot(ax, name, cost, rank1, *place)


def _stream(ax: Axes) -> None:
    """DaRe's stream of queries between two exits, at 50 budgets."""
    rows = read(HERE.parent / "full/one_view/stream.csv")
    rows = [r for r in rows if (r["run"], r["policy"]) == ("stage3_and_fusion", "margin")]
    points = sorted((float(r["realised"]), 100 * float(r["rank1"])) for r in rows)
    ax.plot(*zip(*points, strict=True), color=ORANGE, linewidth=2.2, zorder=2)


def _style(colour: str, marker: str, pretraining: str) -> dict[str, Any]:
    style = {"color": colour, "marker": marker, "markersize": 7, "linestyle": "none", "zorder": 3}
    return style | {"fillstyle": FILLS[pretraining], "markerfacecoloralt": "white"}


def _legend(ax: Axes) -> None:
    texts = {"ImageNet-1K": "from ImageNet weights", "none": "no pre-training", "": "not stated"}
    handles = [Line2D([], [], label=texts[given], **_style(INK, "o", given)) for given in FILLS]
    routed = "DaRe's queries exit at stage 3 or the fusion, by margin"
    handles.append(Line2D([], [], color=ORANGE, linewidth=2.2, label=routed))
    ax.legend(handles=handles, loc="upper left")


def main() -> None:
    drawn = png(draw)
    assert drawn is not None
    write_bytes(FIGURE, drawn)
    print(FIGURE)


if __name__ == "__main__":
    main()
