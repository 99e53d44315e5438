"""The doctor: each finding where there is cause and not where there is none; then the command."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_lab.dataset import Benchmark, Split
from reid_lab.doctor import checks, examine, images
from reid_lab.doctor.findings import Finding, named
from reid_lab.doctor.hashes import difference_hash, thumbnail, within
from reid_lab.doctor.scan import ImageStats, scan
from reid_lab.doctor.sheet import CELL, NOTHING, sheet
from reid_lab.images.pixels import ImageError
from reid_lab.output.console import stderr, stdout
from tests.commands import doctor as main
from tests.conftest import write_jpegs

ROOT = Path("/data")
Labels = tuple[int, int]  # pid, camid
TRAIN = [(1, 1), (1, 2), (2, 1), (2, 2)]
QUERY, GALLERY = [(3, 1), (4, 2)], [(3, 2), (4, 1)]


def split(*labels: Labels, part: str = "x") -> Split:
    return Split.of(ROOT, [(f"{part}{i}.jpg", *row, 0) for i, row in enumerate(labels)])


def levels(found: list[Finding]) -> list[str]:
    return [finding.level for finding in found]


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    assert found[0].fix
    return found[0]


def test_good_labels_have_no_findings() -> None:
    b = Benchmark("good", split(*TRAIN), split(*QUERY), split(*GALLERY))
    assert checks.check_labels(b, k=2) == []


def test_one_camera() -> None:
    train, query, gallery = split(*TRAIN), split(*QUERY), split(*GALLERY)
    assert checks.single_cameras(train, query, gallery) == []
    one = split((3, 7), (4, 7))
    assert (
        "query and gallery images are from camera 7"
        in only(checks.single_cameras(train, one, one)).what
    )
    single = split((1, 5), (2, 5))
    assert (
        "training images are from camera 5"
        in only(checks.single_cameras(single, query, gallery)).what
    )


def test_people_in_train_and_test() -> None:
    train, gallery = split(*TRAIN), split(*GALLERY)
    assert checks.people_in_both(train, split(*QUERY), gallery) == []
    found = only(checks.people_in_both(train, split((2, 1)), split((1, 2), (0, 1), (-1, 1))))
    assert (
        found.level == "warning" and "2 identities are in both train and test: 1, 2" in found.what
    )


def test_nobody_where_people_belong() -> None:
    assert checks.unused_pids(split(*TRAIN), split(*QUERY)) == []
    assert (
        "train: 2 images have pid -1, 0"
        in only(checks.unused_pids(split(*TRAIN, (0, 1), (-1, 1)), split(*QUERY))).what
    )
    assert "query: 1 images" in only(checks.unused_pids(split(*TRAIN), split((0, 1)))).what


def test_rare_people() -> None:
    assert checks.few_images(split(*TRAIN), k=2) == []
    once = only(checks.few_images(split(*TRAIN, (9, 1)), k=2))
    assert once.level == "warning" and "1 of 3 training identities have one image: 9" in once.what
    few = only(checks.few_images(split(*TRAIN), k=4))
    assert few.level == "note" and "2 of 2 training identities have fewer than K=4" in few.what


def test_people_seen_by_one_camera() -> None:
    assert checks.single_camera_people(split(*TRAIN)) == []
    assert (
        checks.single_camera_people(split((1, 1), (2, 1))) == []
    )  # nobody could be seen by another
    assert only(checks.single_camera_people(split(*TRAIN, (9, 1)))).level == "note"
    assert only(checks.single_camera_people(split((1, 1), (2, 2)))).level == "warning"


def test_queries_without_a_match() -> None:
    query, gallery = split(*QUERY), split(*GALLERY)
    assert checks.queries_without_match(query, gallery, "same_person_and_camera") == []
    lonely = split(*QUERY, (5, 1))
    same = split(*GALLERY, (5, 1))
    found = only(checks.queries_without_match(lonely, same, "same_person_and_camera"))
    assert "1 of 3 queries" in found.what and "from another camera, 1 people: 5" in found.what
    assert checks.queries_without_match(lonely, same, "nothing") == []
    assert (
        "person, 1 people: 5" in only(checks.queries_without_match(lonely, gallery, "nothing")).what
    )


def test_people_nobody_asks_for() -> None:
    assert checks.people_without_query(split(*QUERY), split(*GALLERY, (0, 1), (-1, 1))) == []
    assert (
        "1 people are in the gallery only: 8"
        in only(checks.people_without_query(split(*QUERY), split(*GALLERY, (8, 1)))).what
    )


def test_gaps() -> None:
    assert checks.unused_numbers("pids", np.array([4, 2, 3, 2])) == []
    found = only(checks.unused_numbers("pids", np.array([1, 2, 5, 9])))
    assert found.level == "note"
    assert "pids go from 1 to 9, 5 of them unused: 3, 6" in found.what


def test_five_are_named() -> None:
    assert named(range(5)) == "0, 1, 2, 3, 4"
    assert named(range(6)) == "0, 1, 2, 3, 4, ..."


# images


def random_image(seed: int, height: int = 128, width: int = 64) -> np.ndarray:
    """Blobs, as no two images share."""
    cells = np.random.default_rng(seed).integers(0, 256, (8, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC))


def recoded(pixels: np.ndarray, quality: int) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "jpeg", quality=quality)
    return np.asarray(Image.open(data))


def shrunk(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((32, 64)))


def cropped(pixels: np.ndarray) -> np.ndarray:
    return pixels[2:-1, 1:-1]


def part(tmp_path: Path, name: str, *shown: tuple[np.ndarray, Labels]) -> tuple[Split, ImageStats]:
    """Images with (pid, camid), as files, and their stats."""
    rows = []
    for i, (pixels, (pid, camid)) in enumerate(shown):
        Image.fromarray(pixels).save(tmp_path / f"{name}{i}.png")
        rows.append((f"{name}{i}.png", pid, camid, 0))
    made = Split.of(tmp_path, rows)
    return made, scan(made)


@pytest.mark.parametrize(
    "change",
    [np.copy, lambda x: recoded(x, 30), shrunk, cropped],
    ids=["same", "q30", "half", "cut"],
)
def test_near_duplicates_are_found(change: Callable[[np.ndarray], np.ndarray]) -> None:
    thumbs = np.stack([thumbnail(random_image(seed)) for seed in range(300)])
    changed = np.stack([thumbnail(change(random_image(seed))) for seed in range(20)])
    i, j = within(difference_hash(changed), difference_hash(thumbs), images.BITS)
    near = np.abs(changed[i].astype(int) - thumbs[j]).mean((1, 2)) <= images.GREY_LEVELS
    assert i[near].tolist() == j[near].tolist() == list(range(20))


def test_hash_is_whether_it_gets_brighter() -> None:
    ramp = np.broadcast_to(np.arange(36, dtype=np.uint8), (32, 36))
    hashes = difference_hash(np.stack([ramp, ramp[:, ::-1]]))
    assert hashes.tolist() == [[255] * 8, [0] * 8]
    i, j = within(hashes, hashes, 63)
    assert i.tolist() == j.tolist() == [0, 1]
    assert len(within(hashes, hashes, 64)[0]) == 4
    assert len(within(hashes[:0], hashes, 64)[0]) == 0


def test_scan_names_what_is_broken_and_reads_boxes(tmp_path: Path) -> None:
    write_jpegs(tmp_path, ["frame.jpg", "cut.jpg", "copy.jpg"], (40, 20))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "frame.jpg").read_bytes()[:700])
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "frame.jpg").read_bytes())
    names = ["frame.jpg", "cut.jpg", "frame.jpg", "frame.jpg", "copy.jpg", "gone.jpg"]
    boxes = [[0, 0, 10, 40], [0, 0, 5, 5], [15, 30, 25, 40], [20, 0, 30, 10], [0, 0, 10, 40]]
    made = Split.of(tmp_path, [(name, 1, 1, 0) for name in names])
    made = replace(made, boxes=np.array([*boxes, [0, 0, 1, 1]], np.int32))
    counts: list[int] = []
    stats = scan(made, counts.append)
    assert stats.good.tolist() == [True, False, True, False, True, False]
    assert stats.sizes.tolist() == [[10, 40], [0, 0], [5, 10], [0, 0], [10, 40], [0, 0]]
    assert stats.clipped.tolist() == [False, False, True, False, False, False]
    assert stats.digests[0] == stats.digests[4] != stats.digests[2]
    assert sum(counts) == len(names)
    found = only(images.broken([stats]))
    assert found.level == "error" and "broken images: 3" in found.what
    assert "box 20 0 30 10 (left top right bottom) is outside of the image, 20 x 40" in found.what
    assert "cut.jpg" in found.what and "gone.jpg" in found.what
    assert "frame.jpg" in only(images.clipped({"train": (made, stats)})).what
    fine = scan(made.take(np.array([0])))
    assert images.broken([fine]) == []
    assert images.clipped({"train": (made.take(np.array([0])), fine)}) == []


def test_sizes_and_uniform_images(tmp_path: Path) -> None:
    usual = [(random_image(seed), (1, 1)) for seed in range(5)]
    fine = {"train": part(tmp_path, "fine", *usual)}
    assert images.sizes(fine) == images.uniform(fine) == []
    odd = [
        random_image(6, 24, 12),
        random_image(7, 64, 128),
        random_image(8, 1024, 512),
        random_image(9, 32, 16),
    ]
    found = images.sizes({"train": part(tmp_path, "odd", *usual, *((x, (1, 1)) for x in odd))})
    assert levels(found) == ["warning", "warning", "note"]
    assert "smaller than 32 pixels: 1 of 9 images, odd5.png" in found[0].what
    assert "wider than high: 1 of 9 images, odd6.png" in found[1].what
    assert "(128 pixels): 1 of 9 images, odd7.png" in found[2].what  # a fourth is no less
    grey = np.full((64, 32, 3), 127, np.uint8)
    flat = {"train": part(tmp_path, "flat", *usual, (grey, (1, 1)), (grey, (2, 1)))}
    assert "flat5.png, flat6.png" in only(images.uniform(flat)).what
    assert images.conflicts(flat) == images.copies(flat) == []  # told once is enough


@pytest.mark.parametrize(
    ("labels", "hidden", "found"),
    [
        ((1, 1), "same_person_and_camera", 0),  # hidden from the query, and alike by nature
        ((1, 2), "same_person_and_camera", 1),
        ((2, 1), "same_person_and_camera", 1),
        ((0, 1), "same_person_and_camera", 1),
        ((-1, 2), "same_person_and_camera", 0),  # never ranked
        ((2, 1), "same_camera", 0),
        ((2, 2), "same_camera", 1),
        ((1, 1), "nothing", 0),
        ((2, 1), "nothing", 1),
    ],
)
def test_queries_shown_their_own_image(
    tmp_path: Path, labels: Labels, hidden: str, found: int
) -> None:
    query = part(tmp_path, "q", (random_image(1), (1, 1)), (random_image(2), (3, 1)))
    gallery = part(tmp_path, "g", (recoded(random_image(1), 50), labels), (random_image(3), (3, 2)))
    findings = images.shown_twice(*query, *gallery, hidden)  # type: ignore[arg-type]
    assert len(findings) == found
    if found:
        assert (
            "1 pairs of near-duplicates, 0 of them equal in every pixel:\nq0.png, g0.png"
            in only(findings).what
        )


def test_images_that_were_trained_on(tmp_path: Path) -> None:
    parts = {
        "train": part(tmp_path, "t", (random_image(1), (1, 1)), (random_image(2), (2, 1))),
        "query": part(tmp_path, "q", (random_image(2), (3, 1))),
        "gallery": part(tmp_path, "g", (random_image(4), (3, 2))),
    }
    found = only(images.leaks(parts))
    assert (
        "train and query: 1 pairs of near-duplicates, 1 of them equal in every pixel" in found.what
    )
    assert "t1.png, q0.png" in found.what
    parts["query"] = part(tmp_path, "other", (random_image(5), (3, 1)))
    assert images.leaks(parts) == []


def test_the_same_image_of_two_people_and_of_one(tmp_path: Path) -> None:
    def made(name: str, *labels: Labels) -> images.Parts:
        return {"train": part(tmp_path, name, *((random_image(1), row) for row in labels))}

    two = made("two", (1, 1), (2, 1))
    assert "two0.png (pid 1), two1.png (pid 2)" in only(images.conflicts(two)).what
    assert images.copies(two) == []
    again = made("again", (1, 1), (1, 2))
    assert images.conflicts(again) == []
    assert only(images.copies(again)).level == "note"
    assert images.conflicts(made("junk", (1, 1), (-1, 1))) == []


# the sheet


def test_sheet_has_a_row_a_person_and_a_column_a_camera(tmp_path: Path) -> None:
    train, _ = part(tmp_path, "t", (random_image(1), (1, 1)), (random_image(2, 64, 64), (1, 3)))
    query, _ = part(tmp_path, "q", (random_image(3), (12, 1)))
    (tmp_path / "q0.png").write_text("broken")
    b = Benchmark("b", train, query, query.take(np.array([], int)))
    page = sheet(b, people=8)
    edge = page.width - 2 * (CELL[0] + 10) - 10
    cells = np.asarray(page)[40:, edge:]
    first, second = cells[:192, :96], cells[:192, 106:202]
    below, nowhere = cells[202:394, :96], cells[202:394, 106:202]
    assert first.std() > 20
    assert (second[:40] == 255).all() and second[60:130].std() > 20  # fitted, in the middle
    empty = tuple(int(NOTHING[i : i + 2], 16) for i in (1, 3, 5))
    for cell in (below, nowhere):  # a broken image, and a camera that saw nobody
        assert (cell[10:-10, 10:-10] == empty).all()
    assert np.asarray(page)[40:, : edge - 10].min() < 100  # labels
    assert sheet(b, people=1).height < page.height
    assert sheet(b, 1, seed=3).tobytes() == sheet(b, 1, seed=3).tobytes()
    assert len({sheet(b, 1, seed=seed).tobytes() for seed in range(8)}) == 2


# the command


@pytest.fixture
def doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run the command; everything that it prints."""
    for console in (stdout, stderr):
        monkeypatch.setattr(console, "_width", 300)

    def call(*words: object, status: int) -> str:
        capsys.readouterr()
        returned = main([str(word) for word in words])
        printed = "".join(capsys.readouterr())
        assert returned == status, printed
        assert "Traceback" not in printed
        return printed

    return call


def mine(root: Path, people: int = 6) -> Path:
    """A CSV of people in two cameras, twice in each."""
    rows = [
        (f"{p}_{c}_{i}.png", f"p{p}", f"door-{c}")
        for p in range(people)
        for c in "xy"
        for i in "12"
    ]
    root.mkdir()
    for seed, (name, *_) in enumerate(rows):
        Image.fromarray(random_image(seed)).save(root / name)
    (root / "images.csv").write_text("path,pid,camid\n" + "".join(f"{','.join(r)}\n" for r in rows))
    return root


def test_a_good_data_set_passes(tmp_path: Path, doctor: Callable[..., str]) -> None:
    root, page = mine(tmp_path / "mine"), tmp_path / "sheet.png"
    small = ("dataset.p=3", "dataset.k=2")
    words = ("dataset=csv", f"dataset.root={root}", *small, "--sheet", page, "--people", 2)
    printed = doctor(*words, status=0)
    assert "1 note: training would work" in printed
    assert "split by train_share=0.5" in printed
    assert f"{page} shows images of the people" in printed
    with Image.open(page) as image:
        assert image.height == 40 + 2 * (CELL[1] + 10) + 10


def test_what_would_fail_is_an_error(tmp_path: Path, doctor: Callable[..., str]) -> None:
    root = mine(tmp_path / "mine")
    words = ("dataset=csv", f"dataset.root={root}", "dataset.k=2")
    assert "dataset.p=auto: training batches of 3 identities" in doctor(*words, status=0)
    printed = doctor(*words, "dataset.p=18", status=1)
    assert "dataset.p=18, but there are 3 training identities" in printed
    (root / "0_x_1.png").write_text("broken")
    assert "broken images: 1" in doctor(*words, "dataset.p=3", status=1)
    (root / "1_x_1.png").unlink()
    printed = doctor(*words, "dataset.p=3", status=1)
    assert "line 6: 1_x_1.png" in printed and "1 error: training would fail" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=csv"], "dataset.root"),
        (["dataset=cvs"], "did you mean dataset=csv?"),
        (["dataset=csv", "dataset.root=/x", "dataset.reader.fiel=a"], "dataset.reader.fiel"),
        (["dataset=csv", "dataset.root=/x", "dataset.p=none"], "dataset.p"),
        (["not an override"], "not an override"),
    ],
)
def test_wrong_commands(doctor: Callable[..., str], words: list[str], message: str) -> None:
    assert message in doctor(*words, status=2)


@pytest.mark.parametrize(
    "words", [["--sheet", "a.txt"], ["--sheet", "/no/where/a.png"], ["--people", "0"]]
)
def test_wrong_options(words: list[str]) -> None:
    assert main(words) == 2


def test_names_of_nobody() -> None:
    names = {1: "anna", 2: "nan", 3: "Unknown", 4: "none"}
    found = checks.placeholder_names("pid", names, np.array([1, 2, 2, 3]))
    assert [f.what for f in found] == [
        "pid 'nan' may mean unknown: 2 images",
        "pid 'Unknown' may mean unknown: 1 images",
    ]
    assert checks.placeholder_names("pid", {1: "anna"}, np.array([1])) == []


def test_people_and_cameras_are_named_as_the_data_does(
    tmp_path: Path, doctor: Callable[..., str]
) -> None:
    root = mine(tmp_path / "mine")
    with (root / "images.csv").open("a") as file:  # in the training half by the seed
        file.write("".join(f"{i}.png,Zoë {i},door-x\n" for i in range(8)))
    for i in range(8):
        Image.fromarray(random_image(100 + i)).save(root / f"{i}.png")
    words = ("dataset=csv", f"dataset.root={root}", "dataset.p=3", "dataset.k=2")
    printed = doctor(*words, status=0)
    assert "training identities have one image: Zoë" in printed
    page = tmp_path / "sheet.png"
    doctor(*words, "--sheet", page, status=0)
    assert page.is_file()


@pytest.mark.parametrize("box", ["-9 -9 0 0", "0 0 -1 5", "64 0 70 5", "0 128 5 200"])
def test_boxes_wholly_outside_are_errors(
    tmp_path: Path, doctor: Callable[..., str], box: str
) -> None:
    root = mine(tmp_path / "mine", people=2)
    lines = (root / "images.csv").read_text().splitlines()
    rows = [f"{line},{box}" for line in lines[1:]]
    (root / "images.csv").write_text("\n".join([f"{lines[0]},box", *rows]) + "\n")
    words = ("dataset=csv", f"dataset.root={root}", "dataset.p=2", "dataset.k=2")
    doctor(*words, status=1)


def test_nothing_to_find(tmp_path: Path, doctor: Callable[..., str]) -> None:
    """20 people, one image each, one camera: the gallery is empty."""
    root = tmp_path / "mine"
    write_jpegs(root, [f"{i}.jpg" for i in range(20)], (64, 32))
    rows = "".join(f"{i}.jpg,p{i},door\n" for i in range(20))
    (root / "images.csv").write_text(f"path,pid,camid\n{rows}")
    printed = doctor("dataset=csv", f"dataset.root={root}", "dataset.p=18", status=1)
    assert "no query has a gallery image of the same person" in printed
    assert "dataset.p=18" in printed and "from camera door" in printed


def test_what_only_training_checks_is_an_error(
    tmp_path: Path, doctor: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor asks training's own check, even where it can decode a file itself."""

    def refuse(path: Path) -> tuple[int, int]:
        raise ImageError(f"{path.name} is refused")

    root = mine(tmp_path / "mine")
    words = ("dataset=csv", f"dataset.root={root}", "dataset.p=3", "dataset.k=2")
    monkeypatch.setattr("reid_lab.dataset.images.read_size", refuse)
    assert "png is refused" in doctor(*words, status=1)


def test_scan_all_takes_multi_query_images(tmp_path: Path) -> None:
    made, _ = part(tmp_path, "x", (random_image(1), (1, 1)))
    b = Benchmark("b", made, made, made, multi_query=made)
    assert set(examine.scan_all(b)) == {"train", "query", "gallery", "multi_query"}


def test_a_copy_is_told_where_nothing_is_hidden(tmp_path: Path) -> None:
    query, gallery = (part(tmp_path, name, (random_image(1), (1, 1))) for name in "qg")
    assert (
        "1 of them equal in every pixel"
        in only(images.shown_twice(*query, *gallery, "nothing")).what
    )
    assert not images.shown_twice(*query, *gallery, "same_person_and_camera")


def test_a_camera_an_image_is_told() -> None:
    train = split(*((pid, 10 * pid + i) for pid in (1, 2) for i in range(3)))
    found = checks.single_cameras(train, split(*QUERY), split(*GALLERY))
    assert "8 cameras took 10 images" in only(found).what


def test_names_that_are_not_utf8(tmp_path: Path, doctor: Callable[..., str]) -> None:
    people = [os.fsdecode(name) for name in (b"Andr\xe9", b"Ren\xe9", b"anna", b"ben")]
    names = [f"{who}/c{c}_{i}.jpg" for who in people for c in "12" for i in "12"]
    root = write_jpegs(tmp_path, names)
    doctor("dataset=folders", f"dataset.root={root}", "dataset.p=2", "dataset.k=2", status=0)
