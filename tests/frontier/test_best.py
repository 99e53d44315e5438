"""The Pareto set and the best under a budget, here and in the page, against naive loops."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab.frontier.best import answer, best_under, command
from reid_lab.frontier.points import FrontierError, Point, pareto
from tests.commands import arguments

STREAM: list[dict[str, Any]] = [
    *({"kind": "stream", "method": "a", "point": "margin", "planned": i} for i in range(50)),
    {"kind": "exit", "method": "a", "point": "late"},
]
NODE = shutil.which("node")
LIMITS: list[dict[str, float]] = [
    {},
    {"mul_adds": 5},
    {"mul_adds": 7, "latency_p50_ms": 3},
    {"embedding_bytes": 0.5},
]


def naive(costs: list[float], gains: list[float]) -> list[bool]:
    points = list(zip(costs, gains, strict=True))

    def beaten(c: float, g: float) -> bool:
        return any((c2 <= c and g2 > g) or (c2 < c and g2 >= g) for c2, g2 in points)

    return [math.isfinite(c + g) and not beaten(c, g) for c, g in points]


def scattered(seed: int, count: int = 30) -> list[Point]:
    """Points on a coarse grid, so that there are ties; some costs are not known."""
    random = np.random.default_rng(seed)
    kinds = random.choice(
        ["exit", "stream", "reference", "published"], count, p=[0.5, 0.3, 0.1, 0.1]
    )
    return [
        Point(
            "people",
            f"m{i}",
            str(kinds[i]),
            "x",
            rank1=int(random.integers(10)) / 10,
            mAP=int(random.integers(10)) / 10,
            mul_adds=float(random.integers(1, 10)),
            latency_p50_ms=float(random.choice([1, 2, 3, 4, math.nan])),
            embedding_bytes=float(random.integers(1, 4)),
            parameters=float(random.choice([1, 2, math.nan])),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_pareto_is_what_nothing_beats(seed: int) -> None:
    points = scattered(seed)
    costs, gains = [p.latency_p50_ms for p in points], [p.rank1 for p in points]
    assert pareto(costs, gains) == naive(costs, gains)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("metric", ["rank1", "mAP"])
def test_best_is_the_most_accurate_that_fits(limits: dict[str, float], metric: str) -> None:
    points = scattered(1)
    fits = [
        p
        for p in points
        if p.kind in ("exit", "stream") and all(getattr(p, c) <= b for c, b in limits.items())
    ]
    best = best_under(points, limits, metric)
    if not fits:
        assert best is None
        return
    assert best is not None and best in fits
    assert getattr(best, metric) == max(getattr(p, metric) for p in fits)
    equals = [p for p in fits if getattr(p, metric) == getattr(best, metric)]
    assert best.mAP == max(p.mAP for p in equals)
    equals = [p for p in equals if p.mAP == best.mAP]
    assert best.mul_adds == min(p.mul_adds for p in equals)


def test_of_equals_the_simplest_is_best() -> None:
    one = Point("people", "a", "exit", "late", 0.7, 0.6, 2e7, parameters=5)
    worse = [
        replace(one, kind="stream"),
        replace(one, parameters=6),
        replace(one, parameters=math.nan),
        replace(one, mul_adds=3e7, parameters=4),
        replace(one, mAP=0.5, mul_adds=1e7, parameters=1),
    ]
    for other in worse:
        assert best_under([other, one], {}, "rank1") is one, other


def test_the_answer_says_how_to_deploy() -> None:
    run: dict[str, Any] = {"runs": "runs/a/1;runs/a/2", "seeds": "1 2"}
    one = Point("people", "a", "exit", "late", 0.7, 0.6, 2e7, embedding_bytes=512, **run)
    more = Point("people", "a", "stream", "margin", 0.8, 0.6, 1.5e7, planned=1.4e7, **run)
    text = answer([one], {"mul_adds": 5e7}, "rank1")
    assert "a late" in text and "runs/a/2/checkpoints/last.ckpt" in text
    assert "--exit late" in text and "Rank-1 70.0%" in text and "20.0 M Mul-Adds" in text
    assert text.splitlines()[-1] == (
        "  gallery     reid-lab gallery build --checkpoint "
        "runs/a/1/checkpoints/last.ckpt --exit late --images people/ --out gallery/"
    )
    text = answer([one, more], {"mul_adds": 5e7}, "rank1")
    assert "policy      margin, planned 1.4e+07" in text
    assert text.splitlines()[-1] == (
        "  export      reid-lab export --checkpoint runs/a/1/checkpoints/last.ckpt --out exported/"
    )


def test_commands_are_those_that_there_are() -> None:
    exit = Point("people", "a", "exit", "my exit", 0.7, 0.6, 2e7, runs="one run")
    words = shlex.split(command(exit))
    args = arguments(words[1], words[2:])
    assert (args.checkpoint, args.exit) == (Path("one run/checkpoints/last.ckpt"), "my exit")
    words = shlex.split(command(replace(exit, kind="stream", runs="b/one.ckpt")))
    assert arguments(words[1], words[2:]).checkpoint == Path("b/one.ckpt")


def test_where_nothing_fits_the_cheapest_is_named() -> None:
    points = [
        Point("people", "a", "exit", "early", 0.7, 0.6, 2e7),
        Point("people", "b", "exit", "b", 0.9, 0.6, 3e7),
    ]
    with pytest.raises(FrontierError) as told:
        answer(points, {"mul_adds": 1e6, "latency_p50_ms": 10}, "rank1")
    assert "\n  mul_adds 1e+06: the least is 2e+07, of a early" in str(told.value)
    assert "--max-mul-adds 1e+06: the least is 2e+07, of a early" in told.value.command_text
    assert "--max-latency-ms 10: no run has latency_p50_ms" in told.value.command_text


@pytest.mark.skipif(NODE is None, reason="no node")
def test_the_page_finds_the_same(tmp_path: Path) -> None:
    every = [scattered(seed) for seed in range(5)]
    plain = [
        [
            {k: None if v != v else v for k, v in vars(p).items()}  # noqa: PLR0124 - nan
            for p in points
        ]
        for points in every
    ]
    (tmp_path / "page.js").write_text(files("reid_lab.frontier").joinpath("page.js").read_text())
    (tmp_path / "asked.json").write_text(json.dumps({"every": plain, "limits": LIMITS}))
    script = """
      const page = require("./page.js"), { every, limits } = require("./asked.json");
      const name = p => p && p.method;
      console.log(JSON.stringify(every.map(points => ({
        front: page.pareto(points, "latency_p50_ms", "rank1").map(name).sort(),
        best: limits.map(l => page.best(points, l, "rank1")).map(name),
      }))));
    """
    done = subprocess.run([NODE, "-e", script], cwd=tmp_path, capture_output=True, text=True)  # type: ignore[list-item]
    assert done.returncode == 0, done.stderr
    for points, found in zip(every, json.loads(done.stdout), strict=True):
        able = [p for p in points if p.kind in ("exit", "stream")]
        on = naive([p.latency_p50_ms for p in able], [p.rank1 for p in able])
        assert found["front"] == sorted(p.method for p, yes in zip(able, on, strict=True) if yes)
        ours = [best_under(points, limits, "rank1") for limits in LIMITS]
        assert found["best"] == [b and b.method for b in ours]


@pytest.mark.skipif(NODE is None, reason="no node")
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("ticks(9e6, 1.2e8, true)", [1e7, 2e7, 5e7, 1e8]),
        ("ticks(1e3, 1e7, true)", [1e3, 1e4, 1e5, 1e6, 1e7]),
        ("ticks(0, 50, false)", [0, 10, 20, 30, 40, 50]),
        ("short(86207450)", "86.2 M"),
        ("short(1.5e9)", "1.5 G"),
        ("interval({mAP_low: 0.5512, mAP_high: 0.6}, 'mAP')", "55.1–60.0"),
        ("interval({mAP_low: 0.5, mAP_high: null}, 'mAP')", ""),
        ("fits({images_per_second: 5}, {images_per_second: 4})", True),
        ("fits({mul_adds: null}, {mul_adds: 4})", False),
        (f"fold({json.dumps(STREAM)}).map(p => p.planned ?? p.kind)", [0, 12, 25, 37, 49, "exit"]),
        (f"fold({json.dumps(STREAM[:3])}).map(p => p.planned)", [0, 1, 2]),
        ("bestOfEqual([[1, 2], [1, 5], [3, 4], [1, 3]], 0, 1).flat()", [1, 5, 3, 4]),
    ],
)
def test_arithmetic_of_the_page(asked: str, expected: object) -> None:
    path = files("reid_lab.frontier").joinpath("page.js")
    script = f"console.log(JSON.stringify(require({json.dumps(str(path))}).{asked}))"
    done = subprocess.run([NODE, "-e", script], capture_output=True, text=True, check=True)  # type: ignore[list-item]
    assert json.loads(done.stdout) == (
        pytest.approx(expected)
        if isinstance(expected, list) and "exit" not in expected
        else expected
    )
