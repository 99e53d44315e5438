"""Published numbers: `published.csv`, accuracies in percent, Mul-Adds with their unit."""

from __future__ import annotations

import csv
import re
from importlib.resources import files

from reid_lab.frontier.points import Point


def published(dataset: str, gallery: int) -> list[Point]:
    """The published numbers of a data set.

    Single query, without re-ranking. They are given only if the gallery has the papers' name and
    size, since distractors or other boxes change the task. Mul-Adds are multiply-adds; the column
    `printed_unit` notes which numbers were halved, and which no paper prints. An empty cell is not
    known from the source: `image` (height x width), `pretraining` (`none`: from scratch),
    `parameters`. Mul-Adds are of one of the `views` of a test image, whose embeddings' mean was
    ranked; `?`: the source does not give their number.
    """
    name = _released(dataset)
    return [
        Point(
            dataset=dataset,
            gallery=gallery,
            method=row["method"],
            kind="published",
            point="",
            rank1=_fraction(row["rank1"]),
            mAP=_fraction(row["mAP"]),
            mul_adds=float(row["mul_adds"] or "nan"),
            views=int(row["views"]) if row["views"].isdecimal() else 0,
            source=row["source"],
            note="; ".join(text for text in (_cost(row), *_setting(row), row["note"]) if text),
        )
        for row in rows()
        if row["dataset"] == name and row["gallery"] in ("", str(gallery))
    ]


def rows() -> list[dict[str, str]]:
    text = files("reid_lab.frontier").joinpath("published.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def _released(dataset: str) -> str:
    """Merge the two releases of CUHK03's new protocol; average splits."""
    name = dataset.replace("cuhk03_np_", "cuhk03_new_")
    return re.sub(r"^(cuhk03_old_\w+?|viper|grid)_\d+$", r"\1", name)


def _cost(row: dict[str, str]) -> str:
    printed = f"printed {row['printed_cost']}: " if row["printed_cost"] else "cost: "
    return f"{printed}{row['printed_unit']}"


def _setting(row: dict[str, str]) -> list[str]:
    """The setting of comparable accuracies: image size, views, pre-training; and parameters."""
    return [
        row["image"] and f"images of {row['image']}",
        _VIEWS.get(row["views"], f"{row['views']} views"),
        row["pretraining"] and f"pre-training: {row['pretraining']}",
        f"{float(row['parameters']) / 1e6:g} M parameters" if row["parameters"] else "",
    ]


_VIEWS = {"1": "", "?": "views not given"}


def _fraction(percent: str) -> float:
    return float(percent or "nan") / 100
