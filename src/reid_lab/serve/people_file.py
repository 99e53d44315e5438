"""The SQLite file of the people that a service knows.

What is written is on the disk when a transaction ends, and what is deleted is overwritten there
(SQLite's `secure_delete`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reid_lab.errors import UserError
from reid_lab.runtime.manifest import Manifest

FORMAT = "1"
TABLES = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE image (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pid TEXT NOT NULL, camid TEXT NOT NULL,
    path TEXT NOT NULL, added REAL NOT NULL, thumbnail BLOB
);
CREATE INDEX image_pid ON image (pid);
CREATE TABLE embedding (
    image INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    exit TEXT NOT NULL, row BLOB NOT NULL, PRIMARY KEY (image, exit)
) WITHOUT ROWID;
CREATE TABLE label (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pid TEXT NOT NULL, correct INTEGER NOT NULL,
    exit TEXT NOT NULL, distance REAL NOT NULL, added REAL NOT NULL, image BLOB NOT NULL
);
CREATE TABLE removed (path BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class PeopleFile:
    """Tables in a file. Safe for several threads.

    Args:
        path: of the file; it is made if there is none.
        manifest: of the exported network.
        metric: of a new file.
        exits: of a new file.

    Attributes:
        metric: euclidean or cosine.
        exits: whose embeddings are kept, cheapest first.
        lock: held by who changes the file and what was read of it.

    Raises:
        UserError: another file, or people of another network.
    """

    def __init__(self, path: Path, manifest: Manifest, metric: str, exits: Sequence[str]) -> None:
        self.path, self.lock, new = path, threading.RLock(), not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(
            path, check_same_thread=False, isolation_level=None, timeout=10
        )
        try:
            for setting in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._database.execute(f"PRAGMA {setting}")
            self._database.execute("PRAGMA foreign_keys=ON")
            if new:
                self._create(manifest, metric, exits)
            facts: dict[str, str] = dict(self._database.execute("SELECT name, value FROM fact"))
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise UserError(
                f"{path} is not a file of people ({error}): give another --people"
            ) from error
        _check_facts(path, facts, manifest)
        self.metric = facts["metric"]
        self.exits = tuple(facts["exits"].split("\n"))

    def close(self) -> None:
        with self.lock:
            self._database.close()

    def select(self, query: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        """The rows of a query."""
        with self.lock:
            return self._database.execute(query, values).fetchall()

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
        """Write the log of changes to the file, and nothing is in it: it has deleted rows, too."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's changes are on the disk behind it, or none.

        Raises:
            UserError: the disk is full, or the file is in use by another process.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            raise UserError(f"{self.path} cannot be written to: {error}") from error
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _create(self, manifest: Manifest, metric: str, exits: Sequence[str]) -> None:
        self._database.executescript(TABLES)
        facts = {
            "format": FORMAT,
            "fingerprint": manifest.fingerprint,
            "metric": metric,
            "exits": "\n".join(exits),
        }
        self._database.executemany("INSERT INTO fact (name, value) VALUES (?, ?)", facts.items())


def _check_facts(path: Path, facts: Mapping[str, str], manifest: Manifest) -> None:
    """Raises:
    UserError: a file of a newer version, or people of another network.
    """
    if facts.get("format") != FORMAT:
        raise UserError(f"{path} has the format {facts.get('format')}, this version reads {FORMAT}")
    if facts["fingerprint"] != manifest.fingerprint:
        raise UserError(
            f"{path} holds people of the model {facts['fingerprint'][:12]}, this export is "
            f"{manifest.fingerprint[:12]}: embeddings of two models cannot be compared. Use the "
            "export that they belong to, or give another --people"
        )
