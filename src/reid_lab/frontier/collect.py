"""Finished runs as points, one a run and exit, policy and budget, or reference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reid_lab.frontier.identity import read_config, settings, told_apart
from reid_lab.frontier.measured import Cost, mixed, read_costs
from reid_lab.frontier.points import FrontierError, Point
from reid_lab.report.load import load_run
from reid_lab.report.records import Run, StreamPoint

BYTES = 4  # of a float32
# streams that read the query's label, or that ask how a policy bears sorted queries
UNUSABLE = ("(oracle", "by identity", "by camera")


@dataclass(frozen=True)
class Finished:
    """A run with what it is compared by."""

    folder: Path
    run: Run
    config: Mapping[str, Any]
    costs: Mapping[str, Cost]
    dataset: str = ""
    method: str = ""

    @property
    def tested(self) -> Path | None:
        """The checkpoint that it was given and only tested."""
        given = self.config.get("ckpt_path")
        if self.config.get("task") != "test" or given in (None, "last"):
            return None
        return Path(str(given)).expanduser()

    @cached_property
    def seed(self) -> str:
        """Of the training."""
        trained = read_config(self.tested.parent.parent) if self.tested else {}
        return str(trained.get("seed", self.run.summary.get("seed", "")))


def collect(folders: Iterable[Path]) -> tuple[list[Point], list[str]]:
    """The points of every finished run at or below these folders, and what was left out.

    Raises:
        FrontierError: a folder that is not there, or nothing finished in any.
    """
    found, notes = _read(_find(folders))
    if not found:
        raise FrontierError("\n".join(["no run has results to compare", *notes]))
    datasets = told_apart([_dataset(f.run) for f in found], [_setting(f.run) for f in found])
    keys = [f"{dataset}\n{f.run.name}" for dataset, f in zip(datasets, found, strict=True)]
    labels = told_apart(keys, [settings(f.config) for f in found])
    methods = [label.partition("\n")[2] for label in labels]
    named = [
        Finished(f.folder, f.run, f.config, f.costs, dataset, method)
        for f, dataset, method in zip(found, datasets, methods, strict=True)
    ]
    kept, older = _newest(named)
    return [point for one in kept for point in points_of(one)], notes + older


def points_of(one: Finished) -> list[Point]:
    """A run's exits, streams and references, before seeds are pooled."""
    return [*_exits(one), *_streams(one)]


def _find(folders: Iterable[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FrontierError(f"{folder}: no such folder; give runs, or a folder that has some")
        for summary in sorted(folder.rglob("results/summary.json")):
            run = summary.parents[1]
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _read(folders: Sequence[Path]) -> tuple[list[Finished], list[str]]:
    found, notes = [], []
    for folder in folders:
        run = load_run(folder)
        if run.exits:
            machine = str(run.summary.get("machine", ""))
            costs = read_costs(folder / "results" / "cost.csv", machine)
            found.append(Finished(folder, run, read_config(folder), costs))
        else:
            notes.append(f"left out: {folder} has no results/exits.csv")
    return found, notes


def _dataset(run: Run) -> str:
    name = str((run.summary.get("dataset") or {}).get("name", "unnamed"))
    multi = (run.summary.get("protocol") or {}).get("query") == "multi"
    return f"{name} multi-query" if multi else name


def _setting(run: Run) -> dict[str, str]:
    """What must be the same for two runs to have answered the same questions."""
    parts = run.summary.get("dataset") or {}
    counts = {
        f"{part} {key}": str(value)
        for part, values in parts.items()
        if isinstance(values, dict)
        for key, value in values.items()
    }
    protocol = run.summary.get("protocol") or {}
    return {**counts, **{key: json.dumps(value) for key, value in protocol.items()}}


def _newest(found: Sequence[Finished]) -> tuple[list[Finished], list[str]]:
    """Of runs that are the same to the seed, the one that ended last."""
    newest: dict[tuple[str, str, str], Finished] = {}
    notes = []
    for one in sorted(found, key=lambda f: _ended(f.folder)):
        key = (one.dataset, one.method, one.seed)
        if key in newest:
            notes.append(f"left out: {newest[key].folder}, as {one.folder} is the same and newer")
        newest[key] = one
    return [one for one in found if newest[(one.dataset, one.method, one.seed)] is one], notes


def _ended(folder: Path) -> float:
    return (folder / "results" / "summary.json").stat().st_mtime


def _exits(one: Finished) -> list[Point]:
    points = []
    for e in one.run.exits:
        cost = one.costs.get(e.of, Cost())
        reference = e.kind == "reference"
        points.append(
            Point(
                **_common(one, "" if reference else str(one.tested or one.folder)),
                method=e.name if reference else one.method,
                kind=e.kind,
                point=e.name,
                rank1=e.rank1,
                mAP=e.mAP,
                mul_adds=float(e.mul_adds),
                **{"embedding_bytes": float(BYTES * e.dim or "nan"), **cost.known()},
            )
        )
    return points


def _streams(one: Finished) -> list[Point]:
    stream = (one.config.get("callbacks") or {}).get("stream") or {}
    if stream.get("candidates") == "oracle":
        return []
    dims = {e.name: e.dim for e in one.run.exits}
    points = []
    for p in one.run.stream:
        if any(word in p.policy for word in UNUSABLE):
            continue
        used = {name: share for name, share in p.shares.items() if share > 0}
        bytes_ = sum(BYTES * dims.get(name, 0) for name in used)
        cost = mixed([(one.costs.get(name, Cost()), share) for name, share in used.items()])
        points.append(
            Point(
                **_common(one, str(one.tested or one.folder)),
                method=one.method,
                kind="stream",
                point=p.policy,
                rank1=p.rank1,
                mAP=p.mAP,
                mul_adds=p.realised,
                planned=p.planned,
                note=_shares(p),
                **{"embedding_bytes": float(bytes_ or "nan"), **cost.known()},
            )
        )
    return points


def _shares(p: StreamPoint) -> str:
    used = ((name, share) for name, share in p.shares.items() if share > 0)
    return "leaves by " + ", ".join(f"{name} {100 * share:.0f}%" for name, share in used)


def _common(one: Finished, runs: str) -> dict[str, Any]:
    gallery = (one.run.summary.get("dataset") or {}).get("gallery") or {}
    return {
        "dataset": one.dataset,
        "gallery": int(gallery.get("images", 0)) if isinstance(gallery, dict) else 0,
        "seeds": one.seed,
        "runs": runs,
        "commit": str(one.run.summary.get("commit", "")),
    }
