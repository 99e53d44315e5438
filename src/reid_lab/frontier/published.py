"""Published numbers: `published.csv`, accuracies in percent, Mul-Adds with their unit."""

from __future__ import annotations

import csv
import re
from importlib.resources import files

from reid_lab.frontier.points import Point


def published(dataset: str, gallery: int) -> list[Point]:
    """The published numbers of a data set.

    Single query, without re-ranking. Only if the gallery has the papers' name and size, since
    distractors or other boxes change the task. Mul-Adds are multiply-adds; the column
    `printed_unit` notes which numbers were halved, and which no paper prints.
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
            source=row["source"],
            note="; ".join(text for text in (_cost(row), row["note"]) if text),
        )
        for row in rows()
        if row["dataset"] == name and row["gallery"] in ("", str(gallery))
    ]


def rows() -> list[dict[str, str]]:
    text = files("reid_lab.frontier").joinpath("published.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def _released(dataset: str) -> str:
    """The two releases of CUHK03's new protocol are one; splits are averaged."""
    name = dataset.replace("cuhk03_np_", "cuhk03_new_")
    return re.sub(r"^(cuhk03_old_\w+?|viper|grid)_\d+$", r"\1", name)


def _cost(row: dict[str, str]) -> str:
    printed = f"printed {row['printed_cost']}: " if row["printed_cost"] else "cost: "
    return f"{printed}{row['printed_unit']}"


def _fraction(percent: str) -> float:
    return float(percent or "nan") / 100
