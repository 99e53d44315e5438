"""Files of embeddings: NumPy's .npz, or Parquet. Without torch.

| | .npz | .parquet |
|---|---|---|
| embeddings | an array (N, D) for each exit | a column of D float32 for each exit |
| images | `paths`, `pids`, `camids`, `tracklets`, `boxes` (N, 4) | `path`, `pid`, ..., `left` ... |
| network | `fingerprint` | `fingerprint` in the metadata of the schema |
| tracklets | `pooled`, the metric they were pooled for | `pooled` in the metadata of the schema |

Only `paths` is always present. Numbers of people and cameras are int64, `UNKNOWN` (-2) if unknown;
names are text, empty if unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from reid_lab.errors import UserError
from reid_lab.files.atomic import replacing, valid_text
from reid_lab.files.outputs import check_writable
from reid_lab.files.regular import escaped, no_file
from reid_lab.images.boxes import SIDES
from reid_lab.optional import load

NPZ, PARQUET = ".npz", ".parquet"
FORMATS = (NPZ, PARQUET)
TEXTS = ("fingerprint", "pooled")
IMAGES = ("paths", "pids", "camids", "tracklets", "boxes")


@dataclass(frozen=True)
class EmbeddedImages:
    """Embeddings of N images or tracklets at each exit.

    Attributes:
        fingerprint: fingerprint of the network.
        exits: name -> (N, D) float32.
        paths: (N,) text.
        pids, camids, tracklets: (N,) int64 or text; None if not given.
        boxes: (N, 4) int, xyxy in pixels.
        pooled: metric that the rows were pooled for, each a tracklet; empty if they are images, or
            if the file is older.
    """

    fingerprint: str
    exits: Mapping[str, np.ndarray]
    paths: np.ndarray
    pids: np.ndarray | None = None
    camids: np.ndarray | None = None
    tracklets: np.ndarray | None = None
    boxes: np.ndarray | None = None
    pooled: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def columns(self) -> dict[str, np.ndarray]:
        """The known columns of the images, by name."""
        found = {name: getattr(self, name) for name in IMAGES}
        return {name: values for name, values in found.items() if values is not None}


@dataclass(frozen=True)
class EmbeddedFile:
    """A file of embeddings that was written.

    Attributes:
        path: the file.
        exits: names of its exits.
        images: number of images that were embedded.
        rows: number of its rows: of `images`, or of tracklets.
        pooled: whether the rows are tracklets.
        broken: a message for each image that could not be read and was left out.
        note: what was skipped or assumed about the images; empty for nothing.
    """

    path: Path
    exits: tuple[str, ...]
    images: int
    rows: int
    pooled: bool = False
    broken: list[str] = field(default_factory=list)
    note: str = ""


def check_format(path: Path) -> None:
    """Check that a file of this name can be written, before any work.

    Raises:
        UserError: a folder, another format, or a folder that cannot be written to.
        MissingPackageError: it is Parquet, and pyarrow is not installed.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file")
    if path.suffix not in (NPZ, PARQUET):
        raise UserError(f"{path}: the name must end in {NPZ} or {PARQUET}")
    check_writable(path)
    if path.suffix == PARQUET:
        load("pyarrow", f"writing {PARQUET}")


def write_embeddings(path: Path, images: EmbeddedImages) -> None:
    """Write a file atomically: Parquet by its extension, else .npz.

    Raises:
        UserError: an exit has the name of another column.
        MissingPackageError: it is Parquet, and pyarrow is not installed.
    """
    columns = images.columns() | {k: np.array(text) for k, text in _texts(images).items()}
    table = _table(images) if path.suffix == PARQUET else None
    if taken := images.exits.keys() & {*columns, *TEXTS}:
        raise UserError(f"{path}: exit {min(taken)!r} has the name of another column: rename it")
    with replacing(path) as beside, beside.open("wb") as file:  # numpy would append .npz
        if table is None:
            np.savez(file, **images.exits, **columns)  # type: ignore[arg-type]
        else:
            load("pyarrow.parquet", f"writing {PARQUET}").write_table(table, file)


def _table(images: EmbeddedImages) -> Any:
    """A `pyarrow.Table` with one row per image."""
    pa = load("pyarrow", f"writing {PARQUET}")
    arrays: dict[str, Any] = {}
    for name, values in images.columns().items():
        if name == "boxes":
            sides = zip(SIDES, values.T, strict=True)
            arrays |= {side: pa.array(x.astype(np.int32)) for side, x in sides}
        else:
            texts = values.dtype.kind == "U"
            plain = list(map(valid_text, values.tolist())) if texts else values
            arrays[name.removesuffix("s")] = pa.array(plain)
    for name, rows in images.exits.items():
        if name in arrays:
            raise UserError(f"exit {name!r} has the name of another column: write {NPZ}")
        flat = pa.array(np.ascontiguousarray(rows, np.float32).ravel())
        arrays[name] = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    return pa.table(arrays).replace_schema_metadata(_texts(images))


def _texts(images: EmbeddedImages) -> dict[str, str]:
    """What is said of all rows."""
    found = {"fingerprint": images.fingerprint, "pooled": images.pooled}
    return {name: text for name, text in found.items() if text or name == "fingerprint"}


def read_embeddings(path: Path) -> EmbeddedImages:
    """Read a file that `write_embeddings` has written; see the module for its columns.

    Raises:
        UserError: no such file, or a malformed one: no fingerprint, no exits, unequal numbers of
            rows.
        MissingPackageError: it is Parquet, and pyarrow is not installed.
    """
    if not path.is_file():
        raise UserError(f"{escaped(path)} {no_file(path)}: give a file of reid-lab embed")
    columns = _read_parquet(path) if path.suffix.lower() == PARQUET else _read_npz(path)
    key = columns.pop("fingerprint", None)
    is_key = columns.get("pooled", np.empty(())).ndim == 0  # else an exit of that name
    pooled = str(columns.pop("pooled", "")) if is_key else ""
    images = {name: columns.pop(name) for name in IMAGES if name in columns}
    exits = {name: rows for name, rows in columns.items() if rows.ndim == 2}
    counts = {len(rows) for rows in (*exits.values(), *images.values())}
    numbers = all(rows.dtype.kind == "f" for rows in exits.values())
    if key is None or "paths" not in images or not exits or len(counts) > 1 or not numbers:
        raise UserError(
            f"{escaped(path)} is not a file of reid-lab embed: expected paths, a fingerprint, "
            "and for each exit as many embeddings; it has "
            f"{', '.join((*images, *columns)) or 'nothing'}"
        )
    return EmbeddedImages(str(key), exits, **images, pooled=pooled)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError) as error:
        raise UserError(f"{escaped(path)} cannot be read as .npz: {error}") from error


def _read_parquet(path: Path) -> dict[str, np.ndarray]:
    pa, pq = load("pyarrow", f"reading {PARQUET}"), load("pyarrow.parquet", f"reading {PARQUET}")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{escaped(path)} cannot be read as .parquet: {error}") from error
    columns: dict[str, np.ndarray] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            columns[name] = column.flatten().to_numpy().reshape(len(column), -1)
        else:
            values = column.to_numpy(zero_copy_only=False)
            columns[name] = values.astype(str) if values.dtype.kind == "O" else values
    if set(SIDES) <= columns.keys():
        columns["boxes"] = np.stack([columns.pop(side) for side in SIDES], 1)
    for name in ("path", "pid", "camid", "tracklet"):
        if name in columns:
            columns[f"{name}s"] = columns.pop(name)
    found = table.schema.metadata or {}
    texts = {name: found[name.encode()].decode() for name in TEXTS if name.encode() in found}
    return columns | {name: np.array(text) for name, text in texts.items()}
