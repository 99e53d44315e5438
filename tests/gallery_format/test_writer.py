"""What a gallery's writer flushes to the disk, and when; ids of unknown people and cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid_lab.cli.show.gallery_content import info
from reid_lab.gallery_format.card import CARD, PEOPLE, Card, GalleryError
from reid_lab.gallery_format.rows import UNKNOWN, GalleryRows, unknown_apart
from reid_lab.gallery_format.writer import RowWriter, put

Disk = list[tuple[str, int, int]]


@pytest.fixture
def writer(tmp_path: Path) -> RowWriter[GalleryRows]:
    Card("a" * 64, dim=2).write(tmp_path)
    return RowWriter(GalleryRows.open_rows(tmp_path))


def append(writer: RowWriter[GalleryRows], *paths: str) -> None:
    rows = np.ones((len(paths), 2), np.float32)
    names = ["ann"] * len(paths)
    writer.append_named(rows, paths, names, names, {"site": names})


def check_order(folder: Path, disk: Disk) -> None:
    """Every data file is flushed whole before the card is renamed, and the folder behind that."""
    card = (folder / CARD).stat().st_ino
    assert disk[-3:-1] == [(what, card, disk[-2][2]) for what in ("file", "rename")]
    assert disk[-1] == ("folder", folder.stat().st_ino, 0)
    data = [path for path in folder.iterdir() if path.suffix in (".bin", ".jsonl", ".json")]
    assert len(data) == 6
    for path in data:
        assert ("file", path.stat().st_ino, path.stat().st_size) in disk[:-2], path
    for place, (what, inode, size) in enumerate(disk):
        if what == "rename":
            assert disk[place - 1] == ("file", inode, size)
            assert disk[place + 1][0] == "folder"


def test_rows_are_on_the_disk_before_the_card_counts_them(
    writer: RowWriter[GalleryRows], disk: Disk
) -> None:
    append(writer, "1.jpg")
    check_order(writer.folder, disk)
    disk.clear()
    writer.append_named(np.ones((1, 2)), ["2.jpg"], ["bob"], ["bob"], {"site": ["x"]})
    check_order(writer.folder, disk)


def test_the_rows_that_remain_are_on_the_disk_before_the_card_names_them(
    writer: RowWriter[GalleryRows], disk: Disk
) -> None:
    append(writer, "1.jpg", "2.jpg")
    disk.clear()
    writer.remove(np.array([True, False]))
    check_order(writer.folder, disk)


def test_a_part_of_a_file_is_flushed_after_it_is_written(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "rows.bin"
    put(path, 0, b"abcdef")
    put(path, 3, b"xy")
    inode = path.stat().st_ino
    assert disk == [("file", inode, 6), ("file", inode, 5)] and path.read_bytes() == b"abcxy"


def test_unknown_ids_are_all_different() -> None:
    numbers = np.array([3, UNKNOWN, -1, UNKNOWN, 0])
    found = unknown_apart(numbers)
    assert found.tolist() == [3, -11, -1, -13, 0]
    assert unknown_apart(numbers, 5)[[1, 3]].tolist() == [-16, -18]


def add(writer: RowWriter[GalleryRows], **people: str) -> None:
    cameras = ["01"] * len(people)
    writer.append_named(np.ones((len(people), 2)), [*people], [*people.values()], cameras)


def test_people_keep_the_first_spelling_of_their_number(writer: RowWriter[GalleryRows]) -> None:
    add(writer, a="0001", b="1", c="7", d="ann")
    add(writer, e="01", f="007", g="0020", h="-1")
    expected = ["0001", "0001", "7", "ann", "0001", "7", "0020", "-1"]
    for gallery in (writer.gallery, GalleryRows.open_rows(writer.folder)):
        assert gallery.names_of("pid") == expected
        assert gallery.names_of("camid") == ["1"] * 8  # also a person's number
        assert gallery.name(1) == "0001" and gallery.name(1, "camid") == "1"
        assert gallery.select("pid=1").tolist() == gallery.select("pid=0001").tolist()
        assert gallery.select("pid=20").sum() == 1
    writer.remove(writer.gallery.select("pid=1"))
    again = GalleryRows.open_rows(writer.folder)
    assert again.names_of("pid") == ["7", "ann", "7", "0020", "-1"]
    add(RowWriter(again), i="1")
    assert GalleryRows.open_rows(writer.folder).names_of("pid")[-1] == "1"


@pytest.mark.parametrize("content", ['{"5": "007"}', '{"7": "7"}', '{"7": 7}', "[]", "{"])
def test_edited_spellings_are_refused(writer: RowWriter[GalleryRows], content: str) -> None:
    add(writer, a="0001")
    (writer.folder / PEOPLE).write_text(content)
    with pytest.raises(GalleryError, match="people.json"):
        GalleryRows.open_rows(writer.folder)


def test_a_gallery_of_before_has_numbers(writer: RowWriter[GalleryRows]) -> None:
    add(writer, a="0001")
    (writer.folder / PEOPLE).unlink()
    assert GalleryRows.open_rows(writer.folder).names_of("pid") == ["1"]
    add(RowWriter(GalleryRows.open_rows(writer.folder)), b="0001")
    assert GalleryRows.open_rows(writer.folder).names_of("pid") == ["1", "1"]


def test_info_counts_each_image_once(
    writer: RowWriter[GalleryRows], capsys: pytest.CaptureFixture[str]
) -> None:
    add(writer, a="1", b="1", c="ann", d="0", e="-1", f="")
    info(GalleryRows.open_rows(writer.folder))
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 known in " in printed
    assert "1 images of unknown people, 2 of distractors or junk" in printed
