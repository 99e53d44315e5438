"""A gallery that `python -m reid_lab.gallery` saved, searched by numpy: exact, on one machine.

Whatever index it has, every row is compared; `reid_lab.retrieval` has the faster searches.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid_lab.runtime.manifest import ExportError, Manifest

# the files of reid_lab.retrieval.folder, which needs torch
CARD, EMBEDDINGS, IDS, PATHS = "gallery.json", "embeddings.bin", "ids.bin", "paths.bin"
FORMAT = 1
ID = np.dtype([("end", "<i8"), ("pid", "<i8"), ("camid", "<i8")])
BLOCK = 1 << 16  # rows compared at a time


@dataclass(frozen=True, eq=False)
class Gallery:
    """N images: `embeddings` (N, D), `pids` and `camids` (N,), `paths`; and what made them."""

    folder: Path
    card: dict[str, Any]
    embeddings: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    paths: list[str]

    @staticmethod
    def open(folder: Path | str, manifest: Manifest) -> Gallery:
        """The gallery in `folder`, if the network of `manifest` may search it.

        Raises:
            ExportError: no gallery, an incomplete one, or one of another network, precision,
                preprocessing or exit.
        """
        folder = Path(folder)
        card = _card(folder)
        _check_model(folder, card, manifest)
        count, dim = card["count"], card["dim"]
        rows = _rows(folder / EMBEDDINGS, np.dtype(card["dtype"]).newbyteorder("<"), count * dim)
        numbers = _rows(folder / IDS, ID, count)
        ends = numbers["end"].tolist()
        data = _rows(folder / PATHS, np.dtype(np.uint8), ends[-1] if ends else 0).tobytes()
        paths = [os.fsdecode(data[s:e]) for s, e in zip([0, *ends], ends, strict=False)]
        embeddings = rows.reshape(count, dim)
        return Gallery(folder, card, embeddings, numbers["pid"], numbers["camid"], paths)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def exit(self) -> str:
        """The exit whose embeddings it holds: ask with this one's."""
        return str(self.card["exit"])

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Queries (Q, D) -> distances (Q, k) float32 and rows (Q, k), nearest first.

        In the gallery's metric: Euclidean length, or 1 - cosine. Equal distances keep the
        gallery's order.

        Raises:
            ExportError: embeddings of another dimension, or k < 1.
        """
        dim = self.embeddings.shape[1]
        if query.ndim != 2 or query.shape[1] != dim or k < 1:
            raise ExportError(
                f"query {query.shape} with k={k}: {self.folder} takes (Q, {dim}) with k >= 1"
            )
        cosine = self.card["metric"] == "cosine"
        asked = _unit(query) if cosine else query.astype(np.float64)
        parts = [self._squared(asked, s, cosine) for s in range(0, len(self), BLOCK)]
        squared = np.concatenate(parts, 1)
        rows = np.argsort(squared, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(squared, rows, 1).clip(min=0)
        return (found / 2 if cosine else np.sqrt(found)).astype(np.float32), rows

    def _squared(self, asked: np.ndarray, start: int, cosine: bool) -> np.ndarray:
        """(Q, n) squared distances to a block of rows, in float64: nothing to round away."""
        block = self.embeddings[start : start + BLOCK]
        rows = _unit(block) if cosine else block.astype(np.float64)
        products = asked @ rows.T
        return np.square(asked).sum(1)[:, None] + np.square(rows).sum(1) - 2 * products


def _check_model(folder: Path, card: dict[str, Any], manifest: Manifest) -> None:
    if card["fingerprint"] != manifest.fingerprint:
        raise ExportError(
            f"{folder} holds embeddings of the model {card['fingerprint'][:12]}, this export is "
            f"{manifest.fingerprint[:12]} ({manifest.precision}): embeddings of two models, or of "
            "two precisions, cannot be compared. Use the export that it belongs to, or build "
            "another gallery"
        )
    if tuple(card["image"]) != manifest.preprocessing.image:
        raise ExportError(
            f"{folder} was built from images of {tuple(card['image'])}, this export takes "
            f"{manifest.preprocessing.image}: build another gallery"
        )
    dim = manifest.exit(card["exit"]).dim
    if card["dim"] != dim:
        raise ExportError(
            f"{folder} has embeddings of {card['dim']} dimensions, exit {card['exit']!r} has "
            f"{dim}: build another gallery"
        )


def _card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    if not path.is_file():
        raise ExportError(f"{folder} is no saved gallery, it has no {CARD}: build one first")
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if int(card["format"]) > FORMAT:
            raise ExportError(f"{folder} has format {card['format']}: update reid_lab")
        missing = {"fingerprint", "image", "exit", "dim", "count", "dtype", "metric"} - set(card)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ExportError(f"{path} cannot be read ({error}): build the gallery again") from error
    if missing:
        raise ExportError(f"{path} has no {', '.join(sorted(missing))}: build the gallery again")
    return card


def _rows(path: Path, dtype: np.dtype[Any], count: int) -> np.ndarray:
    """The first `count` of a file, mapped."""
    there = path.stat().st_size if path.is_file() else 0
    if there < count * dtype.itemsize:
        raise ExportError(f"{path} is shorter than {CARD} counts: copy the gallery again")
    return np.memmap(path, dtype, mode="r", shape=(count,)) if count else np.empty(0, dtype)


def _unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
