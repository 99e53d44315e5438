"""The SQLite file of the people that a service knows.

Writes are on disk when a transaction ends; deleted data are overwritten there (SQLite's
`secure_delete`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from reid_lab.errors import UserError, with_options
from reid_lab.files.regular import no_file
from reid_lab.runtime.manifest import Manifest
from reid_lab.serve.rows import Rows, numbered


class UnwritableError(UserError):
    """The file cannot be written to, which is no fault of the request."""


class LockedError(UserError):
    """Another process holds the file."""


FORMAT = "1"
WAIT_SECONDS = 2.0  # wait for another process that holds the file; searches wait, too
EMBEDDING = """(
    image INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    exit TEXT NOT NULL, row BLOB NOT NULL, PRIMARY KEY (image, exit)
) WITHOUT ROWID"""
TABLES = (
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE image (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pid TEXT NOT NULL, camid TEXT NOT NULL,
    path TEXT NOT NULL, added REAL NOT NULL, thumbnail BLOB
)""",
    "CREATE INDEX image_pid ON image (pid)",
    f"CREATE TABLE embedding {EMBEDDING}",
    """CREATE TABLE label (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pid TEXT NOT NULL, correct INTEGER NOT NULL,
    exit TEXT NOT NULL, distance REAL NOT NULL, added REAL NOT NULL, image BLOB NOT NULL
)""",
    "CREATE TABLE removed (path BLOB PRIMARY KEY) WITHOUT ROWID",
)
PART = 4_096  # images that are read at a time


def not_people(path: Path, why: object) -> UserError:
    """The error of a path that is no file of people."""
    text = f"{path} is not a file of people ({why}): give another"
    return with_options(UserError(f"{text} file"), f"{text} --people")


class PeopleFile:
    """Tables in an SQLite file. Thread-safe.

    Args:
        path: path of the file; missing tables are created.
        manifest: manifest of the exported network.
        metric: metric of a new file.
        exits: exits of a new file.

    Attributes:
        metric: euclidean or cosine.
        lock: held while the file and its cached rows are changed.

    Raises:
        UserError: not a file of people, or a file of a newer version.
        LockedError: another process holds the file.
        UnwritableError: the file cannot be written to.
    """

    def __init__(self, path: Path, manifest: Manifest, metric: str, exits: Sequence[str]) -> None:
        self.path, self.lock = path, threading.RLock()
        self._log_has_deleted = False
        if path.exists() and not path.is_file():  # a pipe might never open
            kind = no_file(path).removeprefix("is ")
            raise not_people(path, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(
                path, check_same_thread=False, isolation_level=None, timeout=WAIT_SECONDS
            )
        except sqlite3.OperationalError as error:
            raise not_people(path, error) from error
        try:
            for setting in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._database.execute(f"PRAGMA {setting}")
            self._database.execute("PRAGMA foreign_keys=ON")
            if not self.select("SELECT 1 FROM sqlite_master"):
                self._create(manifest, metric, exits)
            facts: dict[str, str] = dict(self._database.execute("SELECT name, value FROM fact"))
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise trouble(path, error) or not_people(path, error) from error
        except BaseException:
            self._database.close()
            raise
        if facts.get("format") != FORMAT:
            self._database.close()
            raise UserError(
                f"{path} has the format {facts.get('format')}, this version reads {FORMAT}"
            )
        self.metric = facts["metric"]

    def fact(self, name: str) -> str:
        """A stored fact; empty if there is none with this name."""
        found = self.select("SELECT value FROM fact WHERE name = ?", name)
        return str(found[0][0]) if found else ""

    @property
    def exits(self) -> tuple[str, ...]:
        """The exits whose embeddings are kept, cheapest first."""
        return tuple(self.fact("exits").split("\n"))

    def check(self, manifest: Manifest) -> None:
        """Raises:
        UserError: people of another network.
        """
        fingerprint = self.fact("fingerprint")
        if fingerprint != manifest.fingerprint:
            text = (
                f"{self.path} holds people of the model {fingerprint[:12]}, this export is "
                f"{manifest.fingerprint[:12]}: embeddings of two models cannot be compared. Use "
                "the export that they belong to (POST /model then moves them to another one), or "
                "give another"
            )
            raise with_options(UserError(f"{text} file of people"), f"{text} --people")

    def rows(
        self,
        exits: Sequence[str],
        table: str = "embedding",
        behind: int = 0,
        until: int = 2**63 - 1,
    ) -> Rows:
        """The images with ids in (behind, until], read in parts, so that others can use the file.

        Raises:
            UserError: images lack embeddings.
        """
        images: list[tuple[int, str, str]] = []
        found: dict[str, list[np.ndarray]] = {name: [] for name in exits}
        while True:
            with self.lock:
                query = "SELECT id, pid, camid FROM image WHERE id > ? AND id <= ? ORDER BY id"
                part = self.select(f"{query} LIMIT {PART}", behind, until)
                if not part:
                    break
                last = part[-1][0]
                for name in exits:
                    kept = self.select(
                        f"SELECT row FROM {table} WHERE exit = ? AND image > ? AND image <= ? "
                        "ORDER BY image",
                        name,
                        behind,
                        last,
                    )
                    if len(kept) != len(part):
                        raise UserError(f"{self.path} is damaged: exit {name} lacks embeddings")
                    data = np.frombuffer(b"".join(row for (row,) in kept), "<f4")
                    found[name].append(data.reshape(len(kept), -1))
            images += part
            behind = last
        none = np.empty((0, 0), np.float32)
        every = {name: np.concatenate(f) if f else none for name, f in found.items()}
        ids, pids, camids = zip(*images, strict=True) if images else ((), (), ())
        return numbered(ids, pids, camids, every)

    def close(self) -> None:
        with self.lock:
            self._database.close()

    def select(self, query: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        """The rows of a query.

        Raises:
            LockedError: another process holds the file.
        """
        with self.lock:
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if is_locked(error):
                    raise locked_error(self.path) from error
                raise

    def change(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Run a statement, in a transaction."""
        return self._database.execute(statement, values)

    def insert(self, statement: str, *values: object) -> int:
        """The id of the row that a statement inserts, in a transaction."""
        return int(self.change(statement, *values).lastrowid or 0)

    def insert_all(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Insert rows, in a transaction."""
        self._database.executemany(statement, rows)

    def empty_log(self) -> None:
        """Write the log of changes to the file and empty it, since it has deleted rows, too.

        If another process reads the file meanwhile, or the disk is full, this is done behind the
        next changes, or by `close`.
        """
        try:
            ((busy, *_),) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError:
            busy = True
        self._log_has_deleted = bool(busy)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes of the block are on disk when it ends, or none.

        Raises:
            LockedError: another process holds the file.
            UnwritableError: the disk is full, or the file cannot be written to.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            raise trouble(self.path, error) or unwritable_error(self.path, error) from error
        except BaseException:
            self._roll_back()
            raise
        if self._log_has_deleted:
            self._database.execute("PRAGMA busy_timeout=0")
            self.empty_log()
            self._database.execute(f"PRAGMA busy_timeout={WAIT_SECONDS * 1_000:.0f}")

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _create(self, manifest: Manifest, metric: str, exits: Sequence[str]) -> None:
        facts = {
            "format": FORMAT,
            "fingerprint": manifest.fingerprint,
            "metric": metric,
            "exits": "\n".join(exits),
        }
        with self.transaction():  # a kill leaves all of it, or nothing
            for table in TABLES:
                self.change(table)
            self.insert_all("INSERT INTO fact (name, value) VALUES (?, ?)", facts.items())


def is_locked(error: sqlite3.Error) -> bool:
    """Whether another process holds the file. (`sqlite_errorcode` is new in Python 3.11.)"""
    return "locked" in str(error) or "locking protocol" in str(error)


def trouble(path: Path, error: sqlite3.Error) -> UserError | None:
    """The error of a file of people that is held or cannot be written to; None: another one."""
    if is_locked(error):
        return locked_error(path)
    if any(part in str(error) for part in ("full", "readonly", "I/O")):
        return unwritable_error(path, error)
    return None


def locked_error(path: Path) -> LockedError:
    return LockedError(
        f"another process holds {path}, nothing was changed: try again, or end what else has the "
        "file open, such as a backup, a transaction of the sqlite3 shell, or a tool that shows it"
    )


def unwritable_error(path: Path, error: sqlite3.Error) -> UnwritableError:
    fix = "free space on that disk"
    if "readonly" in str(error):
        fix = "make the file and its folder writable for the service"
    return UnwritableError(
        f"{path} cannot be written to ({error}), nothing was changed: {fix}, then try again"
    )
