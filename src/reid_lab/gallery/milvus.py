"""A vector store in Milvus: Milvus Lite in a file, a server, or a cluster."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from reid_lab.errors import UserError, first, first_line, with_options
from reid_lab.gallery import milvus_filter
from reid_lab.gallery.vectors import Columns, NearestImages
from reid_lab.gallery_format import conditions
from reid_lab.gallery_format.card import Card, GalleryError
from reid_lab.gallery_format.rows import OWN_COLUMNS, nothing_found
from reid_lab.optional import load
from reid_lab.vectors.rows import comparable_rows, unit_rows

VECTOR, CARD = "embedding", "reid_lab"
LONGEST = 4096  # bytes of a path, a name or a value
KEPT = ("fingerprint", "dim", "exit", "image", "metric", "columns")  # fields of the card
QUERIES = 100  # searched at a time
PAGE = 1000  # paths that are listed or removed at a time
# Milvus Lite subtracts all rows of a segment, at most so many, from all queries at once: two arrays
# of (queries, rows, D) float32, which are kept to 1 GB.
LITE = "milvus_lite"  # beginning of its version
LITE_LOG = logging.getLogger(LITE)
LITE_ROWS, LITE_NUMBERS = 100_000, 2**27
ATTEMPTS, FIRST_WAIT = 8, 0.5  # a busy server is asked again after 0.5, 1, 2, ... seconds
BUSY = ("rate limit", "ratelimit", "quota", "resource exhausted", "retry later")


class MilvusStore:
    """A collection of embeddings with pid, camid, path and metadata as text, and sort keys.

    The index is flat (exact) on Milvus Lite and by default. The first search, and each after a
    change by this store, includes all earlier writes; a server answers it at its next tick, after
    about 0.2 s. Other searches do not wait and may miss the last seconds of other writers.

    Args:
        client: `pymilvus.MilvusClient`.
        name: name of the collection.
        card: card of the gallery, stored in the collection's properties and description.
    """

    def __init__(self, client: Any, name: str, card: Card) -> None:
        self.client, self.name, self._card = client, name, card
        self._waits = True  # a search: until the server has all that was written before

    @staticmethod
    def connect(uri: str, token: str = "", create: bool = False) -> Any:
        """A client of a file (`people.db`) or a server (`http://host:19530`).

        Args:
            create: make a file that does not exist; otherwise that is an error.

        Raises:
            MissingPackageError: pymilvus (or milvus-lite for a file) is not installed.
            UserError: the server cannot be reached, or the file does not exist or cannot be opened.
        """
        if "://" not in uri and not create:
            check_there(Path(uri))
        pymilvus = load("pymilvus", "a store in Milvus")
        if "://" not in uri:
            load("milvus_lite", "a Milvus file")
        reasons = _Reasons()
        try:
            with reasons:
                return pymilvus.MilvusClient(uri, token=token)
        except Exception as error:  # pymilvus, grpc and sqlite have no common base
            text = (
                f"Milvus at {uri} cannot be opened ({first_line(reasons.last or error)}): give a "
                "file that ends in .db, or the address of a server that runs, http://host:19530, "
                "and its"
            )
            end = "token if it wants one"
            raise with_options(UserError(f"{text} {end}"), f"{text} --{end}") from error

    @staticmethod
    def open(client: Any, name: str) -> MilvusStore:
        """The collection of that name.

        Raises:
            GalleryError: there is no such collection, or reid_lab did not make it.
        """
        if not client.has_collection(name):
            listed = ", ".join(client.list_collections()) or "none"
            raise GalleryError(f"no collection {name!r} in Milvus; there are: {listed}")
        try:
            described = client.describe_collection(name)
            kept = json.loads(described["properties"].get(CARD) or described["description"])
            tuples = {key: tuple(kept[key]) for key in ("image", "columns")}
            card = Card(**{**{key: kept[key] for key in KEPT}, **tuples})
        except (ValueError, KeyError, TypeError) as error:
            raise GalleryError(
                f"the collection {name!r} was not made by reid_lab: choose another name"
            ) from error
        client.load_collection(name)
        return MilvusStore(client, name, card)

    @staticmethod
    def create(client: Any, name: str, card: Card) -> MilvusStore:
        """A new, empty collection for embeddings as a gallery's card describes them.

        Raises:
            GalleryError: the name is taken.
        """
        if client.has_collection(name):
            raise GalleryError(f"Milvus has a collection {name!r} already: open it")
        kind = load("pymilvus", "a store in Milvus").DataType
        kept = {key: value for key, value in asdict(card).items() if key in KEPT}
        schema = client.create_schema(auto_id=False, description=json.dumps(kept))
        schema.add_field("path", kind.VARCHAR, is_primary=True, max_length=LONGEST)
        for column in ("pid", "camid", *_fields(card)):
            schema.add_field(column, kind.VARCHAR, max_length=LONGEST)
        for column in _texts(card):
            schema.add_field(_key(column), kind.VARCHAR, max_length=milvus_filter.KEY_BYTES)
        schema.add_field(VECTOR, kind.FLOAT_VECTOR, dim=card.dim)
        index = client.prepare_index_params()
        index.add_index(VECTOR, index_type="FLAT", metric_type="L2")
        client.create_collection(
            name,
            schema=schema,
            index_params=index,
            consistency_level="Strong",
            properties={CARD: json.dumps(kept)},  # Milvus Lite keeps no description
        )
        return MilvusStore(client, name, replace(card, count=0))

    @property
    def card(self) -> Card:
        return self._card

    def __len__(self) -> int:
        return self._count("")

    def known(self, paths: Sequence[str]) -> set[str]:
        get = partial(self.client.get, self.name, ids=list(paths), output_fields=["path"])
        found = patiently(get)
        return {row["path"] for row in found}

    def add(
        self,
        embeddings: np.ndarray,
        paths: Sequence[str],
        people: Sequence[str],
        cameras: Sequence[str],
        columns: Columns | None = None,
    ) -> None:
        rows = self._rows(embeddings)
        new = [name for name in columns or {} if name not in self._card.columns]
        if new:
            raise GalleryError(
                f"the collection has no column {', '.join(map(repr, new))}; available: "
                f"{', '.join(self._card.columns) or 'none'}: load the gallery into a new one"
            )
        texts = {"path": paths, "pid": people, "camid": cameras}
        for field, column in zip(_fields(self._card), self._card.columns, strict=True):
            texts[field] = (columns or {}).get(column) or [""] * len(paths)
        for name, values in texts.items():
            for text in values:
                if len(text.encode(errors="surrogateescape")) > LONGEST:
                    raise GalleryError(f"{name} of {text[:60]!r}... has more than {LONGEST} bytes")
        keys = {name: _key(name) for name in texts} if self._keyed else {}
        listed = []
        for i, row in enumerate(rows):
            mine = {name: values[i] for name, values in texts.items()}
            listed.append({VECTOR: row, **mine, **milvus_filter.keys_of(mine, keys)})
        self._waits = True
        patiently(lambda: self.client.upsert(self.name, listed))

    def flush(self) -> None:
        """Write added rows as whole segments; until then Milvus Lite searches them slowly."""
        patiently(lambda: self.client.flush(self.name))

    def remove(self, where: str) -> int:
        wanted = self._expression(where)
        count = self._count(wanted)
        self._waits = True
        patiently(lambda: self.client.delete(self.name, filter=wanted))
        return count

    def paths(self) -> Iterator[str]:
        pages = self.client.query_iterator(
            self.name, batch_size=PAGE, filter="", output_fields=["path"]
        )
        try:
            while page := patiently(pages.next):
                yield from (row["path"] for row in page)
        finally:
            pages.close()

    def discard(self, paths: Sequence[str]) -> None:
        self._waits = True
        for start in range(0, len(paths), PAGE):
            part = list(paths[start : start + PAGE])
            patiently(lambda part=part: self.client.delete(self.name, ids=part))  # type: ignore[misc]

    def search(self, query: np.ndarray, k: int, where: str = "") -> NearestImages:
        wanted = self._expression(where) if where.strip() else ""
        rows, distances, paths = self._rows(query), [], []
        for start in range(0, len(rows), self._queries):
            part = list(rows[start : start + self._queries])
            level = "Strong" if self._waits else "Bounded"
            how = {"limit": k, "filter": wanted, "output_fields": ["path"]}
            ask = partial(self.client.search, self.name, part, consistency_level=level, **how)
            found = patiently(ask)
            self._waits = False
            for hits in found:
                distances.append([hit["distance"] for hit in hits])
                paths.append([hit["entity"]["path"] for hit in hits])
        if paths and not any(paths):
            raise GalleryError(nothing_found(f"the collection {self.name!r}", where, len(self)))
        squared = np.array(distances, np.float32).clip(min=0)
        return NearestImages(squared / 2 if self._cosine else np.sqrt(squared), paths)

    def _count(self, wanted: str) -> int:
        """Number of images that match a filter."""
        count = ["count(*)"]
        found = patiently(lambda: self.client.query(self.name, filter=wanted, output_fields=count))
        return int(found[0]["count(*)"])

    @cached_property
    def _queries(self) -> int:
        """Number of queries that are searched at a time."""
        if not self.client.get_server_version().startswith(LITE):  # a server's may end in -lite
            return QUERIES
        return min(QUERIES, max(1, LITE_NUMBERS // (LITE_ROWS * self._card.dim)))

    @property
    def _cosine(self) -> bool:
        return self._card.metric == "cosine"

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) rows as they are stored, of length 1 under cosine."""
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self._card.dim or not comparable_rows(rows).all():
            raise GalleryError(
                f"embeddings {rows.shape}: the collection {self.name!r} takes (n, "
                f"{self._card.dim}), finite and not only zeros"
            )
        return unit_rows(rows) if self._cosine else rows

    def _expression(self, where: str) -> str:
        """A filter in Milvus's language, see milvus_filter.py.

        Raises:
            ConditionError: an unknown column, < or > without a value of that kind, or in a
                collection of an earlier version.
        """
        given = conditions.parse(where)
        fields = {name: name for name in OWN_COLUMNS}
        fields |= dict(zip(self._card.columns, _fields(self._card), strict=True))
        parts = []
        for c in given:
            if c.column not in fields:
                listed = ", ".join(fields)
                raise conditions.ConditionError(f"unknown column {c.column!r}; available: {listed}")
            if not self._keyed and c.operator not in ("=", "!="):
                text = (
                    f"{c.column}{c.operator}{c.value}: the collection {self.name!r} was made by an "
                    "earlier version, which knew = and != alone: load the gallery into another"
                )
                raise with_options(
                    conditions.ConditionError(f"{text} collection"), f"{text} --collection"
                )
            field = fields[c.column]
            key = _key(field) if self._keyed else ""
            parts.append(milvus_filter.expression(c, field, key, self._holds))
        return " and ".join(parts)

    def _holds(self, wanted: str) -> bool:
        """Whether any image matches a filter."""
        found = patiently(
            lambda: self.client.query(self.name, filter=wanted, limit=1, output_fields=["path"])
        )
        return bool(found)

    @cached_property
    def _keyed(self) -> bool:
        """Whether numbers and dates can be compared; older collections have no keys."""
        fields = self.client.describe_collection(self.name)["fields"]
        return any(field["name"] == _key("pid") for field in fields)


def check_there(file: Path) -> None:
    """Raises:
    GalleryError: there is no such Milvus file; those beside it are listed.
    """
    if file.is_file() or (file.is_dir() and any(file.iterdir())):
        return
    folder = file.absolute().parent
    beside = sorted(path.name for path in folder.glob("*.db") if path != file.absolute())
    there = f"{folder} has {', '.join(first(beside)) or 'no file .db'}"
    there = there if folder.is_dir() else f"{folder} does not exist"
    text = f"no Milvus file {file}: {there}. Correct"
    raise with_options(
        GalleryError(f"{text} uri, or fill a new file by load_milvus(gallery, {str(file)!r})"),
        f"{text} --uri, or fill a new file: reid-lab gallery load GALLERY --uri {file}",
    )


class _Reasons(logging.Handler):
    """Keeps the errors that Milvus Lite would print with their tracebacks, and drops its notes."""

    def __init__(self) -> None:
        super().__init__()
        self.last: BaseException | None = None

    def __enter__(self) -> None:
        LITE_LOG.addHandler(self)
        LITE_LOG.propagate = False

    def __exit__(self, *raised: object) -> None:
        LITE_LOG.propagate = True
        LITE_LOG.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.exc_info[1] if record.exc_info else self.last


def patiently(work: Callable[[], Any], wait: Callable[[float], None] = time.sleep) -> Any:
    """Retry while the server is busy, with increasing pauses.

    Raises:
        UserError: another error, or the server stays busy.
    """
    pauses = [FIRST_WAIT * 2**attempt for attempt in range(ATTEMPTS - 1)]
    while True:
        try:
            return work()
        except Exception as error:  # noqa: PERF203 - pymilvus and grpc have no common base
            busy = any(word in str(error).lower() for word in BUSY)
            if not busy or not pauses:
                raise UserError(f"Milvus: {first_line(error)}") from error
            wait(pauses.pop(0))


def _fields(card: Card) -> list[str]:
    """Field names of the metadata: Milvus allows only letters, digits and underscores."""
    return [f"column_{number}" for number in range(len(card.columns))]


def _texts(card: Card) -> list[str]:
    """Names of all fields with texts."""
    return [*OWN_COLUMNS, *_fields(card)]


def _key(field: str) -> str:
    """Name of the field with the sort keys of another field; see milvus_filter.py."""
    return f"{field}_key"
