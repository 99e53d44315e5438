"""Finished runs as points: one per exit, per policy and budget, and per reference."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reid_lab.errors import UserError
from reid_lab.files.regular import no_folder
from reid_lab.files.stored import StoredFileError, read_config
from reid_lab.frontier.costs import Cost, costs_by_exit, mixed
from reid_lab.frontier.identity import (
    distinct_labels,
    keyed_labels,
    settings,
    test_settings,
    with_streams,
)
from reid_lab.frontier.points import BOUNDS, FrontierError, Point
from reid_lab.report.load import Run, load_results
from reid_lab.results import NEW, RESULTS, SUMMARY, config_of, results_of
from reid_lab.results.card import UNKNOWN, ModelCard
from reid_lab.results.rows.accuracy import ExitRow
from reid_lab.results.rows.budget import StreamRow

BYTES = 4  # bytes of a float32


@dataclass(frozen=True)
class Finished:
    """A finished run with its data set, method and seed, by which runs are compared.

    Args:
        tested: path of the checkpoint, if the run only tested it.
        seed: random seed of the training.
        trained: config of the tested checkpoint's training; empty if unknown.
    """

    folder: Path
    run: Run
    config: Mapping[str, Any]
    costs: Mapping[str, Cost]
    tested: Path | None
    seed: str
    dataset: str = ""
    method: str = ""
    trained: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Collected:
    """The points of runs, and notes on what was left out; `broken`: unreadable runs."""

    points: list[Point]
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def collect(folders: Iterable[Path]) -> Collected:
    """The points of every finished run at or below these folders, before seeds are pooled.

    Raises:
        FrontierError: a folder does not exist, or there is no finished run.
    """
    folders = list(folders)
    runs, broken = find_runs(folders)
    found, notes, unread = _read(runs)
    broken += unread
    if not found:
        where = ", ".join(map(str, folders)) or "no folder"
        none = f"no run has results to compare in {where}: a finished run has results/exits.csv"
        raise FrontierError("\n".join([none, *notes, *broken]))
    datasets = keyed_labels([_dataset(f.run) for f in found], [_setting(f) for f in found])
    keys = [f"{dataset}\n{_name(f)}" for dataset, f in zip(datasets, found, strict=True)]
    labels = distinct_labels(keys, with_streams(keys, [_settings(f) for f in found]))
    methods = [label.partition("\n")[2] for label in labels]
    named = [
        replace(f, dataset=dataset, method=method)
        for f, dataset, method in zip(found, datasets, methods, strict=True)
    ]
    kept = _newest(named)
    streaming = _newest([one for one in named if one.run.stream])
    points: list[Point] = []
    for one in named:
        points += _exits(one) if kept[_key(one)] is one else []
        points += _streams(one) if streaming.get(_key(one)) is one else []
    return Collected(points, notes + _left_out(named, kept, streaming), broken)


def find_runs(folders: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The runs that have a summary, each once; and notes on folders that cannot be read."""
    found: dict[Path, Path] = {}
    broken: list[str] = []

    def note(error: OSError) -> None:
        broken.append(f"left out: {error.filename}: {error.strerror}")

    for folder in folders:
        if not folder.is_dir():
            why = no_folder(folder) if folder.exists() else "no such folder"
            raise FrontierError(f"{folder}: {why}; give runs, or a folder that has some")
        for root, below, _ in os.walk(folder, onerror=note):
            below.sort()
            run = Path(root)
            if {RESULTS, NEW} & set(below) and os.path.lexists(results_of(run) / SUMMARY):
                found.setdefault(run.resolve(), run)
    return list(found.values()), broken


def _read(folders: Sequence[Path]) -> tuple[list[Finished], list[str], list[str]]:
    """Runs, and notes on those without results and on those that cannot be read."""
    found, notes, broken = [], [], []
    for folder in folders:
        try:
            one = read_finished(folder)
        except (UserError, OSError) as error:
            broken.append(f"left out: {_beginning_with(folder, str(error))}")
            continue
        if one.run.exits:
            found.append(one)
        else:
            notes.append(f"left out: {folder} has no results/exits.csv")
    return found, notes, broken


def _beginning_with(folder: Path, reason: str) -> str:
    return reason if reason.startswith(str(folder)) else f"{folder}: {reason}"


def read_finished(folder: Path) -> Finished:
    """Read a run whose files are all of one test.

    Raises:
        UserError: a file is malformed, or a test is writing at the same time.
    """
    before = _state(folder)
    run = load_results(folder)
    missing = [e for e in run.summary.mul_adds or {} if e not in {x.name for x in run.exits}]
    if run.exits and missing:
        where = results_of(folder) / "exits.csv"
        raise FrontierError(f"{where}: the exit {missing[0]!r} of summary.json is missing")
    tested_with = config_of(folder)
    config = read_config(tested_with.parent) if os.path.lexists(tested_with) else {}
    tested = _tested(config)
    costs = costs_by_exit(run.cost, run.summary.machine or "")
    if _state(folder) != before:
        raise FrontierError(f"{folder}: its results are being written; try again after the test")
    trained = _trained(tested)
    seed = trained.get("seed", "" if run.summary.seed is None else run.summary.seed)
    return Finished(folder, run, config, costs, tested, str(seed), trained=trained)


def _state(folder: Path) -> tuple[int, int]:
    """A value that changes when the results of another test are published."""
    path = results_of(folder) / SUMMARY
    try:
        found = path.stat()
    except OSError as error:
        raise StoredFileError(path, error.strerror) from error
    return found.st_mtime_ns, found.st_ino


def _tested(config: Mapping[str, Any]) -> Path | None:
    given = config.get("ckpt_path")
    if config.get("task") != "test" or given in (None, "last"):
        return None
    try:
        return Path(str(given)).expanduser()
    except RuntimeError:  # the home of an unknown user
        return Path(str(given))


def _weights(one: Finished) -> str:
    """The checkpoint with these results; a run's folder stands for its `last.ckpt`."""
    best = one.folder / "checkpoints/best.ckpt"
    kept = _mapping(_mapping(one.config, "callbacks"), "best")
    if one.tested is None and one.config.get("task") == "fit" and kept and best.is_file():
        return str(best)  # a training ends with its test
    return str(one.tested or one.folder)


def _trained(tested: Path | None) -> Mapping[str, Any]:
    """The config of a checkpoint's training, or an empty one."""
    run = tested.parent.parent if tested else None
    return read_config(run) if run and os.path.lexists(run / "config.yaml") else {}


def _settings(one: Finished) -> dict[str, str]:
    own = settings(one.config)
    if not (one.tested and one.trained):
        return own
    own = test_settings(own, settings(one.trained))
    selected = bool(_mapping(_mapping(one.trained, "callbacks"), "best"))
    if one.tested.stem != ("best" if selected else "last"):  # not what its training tested
        own["checkpoint"] = one.tested.stem
    return own


def _dataset(run: Run) -> str:
    name = str((run.summary.dataset or {}).get("name", "unnamed"))
    multi = (run.summary.protocol or {}).get("query") == "multi"
    return f"{name} multi-query" if multi else name


def _name(one: Finished) -> str:
    """The run's name, with the training data if the checkpoint was tested on other data."""
    data = _trained_on(one)
    return one.run.name + (suffix(data) if data else "")


def suffix(data: str) -> str:
    """Suffix of a method's name if its checkpoint was trained on other data."""
    return f" (trained on {data})"


def _trained_on(one: Finished) -> str:
    """The training data of a checkpoint that was tested on other data; otherwise empty."""
    summary, card = one.run.summary, ModelCard.of(one.run.summary.card)
    tested = (summary.dataset or {}).get("name")
    if summary.task != "test" or card is None or card.data == UNKNOWN:
        return ""
    if card.data != tested:
        return card.data
    another = one.trained and _recipe(one.trained) != _recipe(one.config)
    return f"another {tested}" if another else ""


def _recipe(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe of a synthetic data set; empty for real data."""
    return _mapping(_mapping(config, "dataset"), "recipe")


def _setting(one: Finished) -> dict[str, str]:
    """Counts, protocol and the recipe of synthetic people: the same in comparable runs."""
    run = one.run
    parts = run.summary.dataset or {}
    counts = {
        f"{part} {key}": str(value)
        for part, values in parts.items()
        if isinstance(values, dict)
        for key, value in values.items()
    }
    protocol = run.summary.protocol or {}
    made = {f"recipe.{key}": str(value) for key, value in _recipe(one.config).items()}
    return {**counts, **made, **{key: json.dumps(value) for key, value in protocol.items()}}


def _key(one: Finished) -> tuple[str, str, str]:
    return one.dataset, one.method, one.seed


def _newest(found: Sequence[Finished]) -> dict[tuple[str, str, str], Finished]:
    """The newest of the runs with equal data set, method and seed."""
    return {_key(one): one for one in sorted(found, key=lambda f: ended(f.folder))}


def _left_out(
    found: Sequence[Finished],
    kept: Mapping[tuple[str, str, str], Finished],
    streaming: Mapping[tuple[str, str, str], Finished],
) -> list[str]:
    """Notes on the runs that are not the newest; the newest may have no stream."""
    notes = []
    for one in sorted(found, key=lambda f: ended(f.folder)):
        newer = kept[_key(one)]
        if newer is one:
            continue
        if streaming.get(_key(one)) is one:
            notes.append(
                f"only the stream of {one.folder}, as {newer.folder} is newer and has none"
            )
        else:
            notes.append(f"left out: {one.folder}, as {newer.folder} is the same and newer")
    return notes


def ended(folder: Path) -> float:
    """Time at which the test of a run ended, in seconds since the epoch."""
    return (results_of(folder) / SUMMARY).stat().st_mtime


def _exits(one: Finished) -> list[Point]:
    points = []
    for e in one.run.exits:
        cost = one.costs.get(e.of, {})
        reference = e.kind == "reference"
        points.append(
            Point(
                **_common(one, "" if reference else _weights(one)),
                method=e.name if reference else one.method,
                kind=e.kind,
                point=e.name,
                rank1=e.rank1,
                mAP=e.mAP,
                mul_adds=float(e.mul_adds),
                views=e.views,
                trained_on="" if reference else _trained_on(one),
                **_bounds(e),
                **{"embedding_bytes": float(BYTES * e.dim or "nan"), **cost},
            )
        )
    return points


def _stored(one: Finished, name: str, dims: Mapping[str, int]) -> float:
    """Bytes of an exit's embedding: as measured, else of float32."""
    measured = one.costs.get(name, {}).get("embedding_bytes", math.nan)
    return measured if math.isfinite(measured) else float(BYTES * dims.get(name, 0))


def _streams(one: Finished) -> list[Point]:
    if _mapping(_mapping(one.config, "callbacks"), "stream").get("candidates") == "oracle":
        return []
    dims = {e.name: e.dim for e in one.run.exits}
    points = []
    for p in one.run.stream:
        if p.thresholds == "oracle" or p.order != "shuffled":  # what no service has
            continue
        used = {name: share for name, share in p.shares.items() if share > 0}
        if not used or not math.isfinite(p.realised):
            continue
        cost = mixed([(one.costs.get(name, {}), share) for name, share in used.items()])
        shared = one.run.summary.shared_exit  # one gallery for all exits
        stored = [_stored(one, name, dims) for name in ([shared] if shared else used)]
        cost = {**cost, "embedding_bytes": sum(stored) or math.nan}
        points.append(
            Point(
                **_common(one, _weights(one)),
                method=one.method,
                kind="stream",
                point=str(p.routing),
                policy=p.policy,
                thresholds=p.thresholds,
                planned_in=p.cost,
                rank1=p.rank1,
                mAP=p.mAP,
                mul_adds=p.realised,
                views=one.run.views,
                trained_on=_trained_on(one),
                planned=p.planned,
                above_random=p.rank1_gain,
                exits=_shares(p),
                note=_spent(p),
                **_bounds(p),
                **cost,
            )
        )
    return points


def _bounds(row: ExitRow | StreamRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in BOUNDS}


def _shares(p: StreamRow) -> str:
    used = ((name, share) for name, share in p.shares.items() if share > 0)
    return ", ".join(f"{name} {100 * share:.0f}%" for name, share in used)


def _spent(p: StreamRow) -> str:
    unit = {"latency": "ms", "energy": "J"}.get(p.cost)
    if unit is None:
        return ""
    return f"planned {p.budget:.4g} {unit} per query, spent {p.spent:.4g} by the profile"


def _common(one: Finished, runs: str) -> dict[str, Any]:
    images = _mapping(one.run.summary.dataset or {}, "gallery").get("images")
    return {
        "dataset": one.dataset,
        "gallery": images if isinstance(images, int) else 0,
        "seeds": one.seed,
        "runs": runs,
        "commit": one.run.summary.commit or "",
    }


def _mapping(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping at a key, or an empty one."""
    value = node.get(key)
    return value if isinstance(value, dict) else {}
