"""Tables of the content of a gallery, without torch."""

from __future__ import annotations

import numpy as np
from rich.table import Table
from rich.text import Text

from reid_lab.errors import first
from reid_lab.files.regular import escaped
from reid_lab.gallery.texts import images, memory, name
from reid_lab.gallery_format.rows import NAMED, UNKNOWN, GalleryRows
from reid_lab.output.console import fold, head_table, stdout

LISTED = 10  # people, or images, that are named


def info(gallery: GalleryRows) -> None:
    """Content and origin of a gallery."""
    card = gallery.card
    people, cameras = gallery.numbers["pid"], gallery.numbers["camid"]
    files = [path for path in gallery.folder.iterdir() if path.is_file()]
    known, seen = len(np.unique(people[people > 0])), len(np.unique(cameras[cameras != UNKNOWN]))
    unknown = int((people == UNKNOWN).sum())
    others = len(people) - int((people > 0).sum()) - unknown
    rest = f", {others:,} of distractors or junk" if others else ""
    rows = {
        "images": f"{len(gallery):,}",
        "people": f"{known:,} known in {seen:,} cameras, {unknown:,} images of unknown people"
        + rest,
        "embeddings": f"{card.dim} x {card.dtype}, {card.metric}",
        "exit": card.exit + ", for queries of every exit" * card.shared,
        "model": f"{card.fingerprint[:12]}, images of {card.image[0]}x{card.image[1]}",
        "index": card.index + (f", learned from {card.trained:,} images" if card.trained else ""),
        "thresholds": "; ".join(
            f"{c.kind}, {c.source}: {', '.join(f'{t.false_accept_rate:g}' for t in c.thresholds)}"
            for c in card.accept_thresholds
        )
        or "none",
        "metadata": ", ".join(map(escaped, card.columns)) or "none",
        "on disk": memory(sum(path.stat().st_size for path in files)),
        "pattern": card.pattern
        or ("none: metadata names people" if known else "none: people are unknown"),
    }
    table = Table(box=None, show_header=False)
    for key, text in rows.items():
        table.add_row(Text(key, "dim"), Text(text, overflow="fold"))
    titled(str(gallery.folder), table)


def people(gallery: GalleryRows, rows: np.ndarray) -> None:
    """The people of given rows, with numbers of images, cameras and metadata."""
    numbers = gallery.numbers["pid"][rows]
    table = head_table("Person", "Images", "Cameras")
    fold(table, 0, 2)

    def order(pid: int) -> tuple[str, int]:  # numbers, then names
        return (gallery.name(pid) if pid >= NAMED else "", pid)

    for pid in sorted(np.unique(numbers).tolist(), key=order):
        theirs = gallery.numbers["camid"][rows[numbers == pid]]
        cameras = [name(gallery.name(camid, "camid")) for camid in np.unique(theirs).tolist()]
        who = name(gallery.name(pid))
        table.add_row(Text(who), f"{len(theirs):,}", Text(", ".join(cameras)))
    titled(f"{gallery.folder}: {images(len(rows))}", table)


def removed(gallery: GalleryRows, rows: np.ndarray, dry_run: bool) -> None:
    """One line, and with `dry_run` the images that would be removed."""
    which = np.flatnonzero(rows).tolist()
    people = sorted({gallery.name(pid) for pid in gallery.numbers["pid"][which].tolist()})
    who = ", ".join(first([*map(name, people)], LISTED))
    count = f"{images(len(which))} (person {who})"
    left = len(gallery) - len(which)
    if dry_run:
        for row in which:
            stdout.print(Text(escaped(gallery.path(row))), soft_wrap=True)
        text = f"would remove {count}; {images(left)} would be left. Nothing was removed"
    else:
        text = f"{count} removed; {images(left)} now. Image files outside of the gallery stay"
        if any(one.own for one in gallery.card.accept_thresholds):
            text += ". The thresholds were fitted with them: calibrate again"
    stdout.print(Text(f"{gallery.folder}: {text}"), soft_wrap=True)


def titled(title: str, table: Table) -> None:
    """Print the title separately, since a table's title breaks at the table's width."""
    stdout.print(Text(title, "bold"), soft_wrap=True)
    stdout.print(table)
