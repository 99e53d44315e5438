"""Results of a search as a file: JSON lines, CSV or Parquet, by its extension."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_lab.errors import UserError, with_options
from reid_lab.files.atomic import replacing, valid_text, write_text
from reid_lab.files.outputs import check_writable
from reid_lab.gallery.results import GalleryMatch, SearchResult
from reid_lab.gallery.store import SavedGallery
from reid_lab.optional import load

ENDINGS = (".jsonl", ".csv", ".parquet", ".html")


def check_out(path: Path, endings: Sequence[str] = ENDINGS) -> None:
    """Check that a file of this name can be written, before any work.

    Raises:
        UserError: another extension, a folder, or one that cannot be written to.
        MissingPackageError: it is Parquet, and pyarrow is not installed.
    """
    if path.suffix.lower() not in endings:
        text = f"{path}: the name must end in {', '.join(endings)}"
        raise with_options(UserError(text), f"--out {text}")
    if path.is_dir():
        text = f"{path} is a folder: give the name of a file"
        raise with_options(UserError(text), f"--out {text}")
    check_writable(path)
    if path.suffix.lower() == ".parquet":
        load("pyarrow", "writing .parquet")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys: JSON lines, CSV or Parquet by the extension."""
    ending = path.suffix.lower()
    if ending == ".jsonl":
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif ending == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, text.getvalue())
    else:
        pa = load("pyarrow", "writing .parquet")
        with replacing(path) as beside:
            load("pyarrow.parquet", "writing .parquet").write_table(
                pa.Table.from_pylist([_valid(row) for row in rows]), beside
            )


def _valid(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: valid_text(v) if isinstance(v, str) else v for key, v in row.items()}


def match_rows(gallery: SavedGallery, results: Sequence[SearchResult]) -> list[dict[str, Any]]:
    """One row per match; the names of metadata columns begin with `gallery_`."""
    return [
        {
            **_query(result),
            **_verdict(result),
            **_match(rank, match),
            **{f"gallery_{c}": match.image.values.get(c, "") for c in gallery.card.columns},
        }
        for result in results
        for rank, match in enumerate(result.matches, 1)
    ]


def query_objects(results: Sequence[SearchResult]) -> list[dict[str, Any]]:
    """One object per query, with a list of its matches."""
    return [
        {
            **_query(result),
            **_verdict(result),
            "matches": [
                {**_match(rank, match), "values": dict(match.image.values)}
                for rank, match in enumerate(result.matches, 1)
            ],
        }
        for result in results
    ]


def _query(result: SearchResult) -> dict[str, Any]:
    image, spread = result.image, result.spread
    return {
        "query": str(image.path),
        "box": " ".join(map(str, image.box)) if image.box else "",
        "tracklet": image.tracklet if spread else "",
        "images": spread.images if spread else 1,
        "spread": spread.distance if spread else 0.0,
        "query_pid": image.person,
        "query_camid": image.camera,
    }


def _match(rank: int, match: GalleryMatch) -> dict[str, Any]:
    return {
        "rank": rank,
        "distance": match.distance,
        "pid": match.image.person,
        "camid": match.image.camera,
        "path": str(match.image.path),
        "right": match.right,
    }


def _verdict(result: SearchResult) -> dict[str, Any]:
    """The fields of a verdict; empty without one."""
    verdict = result.verdict
    if verdict is None:
        return {}
    return {
        "verdict": verdict.verdict,
        "verdict_pids": " | ".join(person.person for person in verdict.people),
        "false_accept_rate": verdict.false_accept_rate,
        "kind": verdict.kind,
        "threshold": verdict.threshold,
    }
