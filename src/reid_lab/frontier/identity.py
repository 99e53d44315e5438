"""Identify runs that differ only in the seed, and label the others."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_lab.config.relevance import (
    new_names,
    role_of_callback,
    role_of_setting,
    selects_weights,
)
from reid_lab.files.stored import StoredFileError, read_config
from reid_lab.types import Role, in_steps

RunSettings = Mapping[str, str]
# settings that an accuracy depends on, if their callbacks and parameters do not declare otherwise
PARTS = {"dataset", "backbone", "loss", "model", "callbacks", "trainer"}
# of callbacks.stream: the others are in a point's name, or select the points
ROUTING = {"exits", "candidates", "gallery"}
STREAM, RANKING = "callbacks.stream.", "callbacks.ranking."
# what a test of a checkpoint sets; all else is as in the training
TESTING: tuple[str, ...] = (RANKING, STREAM, "dataset._target_")
TESTING += ("dataset.reader.", "dataset.recipe.", "dataset.transforms.test_crop")
TESTING += ("dataset.transforms.test_views",)
TESTING += ("dataset.transforms.height", "dataset.transforms.width")
# of the trainer: hardware and logging
RUNNING = {"accelerator", "devices", "num_nodes", "strategy", "default_root_dir", "logger"}
RUNNING |= {"log_every_n_steps", "enable_checkpointing", "enable_model_summary", "profiler"}
RUNNING |= {"enable_progress_bar", "num_sanity_val_steps"}
# of the trainer: validation, which matters where it selects weights
VALIDATING = {"val_check_interval", "check_val_every_n_epoch", "limit_val_batches"}
FILES = {"dirpath", "filename"}  # files of a callback's checkpoints
PROTOCOL = {"all_against_all"}  # part of the stored protocol, which identifies a data set
KEY = 4  # letters of a key, or as many as it takes
SHOWN = 3  # settings in a label, or as many as it takes


def settings(config: Mapping[str, Any], known: dict[Path, str] | None = None) -> dict[str, str]:
    """A run's settings by dotted key, without the seed and file paths."""
    flat: dict[str, str] = {}
    selecting = _selects_weights(config)
    without: set[Role] = {"running"} if selecting else {"running", "validation"}
    _flatten(config, "", flat, {} if known is None else known, without)
    return {key: value for key, value in flat.items() if _matters(key, selecting)}


def test_settings(tested: Mapping[str, str], trained: Mapping[str, str]) -> dict[str, str]:
    """The settings of a test of a checkpoint whose training had other settings."""
    own = {key: value for key, value in tested.items() if key.startswith(TESTING)}
    return {key: value for key, value in trained.items() if not key.startswith(TESTING)} | own


def with_streams(names: Sequence[str], every: Sequence[RunSettings]) -> list[dict[str, str]]:
    """Settings in which runs without a stream have that of the runs that are equal otherwise.

    No accuracy of an exit depends on the stream. Where the others have several streams, it is the
    first of them in alphabetical order.
    """
    own = [_without_stream(each) for each in every]
    keys = [(name, *sorted(rest.items())) for name, (rest, _) in zip(names, own, strict=True)]
    streams: dict[object, list[dict[str, str]]] = defaultdict(list)
    for key, (_, stream) in zip(keys, own, strict=True):
        if stream:
            streams[key].append(stream)
    first = {key: min(found, key=lambda s: sorted(s.items())) for key, found in streams.items()}
    return [
        {**rest, **(stream or first.get(key, {}))}
        for key, (rest, stream) in zip(keys, own, strict=True)
    ]


def _without_stream(every: RunSettings) -> tuple[dict[str, str], dict[str, str]]:
    """The settings without those of a stream, and the latter."""
    stream = {key: value for key, value in every.items() if key.startswith(STREAM)}
    return {key: value for key, value in every.items() if key not in stream}, stream


def distinct_labels(names: Sequence[str], every: Sequence[RunSettings]) -> list[str]:
    """Label runs by name, and by the differing settings if a name has several.

    Two labels are equal if names and settings are.
    """
    indices = defaultdict(list)
    for index, name in enumerate(names):
        indices[name].append(index)
    labels = list(names)
    for name, own in indices.items():
        for index, text in zip(own, _differences([every[i] for i in own]), strict=True):
            labels[index] = f"{name} ({text})" if text else name
    return labels


def keyed_labels(names: Sequence[str], every: Sequence[RunSettings]) -> list[str]:
    """Distinct labels, with a short key for each of several settings: `synthetic@1f3c (seed=1)`.

    The key is a hash of the settings, independent of the other labelled runs.
    """
    hashes = [_hash(own) for own in every]
    counts = Counter(name for name, _ in set(zip(names, hashes, strict=True)))
    length = next(n for n in range(KEY, 65) if len({h[:n] for h in hashes}) == len(set(hashes)))
    keys = [f"@{h[:length]}" if counts[n] > 1 else "" for n, h in zip(names, hashes, strict=True)]
    labels = zip(names, keys, distinct_labels(names, every), strict=True)
    return [name + key + label.removeprefix(name) for name, key, label in labels]


def _hash(own: RunSettings) -> str:
    return hashlib.sha256(repr(sorted(own.items())).encode()).hexdigest()


def _differences(every: Sequence[RunSettings]) -> list[str]:
    """For each run, the settings in which it differs from the others, as text."""
    differ = _differing(every)
    shown = _shown(differ)
    words = Counter(map(_word, shown))
    names = {key: _word(key) if words[_word(key)] == 1 else key for key in shown}
    more = ["..."] * (len(differ) > len(shown))
    rows = [[f"{names[key]}={differ[key][i]}" for key in shown] for i in range(len(every))]
    return [", ".join(row + more) for row in rows]


def _differing(every: Sequence[RunSettings]) -> dict[str, tuple[str, ...]]:
    """Key -> each one's value. Of keys that always differ together, such as `max_steps` and the
    model's `iterations`, only the first. Counts of images are left out where settings suffice."""
    keys = sorted({key for own in every for key in own}, key=lambda key: (key.count("."), key))
    given = [key for key in keys if " " not in key]
    if len(set(_values(every, given))) == len(set(_values(every, keys))):
        keys = given
    first: dict[tuple[str, ...], str] = {}
    for key in keys:
        first.setdefault(tuple(own.get(key, "-") for own in every), key)
    return {key: values for values, key in first.items() if len(set(values)) > 1}


def _values(every: Sequence[RunSettings], keys: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(own.get(key, "-") for key in keys) for own in every]


def _word(key: str) -> str:
    return key.rpartition(".")[2]


def _shown(differ: Mapping[str, Sequence[str]]) -> list[str]:
    """Keys that distinguish as many runs as all keys, and others up to `SHOWN`."""
    keys: list[str] = []
    apart = 1
    for key in differ:
        found = len(set(zip(*(differ[k] for k in [*keys, key]), strict=True)))
        if found > apart:
            keys, apart = [*keys, key], found
    others = [key for key in differ if key not in keys]
    return keys + others[: max(SHOWN - len(keys), 0)]


def _matters(key: str, selecting: bool) -> bool:
    part, _, rest = key.partition(".")
    name, last = rest.partition(".")[0], _word(key)
    if part not in PARTS or last in PROTOCOL:
        return False
    if part == "trainer":
        return name not in RUNNING and (selecting or name not in VALIDATING)
    if part == "callbacks" and name == "stream":
        return last in ROUTING
    if part == "callbacks" and last in FILES:
        return False
    # a recipe's and a reader's seed change the people
    return last != "seed" or ".recipe." in key or ".reader." in key


def _selects_weights(config: Mapping[str, Any]) -> bool:
    """Whether a callback of a run may select weights by validation."""
    callbacks = config.get("callbacks")
    nodes = callbacks.values() if isinstance(callbacks, Mapping) else ()
    return any(isinstance(node, Mapping) and selects_weights(node) for node in nodes)


def _flatten(
    node: Any, prefix: str, flat: dict[str, str], known: dict[Path, str], without: set[Role]
) -> None:
    if isinstance(node, Mapping):
        names = new_names(node, prefix)
        for old, value in _with_steps(node).items():
            key = names.get(str(old), str(old))
            path = f"{prefix}.{key}" if prefix else key
            if prefix == "callbacks" and not _decides(value):
                continue
            if role_of_setting(node, key, prefix) not in without:
                _flatten(value, path, flat, known, without)
    elif isinstance(node, str) and node.endswith(".ckpt"):
        flat[prefix] = _checkpoint(Path(node), known)
    else:
        flat[prefix] = str(node)


def _decides(callback: Any) -> bool:
    """Whether an accuracy may depend on a callback, by its node in a config."""
    if not isinstance(callback, Mapping):
        return callback is not None
    return role_of_callback(callback) in ("training", "ranking")


def _with_steps(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """A node with its milestones in steps, whatever their unit."""
    try:
        return in_steps(node)
    except (KeyError, TypeError, ValueError, OverflowError):  # a file of any content
        return node


def _checkpoint(path: Path, known: dict[Path, str]) -> str:
    """Identify a teacher by its settings, without the seed.

    `known`: folders that were read already, as a config may name its own checkpoint.
    """
    run = path.parent.parent
    try:
        folder = run.resolve()
        if folder not in known:
            known[folder] = str(path)
            known[folder] = _named(read_config(run), known)
        return known[folder]
    except (StoredFileError, OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle
        return str(path)


def _named(config: Mapping[str, Any], known: dict[Path, str]) -> str:
    own = settings(config, known).items()  # its test changes no weights
    trained = {key: value for key, value in own if not key.startswith((RANKING, STREAM))}
    return f"{config.get('name', '')} {_hash(trained)[:8]}"
