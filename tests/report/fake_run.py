"""A run folder as a real run leaves it, with invented numbers and painted people."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COSTS = [513_700_000, 1_185_400_000, 2_142_900_000, 2_673_600_000, 2_673_600_000]
RANK1 = [0.667, 0.80, 0.87, 0.86, 0.885]
MAP = [0.421, 0.561, 0.672, 0.664, 0.709]
NAMES = ["stage1", "stage2", "stage3", "stage4", "fusion"]


def make_run(folder: Path, name: str = "dare-r50", steps: int = 60, queries: int = 2) -> Path:
    """A run folder with believable numbers and painted people."""
    results = folder / "results"
    results.mkdir(parents=True)
    _write(results / "exits.csv", _exits())
    _write(results / "anytime.csv", _anytime())
    _write(results / "stream.csv", _stream())
    _write(results / "policies.csv", _policies())
    _write(results / "roc.csv", _roc())
    _write(results / "operating_points.csv", _operating_points())
    _write(results / "dimensions.csv", _dimensions())
    _write(results / "camera_pairs.csv", _camera_pairs())
    _write(results / "conditions.csv", _conditions())
    (results / "queries.json").write_text(json.dumps({"queries": _queries(folder, queries)}))
    (results / "summary.json").write_text(json.dumps(_summary(name)))
    (folder / "config.yaml").write_text("model:\n  backbone: resnet50\nseed: 7\n")
    make_logs(folder / "logs" / "version_0", range(0, steps * 2 // 3, 1))
    make_logs(folder / "logs" / "version_1", range(steps // 2, steps, 1))
    return folder


def make_logs(folder: Path, steps: range, shift: float = 0.0) -> None:
    """Sparse columns, as Lightning's CSVLogger leaves them."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for step in steps:
        decay = np.exp(-step / 300)
        noise = random.normal(0, 0.15, len(NAMES))
        losses = {
            f"train/loss_{n}": 6 * decay + 1.5 - 0.2 * i + noise[i] + shift
            for i, n in enumerate(NAMES)
        }
        speed = {"train/images_per_second": 412, "train/peak_share": 0.25}
        rows.append({"step": step, "epoch": step // 50, **speed, **losses})
        if step % 20 == 0:
            accuracy = {
                f"val/{n}/rank1": r * (1 - decay) for n, r in zip(NAMES, RANK1, strict=True)
            }
            rows.append({"step": step, "epoch": step // 50, **accuracy})
    _write(folder / "metrics.csv", rows)


def _exits() -> list[dict[str, object]]:
    fixed = {"dim": 128, "rank5": 0.95, "rank10": 0.97, "rank20": 0.98, "mINP": 0.3}
    fixed |= {"rank5_low": 0.942, "rank5_high": 0.956}
    asked = {"queries": 3368, "skipped": 0}
    rows: list[dict[str, object]] = [
        _exit(n, "exit", c, r, m) | fixed | asked
        for n, c, r, m in zip(NAMES, COSTS, RANK1, MAP, strict=True)
    ]
    reference = _exit("hsv_histogram", "reference", 100_000, 0.2, 0.061)
    reranked = [
        _exit(f"{n} + k_reciprocal", "reranked", c, r + 0.02, m + 0.12) | fixed | asked
        for n, c, r, m in zip(NAMES, COSTS, RANK1, MAP, strict=True)
    ]
    return [*rows, reference | fixed | asked, *reranked]


def _exit(name: str, kind: str, cost: int, rank1: float, m: float) -> dict[str, object]:
    accuracies = {"rank1": rank1, "mAP": m, "mAP_trapezoid": m + 0.006}
    for metric in ("rank1", "mAP"):
        accuracies |= {f"{metric}_low": accuracies[metric] - 0.021}
        accuracies |= {f"{metric}_high": accuracies[metric] + 0.018}
    return {"name": name, "kind": kind, "mul_adds": cost, **accuracies}


def _pass(i: int, fmr: float) -> float:
    """Share of genuine pairs that pass at exit `i`."""
    return float(fmr ** (0.16 - 0.02 * i))


def _roc() -> list[dict[str, object]]:
    return [
        {"exit": n, "fmr": fmr, "tmr": _pass(i, fmr), "threshold": 10 + np.log10(fmr)}
        for i, n in enumerate(NAMES)
        for fmr in np.geomspace(1e-6, 1, 100)
    ]


def _operating_points() -> list[dict[str, object]]:
    asked = {"calibration_queries": 1120, "known_queries": 1125, "unknown_queries": 1123}
    return [
        {
            "exit": n,
            "fmr": fmr,
            "tmr_at_fmr": _pass(i, fmr),
            "threshold": 10 + np.log10(fmr),
            "calibration_fmr": 0.999 * fmr,
            "calibration_tmr": 1.01 * _pass(i, fmr),
            "known_fmr": 1.07 * fmr,
            "known_tmr": 0.98 * _pass(i, fmr),
            "tpir": RANK1[i] - 0.1 * k,
            "miss": 0.06 * k,
            "fpir": 0.9 - 0.3 * k,
            "known_fmr_low": 0.9 * fmr,
            "known_fmr_high": 1.3 * fmr,
            "tpir_low": RANK1[i] - 0.1 * k - 0.02,
            "tpir_high": RANK1[i] - 0.1 * k + 0.02,
            **asked,
            "gallery": 5773,
            "note": "",
        }
        for i, n in enumerate(NAMES)
        for k, fmr in enumerate((1e-2, 1e-3, 1e-4))
    ]


def _dimensions() -> list[dict[str, object]]:
    return [
        {
            "exit": n,
            "dim": dim,
            "rank1": r * (1 - 2 / dim),
            **{f"rank{k}": 0.95 for k in (5, 10, 20)},
            "mAP": m * (1 - 3 / dim),
            "mAP_trapezoid": m * (1 - 3 / dim) + 0.006,
            "mINP": 0.3,
        }
        for n, r, m in zip(NAMES, RANK1, MAP, strict=True)
        for dim in (16, 32, 64, 128)
    ]


def _camera_pairs() -> list[dict[str, object]]:
    return [
        {
            "exit": NAMES[-1],
            "query_camera": q,
            "gallery_camera": g,
            "queries": 100 + q,
            "rank1": 0.9 - 0.1 * q - 0.01 * g,
            "mAP": 0.7 - 0.1 * q - 0.01 * g,
            "rank1_low": 0.8 - 0.1 * q,
            "rank1_high": 0.95 - 0.1 * q,
            "mAP_low": 0.6 - 0.1 * q,
            "mAP_high": 0.75 - 0.1 * q,
        }
        for q in range(1, 4)
        for g in range(1, 4)
        if q != g
    ]


def _conditions() -> list[dict[str, object]]:
    ranges = {"size": (2048, 9000), "sharpness": (12.5, 4000), "occlusion": (0.01, 0.6)}
    rows: list[dict[str, object]] = []
    for condition, (low, high) in ranges.items():
        sign = -1 if condition == "occlusion" else 1
        for part in range(4):
            rank1 = 0.88 + sign * 0.04 * (part - 1.5)
            edges = [low * (high / low) ** (step / 4) for step in (part, part + 0.98)]
            row = {"exit": NAMES[-1], "condition": condition, "part": part + 1}
            row |= {"low": edges[0], "high": edges[1], "queries": 842}
            for metric, value in (("rank1", rank1), ("mAP", rank1 - 0.2)):
                bounds = {f"{metric}_low": value - 0.025, f"{metric}_high": value + 0.02}
                row |= {metric: value, **bounds}
            rows.append(row)
    return rows


def _anytime() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for budget in np.linspace(0, max(COSTS), 60).astype(int):
        reached = [i for i, cost in enumerate(COSTS) if cost <= budget]
        last = reached[-1] if reached else None
        rows.append(
            {
                "budget": budget,
                "mul_adds": 0 if last is None else COSTS[last],
                "exit": "" if last is None else NAMES[last],
                "rank1": "" if last is None else RANK1[last],
                "mAP": "" if last is None else MAP[last],
                "rank1_low": "" if last is None else RANK1[last] - 0.021,
                "rank1_high": "" if last is None else RANK1[last] + 0.018,
            }
        )
    return rows


def _stream() -> list[dict[str, object]]:
    gains = {"random": 0.0, "distance": 0.03, "margin": 0.05, "margin (oracle)": 0.07}
    low, high = COSTS[0], COSTS[-1]
    rows: list[dict[str, object]] = []
    for policy, gain in gains.items():
        for i, planned in enumerate(np.linspace(low, high, 50)):
            t = i / 49
            curve = np.interp(planned, COSTS[:3] + COSTS[4:], RANK1[:3] + RANK1[4:])
            rank1 = curve + gain * 4 * t * (1 - t)
            shares = np.array([(1 - t) ** 4, 0.3 * (1 - t), 0.2 * t, 0.1 * t, t**2]) + 1e-6
            shares /= shares.sum()
            rows.append(
                {
                    "policy": policy,
                    "planned": planned,
                    "realised": planned * (1 + 0.4 * gain * np.sin(5 * t)),
                    "a": 2.0 * t - 1,
                    "rank1": rank1,
                    "mAP": rank1 - 0.19,
                    "rank1_low": rank1 - 0.021,
                    "rank1_high": rank1 + 0.018,
                    "rank1_gain": rank1 - curve,
                    "rank1_gain_low": rank1 - curve - 0.01,
                    "rank1_gain_high": rank1 - curve + 0.012,
                    "rank1_over_last": rank1 - RANK1[-1],
                    "rank1_over_last_low": rank1 - RANK1[-1] - 0.01,
                    "rank1_over_last_high": rank1 - RANK1[-1] + 0.012,
                    **{f"share_{n}": s for n, s in zip(NAMES, shares, strict=True)},
                }
            )
    return rows


def _policies() -> list[dict[str, object]]:
    gain = {"rank1_gain": 0.033, "rank1_gain_low": 0.031, "rank1_gain_high": 0.036}
    gain |= {"mAP_gain": 0.02, "mAP_gain_low": 0.01, "mAP_gain_high": 0.03, "budgets": 50}
    over = {"rank1_gain_least": 0.0, "reaches_last": 2.0e9, "deviation": 0.013}
    return [
        {"policy": "margin", "against": "random", **gain, **over},
        {"policy": "distance", "against": "margin", **gain},
    ]


def _queries(folder: Path, count: int) -> list[dict[str, object]]:
    random = np.random.default_rng(1)
    pool = [_person(folder / "images" / f"{i}.jpg", i) for i in range(8)]

    def shot(pid: int, distance: float, wanted: int) -> dict[str, object]:
        return {
            "path": str(pool[pid]),
            "pid": pid,
            "camid": 2,
            "distance": distance,
            "match": pid == wanted,
        }

    found = []
    for q in range(count):
        group = "easy" if q < count // 2 else "hard"
        ranked = {}
        for i, name in enumerate(NAMES):
            hit = random.random(6) < (0.95 if group == "easy" else 0.2 * i)
            pids = [q % 8 if h else int(random.integers(8)) for h in hit]
            ranked[name] = [shot(pid, 0.2 + 0.05 * k, q % 8) for k, pid in enumerate(pids)]
        path = f"images/{q % 8}.jpg"  # relative to the run folder
        found.append({"path": path, "pid": q % 8, "camid": 1, "group": group, "ranked": ranked})
    worst = {"group": "worst", "first_match": 1234, "ranked": {NAMES[-1]: [shot(6, 0.1234, 5)]}}
    return [*found, {"path": "images/5.jpg", "pid": 5, "camid": 1, **worst}]


def _person(path: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    ground, shirt, legs = (tuple(int(v) for v in c) for c in random.integers(40, 230, (3, 3)))
    image = Image.new("RGB", (32, 64), ground)
    draw = ImageDraw.Draw(image)
    draw.ellipse((12, 4, 20, 14), fill=(222, 184, 150))
    draw.rectangle((9, 15, 23, 36), fill=shirt)
    draw.rectangle((10, 37, 15, 60), fill=legs)
    draw.rectangle((17, 37, 22, 60), fill=legs)
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return path


def _summary(name: str) -> dict[str, object]:
    return {
        "name": name,
        "task": "train and evaluate",
        "seed": 7,
        "command": "reid-lab train experiment=dare_r50",
        "commit": "0123abcd",
        "machine": "1 GPU, 16 cores",
        "versions": {"python": "3.11", "torch": "2.4"},
        "elapsed_s": 7384,
        "dataset": {
            "name": "market1501",
            "train": {"images": 12936, "pids": 751, "cameras": 6},
            "gallery": {"images": 19732, "pids": 751, "cameras": 6},
        },
        "notes": ["Images are 256 by 128 pixels."],
        "metrics": {},
        "mul_adds": {},
        "protocol": {
            "hidden": "same_person_and_camera",
            "shots": None,
            "trials": 1,
            "seed": 0,
            "query": "single",
            "pooling": "mean",
            "tracklets": False,
        },
    }


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
