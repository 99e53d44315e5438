"""The frontier as one self-contained page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from reid_lab.frontier.best import command
from reid_lab.frontier.plots import COLOURS
from reid_lab.frontier.points import OURS, Point


def page(points: Sequence[Point], notes: Sequence[str]) -> str:
    """HTML page of one data set: plot, sliders, the best under a budget, sortable table."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    package = files("reid_lab.frontier")
    return environment.from_string(package.joinpath("page.html.j2").read_text("utf-8")).render(
        css=Markup(files("reid_lab.report").joinpath("report.css").read_text("utf-8")),
        more_css=Markup(package.joinpath("page.css").read_text("utf-8")),
        script=Markup(package.joinpath("page.js").read_text("utf-8")),
        data=Markup(_json({"points": [_plain(p) for p in points], "colours": colours(points)})),
        dataset=points[0].dataset,
        notes=notes,
        bounds=any(math.isfinite(p.rank1_low) for p in points),
        commits=" ".join(dict.fromkeys(c for p in points for c in p.commit.split())),
    )


def colours(points: Sequence[Point]) -> dict[str, str]:
    methods = dict.fromkeys(p.method for p in points if p.kind in OURS)
    return {method: COLOURS[i % len(COLOURS)] for i, method in enumerate(methods)}


def _plain(p: Point) -> dict[str, object]:
    """A point for JSON, with null for unknown values and the command that deploys it."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(p).items()
        if key != "pareto"
    }
    return {**plain, "deploy": command(p)} if p.kind in OURS and p.runs else plain


def _json(content: object) -> str:
    # a name may contain "</script>"
    return json.dumps(content, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
