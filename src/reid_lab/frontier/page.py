"""The frontier as one self-contained page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

from markupsafe import Markup

from reid_lab.frontier.best import command
from reid_lab.frontier.plots import method_styles
from reid_lab.frontier.points import OURS, Point
from reid_lab.output.pages import package_text, template


def page(points: Sequence[Point], notes: Sequence[str]) -> str:
    """HTML page of one data set: plot, sliders, the best under a budget, sortable table."""
    colours = {method: style.colour for method, style in method_styles(points).items()}
    return template("reid_lab.frontier", "page.html.j2").render(
        css=Markup(package_text("reid_lab.report", "report.css")),
        more_css=Markup(package_text("reid_lab.frontier", "page.css")),
        script=Markup(package_text("reid_lab.frontier", "page.js")),
        data=Markup(_json({"points": [_plain(p) for p in points], "colours": colours})),
        dataset=points[0].dataset,
        notes=notes,
        bounds=any(math.isfinite(p.rank1_low) for p in points),
        commits=" ".join(dict.fromkeys(c for p in points for c in p.commit.split())),
    )


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
