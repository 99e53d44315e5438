"""Writing a saved gallery: rows are appended in place, removed by a new generation of files.

Without torch. An append writes behind the rows that the card counts, then the card. A removal
rewrites all data files without the removed rows, then the card that names them, then deletes the
old files. In both cases the card is replaced atomically: after a kill the gallery is either the old
or the new one. The next writer deletes what a kill has left behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic

import numpy as np

from reid_lab.errors import UserError
from reid_lab.files.atomic import SUFFIX, disk_full, is_disk_full, replacing
from reid_lab.files.folders import locked as locked_file
from reid_lab.files.strict_json import read_json
from reid_lab.files.tables import write_json
from reid_lab.gallery_format import conditions
from reid_lab.gallery_format.card import (
    CARD,
    COLUMNS,
    EMBEDDINGS,
    IDS,
    NAMES,
    PATHS,
    PEOPLE,
    Card,
    GalleryError,
)
from reid_lab.gallery_format.rows import (
    ID,
    NAMED,
    OWN_COLUMNS,
    G,
    GalleryRows,
    crc32,
    named_of,
    numbers_of,
)
from reid_lab.openset.thresholds import AcceptThresholds
from reid_lab.vectors.rows import comparable_rows, unit_rows

LOCK = ".lock"
STAGING = ".upgrade"  # folder of the embeddings of a new model, until they are whole
FORGOTTEN = "forgotten.json"  # images inside the gallery's folder whose rows are being removed
BLOCK = 1 << 24  # bytes that are copied at a time
LINE = 1 << 20  # bytes of an image's metadata
_DATA = re.compile(r"(?:embeddings|ids|paths|columns|names|people)(?:\.\d+)?\.(?:bin|jsonl|json)")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of `folder`. The lock ends with the process.

    Raises:
        GalleryError: another process is writing there.
    """
    message = f"{folder} is being written to by another process: wait until it has ended"
    with locked_file(folder / LOCK, GalleryError(message)):
        yield


class RowWriter(Generic[G]):
    """Appends rows to a gallery and removes rows from it; its folder must be `locked`.

    `gallery` is the gallery on disk, updated after each change.

    Args:
        gallery: an opened gallery; it is opened again if another process has changed it.

    Raises:
        GalleryError: the gallery is damaged, or now has embeddings of another model.
    """

    def __init__(self, gallery: G) -> None:
        self.folder = gallery.folder
        if Card.read(self.folder) != gallery.card:
            fingerprint = gallery.card.fingerprint
            gallery = type(gallery).open_rows(self.folder)
            if gallery.card.fingerprint != fingerprint:
                raise GalleryError(f"{self.folder} was built again by another model: open it again")
        self.gallery = gallery
        self._card = content_crc32(gallery)  # as `gallery.card`, with every CRC-32
        self._known = gallery.known_paths
        self._people = set(gallery.known_people)
        self._clean()

    def __contains__(self, path: str) -> bool:
        return path in self._known

    def append_rows(
        self,
        rows: np.ndarray,
        pids: np.ndarray,
        camids: np.ndarray,
        paths: Sequence[str],
        names: Mapping[int, str] | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Add n rows, all or none.

        If the process is killed, the gallery is unchanged or has all of them.

        Args:
            rows: (n, D) embeddings; under cosine they are scaled to length 1.
            pids: (n,).
            camids: (n,).
            paths: n paths; a gallery has each only once.
            names: number -> name of people and cameras that are not their number, see `named_of`.
                A person whom the gallery has keeps their spelling.
            columns: metadata by name, n values each; empty text for missing values.

        Raises:
            GalleryError: another dimension, rows that cannot be compared, an image that the
                gallery already has; the first such row is named.
            DiskFullError: there is no space for them.
        """
        stored = self._stored(rows, paths)
        self._check_paths(paths)
        lines = _lines(columns or {}, len(paths))
        self._check_unchanged()
        new = {n: name for n, name in (names or {}).items() if n not in self._people}
        names = {**new, **self.gallery.names}
        opened = self.gallery.reopened(self._card, self.gallery.names)
        card = _append(opened, stored, pids, camids, paths, names, lines, tuple(columns or ()))
        self._write(card, names)
        self._known.update(paths)
        self._people.update(np.unique(pids).tolist())

    def append_named(
        self,
        rows: np.ndarray,
        paths: Sequence[str],
        people: Sequence[str],
        cameras: Sequence[str],
        columns: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Add n rows like `append_rows`, with the names of people and cameras; empty if unknown."""
        names = named_of(people, cameras)
        numbers = numbers_of(people), numbers_of(cameras)
        self.append_rows(rows, *numbers, paths, names, columns)

    def remove(self, rows: np.ndarray) -> None:
        """Remove rows from disk, with their metadata and names that no other row has.

        Images in the gallery's folder are deleted with their rows; others are kept. An approximate
        index is dropped, and built again by the next writer.

        Args:
            rows: (N,) bool, rows to remove.

        Raises:
            DiskFullError: there is no space for the remaining rows; nothing was removed.
        """
        self._check_unchanged()
        gallery, keep = self.gallery, np.flatnonzero(~rows)
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)  # it has the removed rows, too
        gone = [gallery.path(row) for row in np.flatnonzero(rows).tolist()]
        inside = [path for path in gone if self._is_ours(path)]
        if inside:
            write_json(self.folder / FORGOTTEN, {"images": inside})
        try:
            card, names = _rewritten(gallery, keep)
        except (OSError, UserError):
            self._clean()  # a full disk is not filled further
            raise
        self._write(card, names)
        self._known.difference_update(gone)
        self._people = set(self.gallery.known_people)
        self._clean()

    def replace_rows(self, card: Card, names: Mapping[int, str]) -> None:
        """Take over the existing files of a new generation, and delete the old ones."""
        self._check_unchanged()
        self._write(card, names)
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)
        self._clean()

    def set_accept_thresholds(self, found: Sequence[AcceptThresholds]) -> None:
        """Replace the thresholds of the gallery."""
        self._check_unchanged()
        self._write(replace(self._card, accept_thresholds=tuple(found)), self.gallery.names)

    def _write(self, card: Card, names: Mapping[int, str]) -> None:
        """Write the card; the rows that it counts then belong to the gallery."""
        card.write(self.folder)
        self._card = card
        known = self.gallery.known_paths
        self.gallery = self.gallery.reopened(card, names)
        self.gallery.__dict__["known_paths"] = known  # one set, not read again from the disk

    def _clean(self) -> None:
        """Delete what a killed writer has left: part files, older generations, removed images."""
        for part in self.folder.glob(f".*{SUFFIX}"):
            part.unlink()
        card = self._card
        current = {card.file(name) for name in (EMBEDDINGS, IDS, PATHS, COLUMNS, NAMES, PEOPLE)}
        for path in self.folder.iterdir():
            old = _DATA.fullmatch(path.name) and path.name not in current
            if old or (path.match("index*.faiss") and path.name != card.index_file):
                with suppress(PermissionError):  # Windows: another process still reads it
                    path.unlink(missing_ok=True)
        self._forget()

    def _forget(self) -> None:
        """Delete the images of removed rows."""
        listed = self.folder / FORGOTTEN
        if not listed.is_file():
            return
        for path in read_json(listed).get("images", ()):
            if path not in self._known and self._is_ours(path):
                with suppress(OSError):
                    Path(path).unlink(missing_ok=True)
        listed.unlink(missing_ok=True)

    def _is_ours(self, path: str) -> bool:
        """Whether an image lies in a subfolder of the gallery's own folder."""
        inside = Path(path).resolve().parents
        return self.folder.resolve() in inside[1:]

    def _check_unchanged(self) -> None:
        """Raises:
        GalleryError: a process without the lock has written to the gallery.
        """
        if Card.read(self.folder) != self.gallery.card:
            raise GalleryError(
                f"{self.folder} was changed by another process meanwhile: run the command again"
            )

    def _stored(self, rows: np.ndarray, paths: Sequence[str]) -> np.ndarray:
        """The rows (n, D) as they are stored."""
        card = self.gallery.card
        given = np.ascontiguousarray(rows, np.float32)
        if given.ndim != 2 or given.shape[1] != card.dim or len(given) != len(paths):
            raise GalleryError(
                f"{self.folder} takes embeddings (n, {card.dim}) with n paths, these are "
                f"{given.shape} with {len(paths)}"
            )
        for what, bad in {
            "not finite": ~np.isfinite(given).all(1),
            "only zeros": ~given.any(1),
        }.items():
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise GalleryError(
                    f"{bad.sum()} embeddings are {what}, the first is row {row} ({paths[row]}): "
                    "are the network's weights finite?"
                )
        with np.errstate(over="ignore"):
            if card.metric == "cosine":
                given = unit_rows(given)
            stored: np.ndarray = given.astype(card.row_dtype)
        lost = np.flatnonzero(~comparable_rows(stored, card.metric == "cosine"))
        if len(lost):
            raise GalleryError(
                f"row {lost[0]} ({paths[lost[0]]}) is too long or too short to be kept as "
                f"{card.dtype}: build the gallery in float32, or with metric cosine"
            )
        return stored

    def _check_paths(self, paths: Sequence[str]) -> None:
        seen: set[str] = set()
        for row, path in enumerate(paths):
            if path in seen or path in self._known:
                where = "is given twice" if path in seen else f"{self.folder} has already"
                raise GalleryError(f"row {row} is an image that {where} ({path}): leave it out")
            seen.add(path)


def remove_where(writer: RowWriter[Any], where: str) -> list[str]:
    """Remove the images that match a filter; return their paths.

    Raises:
        ConditionError: an empty or invalid filter.
    """
    conditions.parse(where)  # an empty one would select all
    gallery = writer.gallery
    rows = gallery.select(where)
    gone = [gallery.path(row) for row in np.flatnonzero(rows)]
    if gone:
        writer.remove(rows)
    return gone


def put(path: Path, start: int, data: bytes | memoryview) -> None:
    """Write `data` at byte `start`, truncate the file behind it, and flush it to disk.

    Raises:
        DiskFullError: there is no space for it; the file is truncated at `start`.
    """
    try:
        with path.open("r+b" if path.exists() else "w+b") as file:  # on a full disk, closing fails
            file.truncate(start)
            file.seek(start)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            os.truncate(path, start)
        raise (disk_full(path.parent / CARD) if is_disk_full(error) else error) from error


def content_crc32(gallery: GalleryRows) -> Card:
    """The card with a CRC-32 of each data file, which older versions did not write."""
    crcs = dict(gallery.card.crc32)
    if EMBEDDINGS not in crcs:
        crcs[EMBEDDINGS] = crc32(gallery.checked)
    for file, part in {
        IDS: gallery.numbers,
        PATHS: gallery.path_bytes,
        COLUMNS: gallery.column_bytes,
    }.items():
        if file not in crcs and (file != COLUMNS or gallery.card.columns):
            crcs[file] = crc32(part)
    return replace(gallery.card, crc32=crcs)


def _lines(columns: Mapping[str, Sequence[str]], count: int) -> list[bytes]:
    """One line of metadata for each of `count` rows; empty without metadata.

    Raises:
        GalleryError: a reserved name, a wrong number of values, or too much data.
    """
    for name, values in columns.items():
        if not name or len(name) > 200 or name in OWN_COLUMNS:
            raise GalleryError(
                f"metadata column {name!r}: the name must be text of 1 to 200 characters other "
                f"than {', '.join(OWN_COLUMNS)}"
            )
        if len(values) != count:
            raise GalleryError(f"metadata column {name!r}: {len(values)} values for {count} rows")
    lines = []
    for row in range(count):
        found = {name: str(values[row]) for name, values in columns.items() if values[row] != ""}
        lines.append(json.dumps(found).encode() if found else b"")
        if len(lines[-1]) > LINE:
            raise GalleryError(f"row {row} has more than {LINE:,} bytes of metadata: shorten it")
    return lines


def _append(
    gallery: GalleryRows,
    rows: np.ndarray,
    pids: np.ndarray,
    camids: np.ndarray,
    paths: Iterable[str],
    names: Mapping[int, str],
    lines: Sequence[bytes],
    columns: tuple[str, ...],
) -> Card:
    """Write rows behind the counted ones; return the card that counts them, not yet written."""
    card, folder = gallery.card, gallery.folder
    encoded = [os.fsencode(path) for path in paths]
    start = int(gallery.numbers["end"][-1]) if len(gallery) else 0
    numbers = np.empty(len(encoded), ID)
    numbers["end"] = start + np.cumsum([len(path) for path in encoded], dtype=np.int64)
    numbers["pid"], numbers["camid"] = pids, camids
    parts = {
        EMBEDDINGS: (card.count * card.row_bytes, rows.tobytes()),
        IDS: (card.count * ID.itemsize, numbers.tobytes()),
        PATHS: (start, b"".join(encoded)),
    }
    if columns or card.columns:
        missing = b"" if card.columns_bytes else b"\n" * card.count  # of rows without metadata
        text = missing + b"".join(line + b"\n" for line in lines)
        parts[COLUMNS] = (card.columns_bytes, text)
        grown = card.columns_bytes + len(text)
        card = replace(
            card, columns=tuple(dict.fromkeys(card.columns + columns)), columns_bytes=grown
        )
    if names != gallery.names:  # names that no row has are harmless
        _write_names(folder, card, names)
    for file, (offset, data) in parts.items():
        put(folder / card.file(file), offset, data)
    crcs = {file: crc32(data, card.crc32.get(file, 0)) for file, (_, data) in parts.items()}
    return replace(card, count=card.count + len(rows), crc32={**card.crc32, **crcs})


def _rewritten(gallery: GalleryRows, keep: np.ndarray) -> tuple[Card, dict[int, str]]:
    """Write the rows `keep` (ints) as the next generation; return its card and names.

    The card is not yet written.
    """
    folder = gallery.folder
    card = replace(
        gallery.card,
        count=len(keep),
        generation=gallery.card.generation + 1,
        trained=0,
        indexed=0,
    )
    numbers = np.array(gallery.numbers[keep])
    starts = np.concatenate([[0], gallery.numbers["end"][:-1]])[keep] if len(keep) else keep
    lengths = gallery.numbers["end"][keep] - starts
    numbers["end"] = np.cumsum(lengths)
    people, cameras = set(numbers["pid"].tolist()), set(numbers["camid"].tolist())
    names = {
        number: name
        for number, name in gallery.names.items()
        if number in people or (number in cameras and number >= NAMED)
    }
    step = max(1, BLOCK // card.row_bytes)
    blocks = (gallery.embeddings[keep[i : i + step]].tobytes() for i in range(0, len(keep), step))
    paths = (os.fsencode(gallery.path(row)) for row in keep)
    crcs = {
        EMBEDDINGS: _write_parts(folder / card.file(EMBEDDINGS), blocks),
        IDS: _write_parts(folder / card.file(IDS), [numbers.tobytes()]),
        PATHS: _write_parts(folder / card.file(PATHS), paths),
    }
    if card.columns:
        lines = [gallery.line(row) + b"\n" for row in keep]
        card = replace(card, columns_bytes=sum(map(len, lines)))
        crcs[COLUMNS] = _write_parts(folder / card.file(COLUMNS), lines)
    _write_names(folder, card, names)
    return replace(card, crc32=crcs), names


def _write_parts(path: Path, parts: Iterable[bytes]) -> int:
    """Write a file atomically; return its CRC-32."""
    crc = 0
    with replacing(path) as beside, beside.open("wb") as file:
        for part in parts:
            file.write(part)
            crc = crc32(part, crc)
    return crc


def _write_names(folder: Path, card: Card, names: Mapping[int, str]) -> None:
    for file, hashed in ((NAMES, True), (PEOPLE, False)):
        own = {str(n): name for n, name in names.items() if (n >= NAMED) == hashed}
        if own:
            write_json(folder / card.file(file), own)
