"""Embeddings of a new network in the file of people, beside the current ones.

They are in a separate table, so that the old network answers until it is complete; the tables are
then renamed in one transaction. Removing a person removes it from both. A killed upgrade leaves the
table, and the next one with the same network continues it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reid_lab.serve.people_file import EMBEDDING, PeopleFile

NEXT, OLD = "next_embedding", "old_embedding"
PART = 1_000  # rows that are deleted at a time


class Staging:
    """The table of new embeddings in a file.

    Args:
        file: the file of people.
        fingerprint: fingerprint of the new network.
        exits: exits whose embeddings are kept, cheapest first.
    """

    def __init__(self, file: PeopleFile, fingerprint: str, exits: Sequence[str]) -> None:
        self._file, self._exits = file, tuple(exits)
        facts = {"next_fingerprint": fingerprint, "next_exits": "\n".join(exits)}
        there = dict(file.select("SELECT name, value FROM fact WHERE name LIKE 'next_%'"))
        drop_replaced(file)
        if there == facts:
            return
        with file.lock, file.transaction():
            file.change(f"DROP TABLE IF EXISTS {NEXT}")
            file.change(f"CREATE TABLE {NEXT} {EMBEDDING}")
            for fact in facts.items():
                file.change("INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", *fact)

    def pending(self, behind: int, most: int) -> list[tuple[int, str, bytes]]:
        """(id, path, thumbnail) of images without new embeddings, with ids larger than `behind`.

        Ids grow: later images have larger ones.
        """
        return self._file.select(
            f"SELECT id, path, thumbnail FROM image WHERE id > ? AND NOT EXISTS "
            f"(SELECT 1 FROM {NEXT} WHERE {NEXT}.image = image.id) ORDER BY id LIMIT ?",
            behind,
            most,
        )

    def put(self, ids: Sequence[int], rows: Mapping[str, np.ndarray]) -> None:
        """Store new embeddings, exit -> (n, D), of the images that were not removed meanwhile."""
        with self._file.lock, self._file.transaction():
            self._file.insert_all(
                f"INSERT INTO {NEXT} (image, exit, row) "
                "SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM image WHERE id = ?1)",
                (
                    (image, name, row.astype("<f4").tobytes())
                    for name in self._exits
                    for image, row in zip(ids, rows[name], strict=True)
                ),
            )

    def count(self) -> tuple[int, int]:
        """The number of images with new embeddings, and of all."""
        ((done, every),) = self._file.select(
            f"SELECT (SELECT COUNT(*) FROM {NEXT} WHERE exit = ?), (SELECT COUNT(*) FROM image)",
            self._exits[-1],
        )
        return done, every

    def put_in_force(self) -> None:
        """Make the new embeddings the current ones in one transaction.

        Call `drop_replaced` afterwards.

        The caller holds the file's lock, and every image has a new embedding.
        """
        file = self._file
        with file.transaction():
            file.change(f"ALTER TABLE embedding RENAME TO {OLD}")
            file.change(f"ALTER TABLE {NEXT} RENAME TO embedding")
            for name in ("fingerprint", "exits"):
                file.change("DELETE FROM fact WHERE name = ?", name)
                new = f"next_{name}"
                file.change("UPDATE fact SET name = ? WHERE name = ?", name, new)


def drop_replaced(file: PeopleFile) -> None:
    """Overwrite replaced embeddings, in parts, so that others can use the file."""
    if not file.select("SELECT 1 FROM sqlite_master WHERE name = ?", OLD):
        return
    left = True
    while left:
        with file.lock, file.transaction():
            some = f"SELECT DISTINCT image FROM {OLD} LIMIT {PART}"
            left = file.change(f"DELETE FROM {OLD} WHERE image IN ({some})").rowcount > 0
    with file.lock, file.transaction():
        file.change(f"DROP TABLE {OLD}")
    with file.lock:
        file.empty_log()
