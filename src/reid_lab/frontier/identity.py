"""Which runs are the same but for the seed, and what tells the others apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Settings = Mapping[str, str]
# what an accuracy depends on; where the files are and how fast they are read is not in it
PARTS = ("dataset", "backbone", "loss", "model", "callbacks", "trainer.precision")
# callbacks that only look on, after training
OBSERVERS = {"anytime", "stream", "verification", "dimensions", "ranked_lists", "attention"}
OBSERVERS |= {"throughput", "checkpoint", "progress", "cost"}
ELSEWHERE = {"folder", "root", "cache", "cache_dir", "workers", "eval_batch_size", "memory"}
SHOWN = 3  # settings in a label


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """A run's settings by dotted key, without the seed and the places of files."""
    flat: dict[str, str] = {}
    _flatten(config, "", flat)
    return {key: value for key, value in flat.items() if _telling(key)}


def told_apart(names: Sequence[str], every: Sequence[Settings]) -> list[str]:
    """The names; where one stands for several settings, with those that differ."""
    labels = []
    for name, own in zip(names, every, strict=True):
        same = [s for n, s in zip(names, every, strict=True) if n == name]
        keys = sorted({key for s in same for key in s}, key=lambda key: (key.count("."), key))
        differ = [key for key in keys if len({s.get(key) for s in same}) > 1]
        texts = dict.fromkeys(f"{key.rpartition('.')[2]}={own.get(key, '-')}" for key in differ)
        shown = list(texts)[:SHOWN] + ["..."] * (len(texts) > SHOWN)
        labels.append(f"{name} ({', '.join(shown)})" if texts else name)
    return labels


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config; empty where it has none."""
    path = folder / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return content if isinstance(content, dict) else {}


def _telling(key: str) -> bool:
    words = key.split(".")
    if not any(key == part or key.startswith(f"{part}.") for part in PARTS):
        return False
    if words[0] == "callbacks" and words[1:2] and words[1] in OBSERVERS:
        return False
    if words[-1] == "seed":  # a recipe's seed makes other people
        return "recipe" in words
    return words[-1] not in ELSEWHERE


def _flatten(node: Any, prefix: str, flat: dict[str, str]) -> None:
    if isinstance(node, Mapping):
        for key, value in node.items():
            _flatten(value, f"{prefix}.{key}" if prefix else str(key), flat)
    elif isinstance(node, str) and node.endswith(".ckpt"):
        flat[prefix] = _checkpoint(Path(node))
    else:
        flat[prefix] = str(node)


def _checkpoint(path: Path) -> str:
    """A teacher by what it is: that of another seed is the same one."""
    config = read_config(path.parent.parent)
    own = ", ".join(f"{key}={value}" for key, value in sorted(settings(config).items()))
    return f"{config.get('name', '')} {own}" if config else str(path)
