"""`reid-lab gallery`, from a checkpoint and a folder of images to a page."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.checkpoint import fingerprint, load_model, put_accept_thresholds
from reid_lab.cli import gallery as arguments
from reid_lab.config.build import build_model
from reid_lab.dataset.images import decode, resize
from reid_lab.dataset.transforms import normalise
from reid_lab.errors import UserError
from reid_lab.files.folders import replacing_folder
from reid_lab.gallery import build, calibrate, search_gallery
from reid_lab.gallery.embedder import Embedder, embedded
from reid_lab.gallery.images import label
from reid_lab.gallery.index import INDEX_NAMES
from reid_lab.gallery.network import network_of
from reid_lab.gallery.store import UNKNOWN, SavedGallery
from reid_lab.gallery.writer import Writer
from reid_lab.gallery_format.writer import RowWriter, locked
from reid_lab.images.files import find_images
from reid_lab.openset.thresholds import OWN, AcceptThreshold, AcceptThresholds
from reid_lab.output.console import stderr, stdout
from tests.commands import gallery as main
from tests.conftest import TINY, Compose, write_jpegs

Run = Callable[..., str]


@pytest.fixture
def checkpoint(tmp_path: Path, composed: Compose) -> Path:
    """A checkpoint of a tiny, untrained network."""
    return untrained(tmp_path / "tiny.ckpt", composed, seed=0)


def untrained(path: Path, composed: Compose, seed: int) -> Path:
    torch.manual_seed(seed)
    model = build_model(composed("model=dare", *TINY))
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, path)
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in `tmp_path`; everything that it prints."""
    monkeypatch.chdir(tmp_path)
    for console in (stdout, stderr):
        monkeypatch.setattr(console, "_width", 200)

    def call(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        returned = main([str(word) for word in words])
        printed = "".join(capsys.readouterr())
        assert returned == status, printed
        assert "Traceback" not in printed
        return printed

    return call


@pytest.fixture
def images(tmp_path: Path, people: Path) -> Path:
    """Eight images of two people in two cameras."""
    (tmp_path / "images" / "deep").mkdir(parents=True)
    found = sorted((people / "bounding_box_test").glob("0*.jpg"))
    for path in [path for path in found if not path.name.startswith("0000")][:8]:
        shutil.copy(path, tmp_path / "images" / "deep")
    return tmp_path / "images"


def test_hidden_folders_are_left_out(images: Path) -> None:
    before, _ = find_images(images)
    (images / ".thumbs").mkdir()
    shutil.copy(before[0], images / ".thumbs")
    shutil.copy(before[0], images / ".x.jpg")
    assert find_images(images)[0] == before


def test_embeddings_are_the_networks_own(run: Run, checkpoint: Path, images: Path) -> None:
    run("build", "--checkpoint", checkpoint, "--images", images, "--out", "g", "--exit", "stage2")
    gallery, model = SavedGallery.open("g"), load_model(checkpoint)
    assert len(gallery) == 8 and gallery.card.exit == "stage2" and gallery.card.image == (72, 36)
    for row, path in enumerate(gallery.paths()):
        pixels = torch.from_numpy(resize(decode(Path(path)), 72, 36)[4:68, 2:34].copy())
        with torch.inference_mode():  # of the image's centre
            wanted = model(normalise(pixels.permute(2, 0, 1)[None]))["stage2"][0]
        np.testing.assert_allclose(gallery.embeddings[row], wanted, atol=1e-5)
        pid, camid = Path(path).name.split("_")[:2]
        assert (gallery.pids[row], gallery.camids[row]) == (int(pid), int(camid[1]))


@pytest.mark.parametrize("more", [(), ("--metric", "cosine", "--half", "--index", "hnsw")])
def test_from_images_to_a_page(
    more: tuple[str, ...], run: Run, checkpoint: Path, images: Path
) -> None:
    model = ("--checkpoint", checkpoint)
    printed = run("build", *model, "--images", images, "--out", "g", "--batch-size", 3, *more)
    assert "8 images embedded" in printed and "8 images now" in printed

    printed = run("info", "g")
    for fragment in ("8", "fusion", "72x36", "cosine" if more else "euclidean"):
        assert fragment in printed

    asked = sorted(images.rglob("*.jpg"))[2]
    printed = run("search", "g", *model, "--image", asked, "--top", 3)
    first = next(line for line in printed.splitlines() if line.strip().startswith("1 "))
    assert "0.00" in first and "✓" in first and asked.name in first.replace("\n", "")

    printed = run("search", "g", *model, "--image", asked, asked, "--out", "out/page.html")
    page = Path("out/page.html").read_text(encoding="utf-8")
    assert "out/page.html" in printed
    assert page.count('<figure class="match"') == 2 * 8
    assert (
        page.count("data:image/jpeg;base64,") == 2 * 9 and "http" not in page.split("</style>")[1]
    )
    assert 'class="shot right"' in page and 'class="shot wrong"' in page
    seen = re.sub(r"<[^>]*>", "\n", page.partition("<main>")[2])  # without hovering
    for image in images.rglob("*.jpg"):
        assert seen.count(image.name) == 2 * (1 + (image == asked)), image
    assert f"person {asked.name[:4]}, camera {asked.name[6]}" in seen
    assert len(re.findall(r"^ \d\.\d{3}$", seen, re.M)) == 2 * 8


def test_copies_are_told(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    """Under another name, and with a warning under another person's."""
    write_jpegs(tmp_path / "one", ["ann/1.jpg", "bob/2.jpg", "bob/3.jpg"], (64, 32))
    words = ("--checkpoint", checkpoint, "--images")
    assert "cop" not in run("build", *words, "one", "--out", "g")
    for name, of in (("ann/again.jpg", "ann/1.jpg"), ("eve/4.jpg", "bob/2.jpg")):
        (tmp_path / "two" / name).parent.mkdir(parents=True)
        shutil.copy(tmp_path / "one" / of, tmp_path / "two" / name)
    printed = run("add", "g", *words, "two")
    one, two = tmp_path / "one", tmp_path / "two"
    note = f"note: 1 image is a copy of another: {two / 'ann/again.jpg'} of {one / 'ann/1.jpg'}"
    assert note in printed
    assert f"warning: 1 image is a copy of another person's: {two / 'eve/4.jpg'} of " in printed
    assert f"remove g --file {two / 'eve/4.jpg'}" in printed
    assert "5 images now" in printed and "cop" not in run("add", "g", *words, "two")


def test_add_skips_what_is_there(run: Run, checkpoint: Path, images: Path) -> None:
    run("build", "--checkpoint", checkpoint, "--images", images, "--out", "g")
    new = write_jpegs(images, ["new/0077_c1_1.jpg", "new/nobody.png"], (64, 32))
    printed = run("add", "g", "--checkpoint", checkpoint, "--images", new)
    assert "2 images embedded" in printed and "8 were there already; 10 images now" in printed
    again = run("add", "g", "--checkpoint", checkpoint, "--images", images)
    assert "0 images embedded, 10 were there already; 10 images now" in again
    gallery = SavedGallery.open("g")
    assert gallery.pids[-2:].tolist() == [77, UNKNOWN]


def test_an_interrupted_add_goes_on(
    run: Run, checkpoint: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ("--checkpoint", checkpoint, "--images", images)
    one = write_jpegs(images.parent / "one", ["0001_c1_1.jpg"], (64, 32))
    run("build", "--checkpoint", checkpoint, "--images", one, "--out", "g", "--index", "hnsw")
    real = embedded

    def interrupted(*args: object, **options: object):  # type: ignore[no-untyped-def]
        for number, batch in enumerate(real(*args, **options)):  # type: ignore[arg-type]
            if number == 2:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(build, "embedded", interrupted)
        printed = run("add", "g", *model, "--batch-size", 2, status=130)
    assert "what was embedded stays, the same command resumes" in printed
    assert len(SavedGallery.open("g")) == 5
    printed = run("add", "g", *model)
    assert "4 images embedded" in printed and "4 were there already; 9 images now" in printed
    saved = SavedGallery.open("g").saved_index()
    assert saved is not None and len(saved) == 9


def test_a_second_writer_is_refused_before_the_network_is_loaded(
    run: Run, checkpoint: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--checkpoint", checkpoint, "--images", images)
    run("build", *words, "--out", "g")

    def loaded(*args: object, **options: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(Embedder, "load", loaded)
    monkeypatch.setattr(calibrate, "fit_own_thresholds", loaded)
    with locked(Path("g")):
        for command in (
            ("add", "g", *words),
            ("upgrade", "g", *words),
            ("build", *words, "--out", "g", "--overwrite"),
            ("calibrate", "g"),
        ):
            assert "g is being written to by another process" in run(*command, status=1)
    assert "g exists already" in run("build", *words, "--out", "g", status=1)
    with replacing_folder(Path("h")) as folder:
        assert "h is being written by another process" in run(
            "build", *words, "--out", "h", status=1
        )
        folder.joinpath("x").touch()


def test_broken_images_are_told_together(run: Run, checkpoint: Path, images: Path) -> None:
    for number in range(12):
        (images / f"bad{number}.jpg").write_bytes(b"\xff\xd8 broken")
    build = ("build", "--checkpoint", checkpoint, "--images", images, "--overwrite", "--out")
    printed = run(*build, "g")
    assert "12 images left out:" in printed and printed.count("cannot be read as an image") == 10
    assert "8 images embedded" in printed and "12 left out; 8 images now" in printed
    run(*build, "g", "--strict", status=1)
    assert len(SavedGallery.open("g")) == 8
    good = next(images.rglob("0*.jpg"))
    asked = ("--image", images / "bad0.jpg", good)
    printed = run("search", "g", "--checkpoint", checkpoint, *asked, status=1)
    assert "1 image left out" in printed and good.name in printed
    for path in images.rglob("0*.jpg"):
        path.unlink()
    printed = run(*build, "none", status=1)
    assert "none of 12 images could be read: none was not made" in printed
    assert not Path("none").exists()
    assert "1 image left out" in run(
        "search", "g", "--checkpoint", checkpoint, "--image", images / "bad0.jpg", status=1
    )


def test_another_model_is_refused(
    run: Run, checkpoint: Path, images: Path, composed: Compose
) -> None:
    run("build", "--checkpoint", checkpoint, "--images", images, "--out", "g")
    other = ("--checkpoint", untrained(checkpoint.with_name("other.ckpt"), composed, seed=1))
    for command in (
        ("add", "g", *other, "--images", images),
        ("search", "g", *other, "--image", "x"),
    ):
        assert "embeddings of two models cannot be compared" in run(*command, status=1)
    gallery = SavedGallery.open(Path("g"))  # the other model lacks its exit, too
    gone = replace(gallery, card=replace(gallery.card, exit="stage9"))
    with pytest.raises(UserError, match="embeddings of two models cannot be compared"):
        network_of(gone, other[1], "fusion", "cpu")


def test_a_pattern_that_matches_nothing_is_reported(
    run: Run, checkpoint: Path, images: Path
) -> None:
    words = ("--checkpoint", checkpoint, "--images", images, "--out", "g")
    printed = run("build", *words, "--pattern", "zzz(?P<pid>x)")
    assert "warning: --pattern 'zzz(?P<pid>x)' matches no path" in printed
    assert "warning" not in run("build", *words, "--overwrite", "--pattern", "")


def test_the_pattern_finds_people(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    names = ["ann-7/left.jpg", "bob-9/right.jpg", "odd.jpg"]
    folder = write_jpegs(tmp_path / "mine", names, (64, 32))
    build = ("build", "--checkpoint", checkpoint, "--images", folder, "--out", "g", "--overwrite")
    run(*build, "--pattern", r"(?P<pid>\d+)/[^/]*$")
    gallery = SavedGallery.open("g")
    assert gallery.pids.tolist() == [7, 9, UNKNOWN] and set(gallery.camids.tolist()) == {UNKNOWN}
    run("search", "g", "--checkpoint", checkpoint, "--image", folder / "odd.jpg", "--out", "p.html")
    assert Path("p.html").read_text(encoding="utf-8").count('class="shot unknown"') == 3
    run(*build, "--pattern", "")
    assert set(SavedGallery.open("g").pids.tolist()) == {UNKNOWN}
    for pattern, message in {
        "(": "not a regular expression",
        r"(\d+)": "neither (?P<pid>...)",
    }.items():
        assert message in run(*build, "--pattern", pattern, status=1)


@pytest.mark.parametrize("names", ["files", "list"])
def test_a_person_is_spelled_as_the_gallery_was_given_it(
    run: Run, checkpoint: Path, tmp_path: Path, names: str
) -> None:
    files = [f"00{10 + i // 2}_c0{i % 2 + 1}_{i}.jpg" for i in range(16)]
    people = write_jpegs(tmp_path / "people", files, (64, 32))
    queries = write_jpegs(tmp_path / "queries", ["10_c3_1.jpg"], (64, 32)) / "10_c3_1.jpg"
    if names == "list":
        lines = [f"people/{file},{file[:4]},{i % 2}" for i, file in enumerate(files)]
        Path("people.csv").write_text("\n".join(["path,pid,camid", *lines]))
        Path("queries.csv").write_text(f"path,pid,camid\n{queries},10,3\n")
        people, queries = Path("people.csv"), Path("queries.csv")
    run("build", "--checkpoint", checkpoint, "--images", people, "--out", "g")
    run("calibrate", "g", "--rates", 0.5)
    words = ("search", "g", "--image", queries, "--checkpoint", checkpoint)
    words += ("--false-accept-rate", 0.5, "--top", 16, "--out")
    people_of = {f"00{number}" for number in range(10, 18)}
    (found,) = map(json.loads, read_out(run, "o.jsonl", *words).splitlines())
    assert found["query_pid"] == "0010"
    assert {match["pid"] for match in found["matches"]} == people_of
    assert {*found["verdict_pids"].split(" | ")} <= people_of | {""}
    assert [m["right"] for m in found["matches"]].count(True) == 2
    rows = list(csv.DictReader(read_out(run, "o.csv", *words).splitlines()))
    assert {row["pid"] for row in rows} == people_of
    assert {row["query_pid"] for row in rows} == {"0010"}
    assert not re.search(r"person 0*1\d(?<!001\d)", read_out(run, "o.html", *words))
    printed = run(*words[:-1])
    assert "(person 0010, camera 3)" in printed
    assert {*re.findall(r"\n +\d+ +[\d.]+ +(\d+)", printed)} == people_of
    assert {*re.findall(r"^ +(00\d+) ", run("people", "g"), re.MULTILINE)} == people_of
    searched = search_gallery("g", queries, checkpoint, false_accept_rate=0.5)
    (result,) = searched.results
    assert result.image.person == "0010" and result.verdict is not None
    assert {match.image.person for match in result.matches} <= people_of
    assert {person.person for person in result.verdict.people} <= people_of
    assert "(person 0010)" in run("remove", "g", "--pid", "10", "--dry-run")


def read_out(run: Run, out: str, *words: object) -> str:
    run(*words, out)
    return Path(out).read_text()


def test_any_text_names_people_and_cameras(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    names = ["ann lee@door/1.jpg", "ann lee@yard/2.jpg", "7@door/3.jpg", "odd.jpg"]
    folder = write_jpegs(tmp_path / "mine", names, (64, 32))
    build = ("build", "--checkpoint", checkpoint, "--images", folder, "--out", "g")
    run(*build, "--pattern", r"(?P<pid>[^/]+)@(?P<camid>[^/]+)/[^/]*$")
    more = write_jpegs(tmp_path / "more", ["Zoë@door/4.jpg"], (64, 32))
    run("add", "g", "--checkpoint", checkpoint, "--images", more)
    gallery = SavedGallery.open("g")
    people = [gallery.name(pid) for pid in gallery.pids.tolist()]
    assert people == ["7", "ann lee", "ann lee", "", "Zoë"]
    assert [gallery.name(c) for c in gallery.camids.tolist()] == [
        "door",
        "door",
        "yard",
        "",
        "door",
    ]
    assert gallery.pids[0] == 7 and gallery.pids[3] == UNKNOWN
    search = ("search", "g", "--checkpoint", checkpoint, "--image", folder / names[0])
    printed = run(*search, "--top", 5)
    assert "(person ann lee, camera door)" in printed and "Zoë" in printed
    first = next(line for line in printed.splitlines() if line.strip().startswith("1 "))
    assert "ann lee" in first and "✓" in first
    run(*search, "--out", "p.html")
    assert "person ann lee, camera yard" in Path("p.html").read_text(encoding="utf-8")
    Path("g/names.json").write_text('{"5": "ann"}')
    assert "names.json is damaged" in run("info", "g", status=1)


def test_a_folder_for_each_person_needs_no_pattern(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    names = ["ann/door_c1_001.jpg", "ann/door_c2_002.jpg", "bob/x.jpg"]
    folder = write_jpegs(tmp_path / "mine", names, (64, 32))
    build = ("build", "--checkpoint", checkpoint, "--images", folder, "--out", "g", "--overwrite")
    assert "each folder is a person" in run(*build)
    gallery = SavedGallery.open("g")
    assert [gallery.name(pid) for pid in gallery.pids.tolist()] == ["ann", "ann", "bob"]
    assert gallery.camids.tolist() == [1, 2, UNKNOWN]
    search = ("search", "g", "--checkpoint", checkpoint, "--image")
    stranger = write_jpegs(tmp_path / "queries", ["x.jpg"], (64, 32)) / "x.jpg"
    printed = run(*search, stranger)  # "queries" is not a person
    assert "✓" not in printed and "✗" not in printed
    printed = run(*search, folder / names[0])
    assert "✓" in printed and "✗" in printed
    write_jpegs(folder, ["loose.jpg"], (64, 32))
    run(*build)
    assert set(SavedGallery.open("g").pids.tolist()) == {UNKNOWN}


@pytest.fixture
def ann_and_bob(run: Run, checkpoint: Path, tmp_path: Path) -> tuple[str, ...]:
    """A gallery `g` of two named people with metadata; the arguments of its network."""
    folder = write_jpegs(tmp_path / "mine", ["a1.jpg", "a2.jpg", "b1.jpg", "x.jpg"], (64, 32))
    (tmp_path / "people.csv").write_text(
        "path,pid,camid,Site,time\nmine/a1.jpg,Ann Lee,door,north,2026-01-01\n"
        "mine/a2.jpg,Ann Lee,yard,south,2026-02-01\nmine/b1.jpg,007,door,north,\n"
    )
    model = ("--checkpoint", str(checkpoint))
    printed = run(
        "build",
        *model,
        "--images",
        folder,
        "--metadata",
        "people.csv",
        "--out",
        "g",
        "--pattern",
        "",
    )
    assert "1 images have no line in people.csv, such as " in printed
    return model


def test_metadata_is_kept_shown_and_filters(run: Run, ann_and_bob: tuple[str, ...]) -> None:
    printed = run("info", "g")
    assert "site, time" in printed and "none: metadata names people" in printed
    search = ("search", "g", *ann_and_bob, "--image", "mine/a1.jpg")
    printed = run(*search)
    assert "2026-02-01" in printed and "south" in printed and "x.jpg" in printed
    printed = run(*search, "--where", "site=north and pid!='Ann Lee'")
    assert "b1.jpg" in printed and "a2.jpg" not in printed and "x.jpg" not in printed
    run(*search, "--out", "p.html")
    assert "site: south" in Path("p.html").read_text(encoding="utf-8")
    assert "no image of g has site=west" in run(*search, "--where", "site=west", status=1)
    assert "available: pid, camid, path, site, time" in run(*search, "--where", "a=1", status=1)
    printed = run("people", "g", "--where", "site!=''")
    assert printed.index(" 007 ") < printed.index("Ann Lee")  # numbers, then names
    assert re.search(r"Ann Lee\s+2\s+door, yard", printed) and re.search(r"7\s+1\s+door", printed)


def test_long_names_do_not_cut_numbers(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdout, "_width", 80)
    write_jpegs(tmp_path / "mine", ["a.jpg", "b.jpg"], (64, 32))
    name = "Ann " * 40
    lines = (f"mine/{x}.jpg,{name},{'gate ' * 20},north" for x in "ab")
    (tmp_path / "p.csv").write_text("\n".join(("path,pid,camid,site", *lines)))
    model = ("--checkpoint", checkpoint)
    run("build", *model, "--images", "p.csv", "--out", "g")
    for words, number in {
        ("people", "g"): r"Ann +2  gate",
        ("search", "g", *model, "--image", "mine/a.jpg"): r" 1  +0\.0000  Ann",
    }.items():
        printed = run(*words)
        assert re.search(number, printed), printed
        assert printed.count("Ann") == 40 * (1 + (words[0] == "search"))
        assert max(map(len, printed.splitlines()[1:])) <= 80


def test_a_csv_file_names_the_images_of_a_gallery(
    run: Run, ann_and_bob: tuple[str, ...], tmp_path: Path
) -> None:
    run("build", *ann_and_bob, "--images", "people.csv", "--out", "h")
    run(
        "build", *ann_and_bob, "--images", "people.csv", "--out", "k", "--pattern", r"(?P<pid>\w)\."
    )
    for name in ("h", "k"):
        gallery = SavedGallery.open(name)
        assert gallery.names_of("pid") == ["Ann Lee", "Ann Lee", "007"]
        assert gallery.column("site") == ["north", "south", "north"]
    write_jpegs(tmp_path / "more", ["c.jpg"], (64, 32))
    Path("more.csv").write_text("path,licence\nmore/c.jpg,asked\n")
    run("add", "h", *ann_and_bob, "--images", "more.csv")
    assert SavedGallery.open("h").column("licence") == ["", "", "", "asked"]
    printed = run("add", "h", *ann_and_bob, "--images", "mine")
    assert "3 were there already; 5 images now" in printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pid\n7\n", "no column path"),
        ("path,time,time\nmine/a1.jpg,1,2\n", "name each column once"),
        ("path,box\nmine/a1.jpg,0 0 1 1\n", "a gallery holds whole images"),
        ("path,time\nmine/a1.jpg\n", "line 2: 1 values"),
        ("path,time\nmine/a1.jpg,1\nmine/a1.jpg,2\n", "repeats line 2"),
        ("path,time\nelsewhere/a1.jpg,1\n", "no line for any of the images"),
    ],
)
def test_invalid_metadata_is_one_message(
    text: str, message: str, run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    write_jpegs(tmp_path / "mine", ["a1.jpg"], (64, 32))
    Path("bad.csv").write_text(text)
    words = ("build", "--checkpoint", checkpoint, "--images", "mine", "--out", "g")
    assert message in run(*words, "--metadata", "bad.csv", status=1)


def test_a_search_gives_a_verdict(run: Run, checkpoint: Path, images: Path, tmp_path: Path) -> None:
    names = [f"p{i % 6}@c{i % 2}/{i}.jpg" for i in range(0, 18)]
    folder = write_jpegs(tmp_path / "mine", names, (64, 32))
    build = ("build", "--checkpoint", checkpoint, "--images", folder, "--out", "g")
    run(*build, "--pattern", r"(?P<pid>[^/@]+)@")
    search = ("search", "g", "--checkpoint", checkpoint, "--image", folder / names[0])
    words = (*search, "--false-accept-rate", 0.5)
    assert "g has no thresholds: fit them with reid-lab gallery calibrate" in run(*words, status=1)
    assert "below 5.6e-02, 0.01 was given" in run("calibrate", "g", "--rates", 0.01, status=1)
    printed = run("calibrate", "g", "--rates", 0.5, 0.1)
    assert "(this gallery: 6 people, 18 searches)" in printed and "of two people" in printed
    assert "warning: thresholds of 6 people are rough" in printed
    assert "searches, this gallery: 0.5, 0.1" in run("info", "g")
    printed = run(*words, "--out", "p.html")
    assert "false-accept rate 0.5, the share of strangers' searches that name somebody" in printed
    assert re.search(r"1 query: 1 (known|ambiguous)\n", printed)
    assert re.search(r"<b>(known|ambiguous), p0 \(0\.0000\)", Path("p.html").read_text("utf-8"))
    assert re.search(r"0\.jpg \(person p0, .*\): (known|ambiguous), p0 \(0\.0000\)", run(*words))
    printed = run(*search, "--false-accept-rate", 0.2)
    assert "false-accept rate 0.1, the share" in printed and "--rates 0.2 fits it" in printed
    assert "no threshold is fitted for a false-accept rate of 0.2: that of 0.1 is used" in printed
    printed = run(*search, "--false-accept-rate", 0.01, status=1)
    assert "available: 0.5, 0.1 (of searches, this gallery)" in printed
    assert "18 searches cannot show 0.01: give a rate of the list, or calibrate" in printed
    assert "100 or more images of people with names" in printed
    assert "fitted with them: calibrate again" in run("remove", "g", "--pid", "p5")
    words = ("calibrate", "g", "--checkpoint", checkpoint)
    assert "has no thresholds of exit 'fusion' and metric euclidean" in run(*words, status=1)


def test_labels_of_users_give_thresholds_of_pairs(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    names = [f"p{i % 6}@c{i % 2}/{i}.jpg" for i in range(24)]
    folder = write_jpegs(tmp_path / "mine", names, (64, 32))
    build = ("build", "--checkpoint", checkpoint, "--images", folder, "--out", "g")
    run(*build, "--pattern", r"(?P<pid>[^/@]+)@")
    lines = [f"{folder}/{names[i]},p{(i + (i > 3)) % 6},{int(i < 4)},fusion,9.0" for i in range(12)]
    Path("labels.csv").write_text("\n".join(["path,pid,correct,exit,distance", *lines]))
    words = ("calibrate", "g", "--labels", "labels.csv")
    assert "give --checkpoint" in run(*words, status=1)
    printed = run(*words, "--checkpoint", checkpoint, "--rates", 0.01, status=1)
    assert "8 rejected matches show no false-accept rate below 1.2e-01" in printed
    printed = run(*words, "--checkpoint", checkpoint)
    assert "of two people (labels of users: 6 people, 8 pairs)" in printed
    searches, pairs = SavedGallery.open("g").card.accept_thresholds
    assert searches.own and [t.false_accept_rate for t in pairs.thresholds] == [0.5, 0.2]
    run(*words, "--checkpoint", checkpoint)  # from the images, not from the distances of the file
    assert SavedGallery.open("g").card.accept_thresholds == (searches, pairs)


def test_a_checkpoint_brings_thresholds(
    run: Run, checkpoint: Path, images: Path, tmp_path: Path, composed: Compose
) -> None:
    build = ("build", "--checkpoint", checkpoint, "--images", images)
    search = ("search", "g", "--checkpoint", checkpoint, "--image", images / "deep")
    run(*build, "--out", "g")  # before there are any
    one = AcceptThresholds("searches", "x, held out", 7, 9, 9, (AcceptThreshold(0.1, 1e9, 1.0),))
    assert put_accept_thresholds(
        checkpoint, {"fusion": {"euclidean": (one,)}}, fingerprint(checkpoint)
    )
    printed = run(*search, "--false-accept-rate", 0.1)
    assert "fitted on 7 people of x, held out" in printed
    assert "not of your people and cameras: reid-lab gallery calibrate" in printed
    assert re.search(r": ambiguous, ", printed)  # everybody is within 1e9
    assert not SavedGallery.open("g").card.accept_thresholds  # it is the search's default only
    run(*build, "--out", "new")
    assert SavedGallery.open("new").card.accept_thresholds == (one,)
    run(*build, "--out", "cosine", "--metric", "cosine")
    assert SavedGallery.open("cosine").card.accept_thresholds == ()
    own = replace(one, source=OWN, thresholds=(AcceptThreshold(0.1, 1e-9, 1.0),))
    RowWriter(SavedGallery.open("g")).set_accept_thresholds((own,))
    printed = run(*search, "--false-accept-rate", 0.1)  # the gallery's own win
    assert "fitted on 7 people of this gallery" in printed and "not of your" not in printed
    run("calibrate", "g", "--checkpoint", checkpoint)
    assert SavedGallery.open("g").card.accept_thresholds == (one,)
    other = untrained(tmp_path / "other.ckpt", composed, seed=1)
    words = ("search", "cosine", "--checkpoint", other, "--image", images / "deep")
    assert "holds embeddings of the model" in run(*words, "--false-accept-rate", 0.1, status=1)


def test_people_are_removed(run: Run, ann_and_bob: tuple[str, ...]) -> None:
    before = files_of("g")
    printed = run("remove", "g", "--pid", "Ann Lee", "--dry-run")
    assert "a1.jpg" in printed and "would remove 2 images (person Ann Lee)" in printed
    assert files_of("g") == before
    for words, message in {
        (): "nothing to remove: give --pid, --where or --file",
        ("--pid", "Anne"): "no image of person Anne: nothing was removed",
        ("--pid", "7", "--where", "site=south"): "no image where site=south, of person 7",
        ("--file", "mine/none.jpg"): "no image from mine/none.jpg",
    }.items():
        assert message in run("remove", "g", *words, status=1)
    assert files_of("g") == before
    assert "1 image (person Ann Lee) removed; 3 images now" in run(
        "remove", "g", "--pid", "Ann Lee", "--where", "time<2026-02-01"
    )
    assert "(person 007) removed" in run("remove", "g", "--pid", "0007")
    assert "removed; 1 image" in run("remove", "g", "--file", "mine/a2.jpg")
    assert SavedGallery.open("g").names_of("pid") == [""]
    assert not any(b"Ann" in data for data in files_of("g").values())
    run("add", "g", *ann_and_bob, "--images", "mine", "--metadata", "people.csv")
    assert len(SavedGallery.open("g")) == 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")
def test_a_pattern_that_takes_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_lab.gallery.images.SECONDS", 0.05)
    before = signal.getsignal(signal.SIGALRM)
    endless = Path("1" + "a" * 60 + "b.jpg")
    with pytest.raises(UserError, match=r"takes more than 0.05 s on 1aaa.*repeat within a repeat"):
        label([Path("2.jpg"), endless], r"(?P<pid>\d)(a+)+$")
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert label([Path("2.jpg")], r"(?P<pid>\d)\.jpg$")[0].pid == 2


def test_plan_tells_what_indexes_lose(run: Run, checkpoint: Path, people: Path) -> None:
    model = ("--checkpoint", checkpoint)
    for part, out in (("bounding_box_test", "g"), ("query", "q")):
        run("build", *model, "--images", people / part, "--out", out)
    printed = run("plan", "g", "--queries", "q", "--size", 1_000_000, "--depth", 10)
    assert all(name in printed for name in INDEX_NAMES)
    assert "Extrapolated: 1,000,000 images" in printed and "32 MB" in printed
    assert "over the whole list" in printed and "at least 624 images" in printed
    printed = run("plan", "g")
    assert "Extrapolated" not in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("build", "--images", "nowhere", "--out", "g"), "nowhere is not a folder"),
        (("build", "--images", "empty", "--out", "g"), "empty has no image: expected files"),
        (("build", "--images", "images", "--out", "g", "--exit", "x"), "available: stage1, s"),
        (("build", "--images", "images", "--out", "g", "--index", "ivf_pq"), "at least 624 images"),
        (("build", "--images", "images", "--out", "images"), "images exists already"),
        (("build", "--images", "images", "--out", "g", "--device", "toaster"), "try cpu"),
        (("add", "nowhere", "--images", "images"), "not a saved gallery, it does not exist"),
    ],
)
def test_errors_are_one_message(
    words: tuple[str, ...], message: str, run: Run, checkpoint: Path, images: Path
) -> None:
    Path("empty").mkdir()
    printed = run(*words, "--checkpoint", checkpoint, status=1)
    assert printed.startswith("error: ") and message in printed
    assert not Path("g").exists()


def test_arguments_name_the_indexes_that_there_are() -> None:
    assert arguments.INDEXES == INDEX_NAMES


def test_help_and_wrong_arguments() -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "reid_lab.cli", "gallery", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    told = call("--help")
    assert told.returncode == 0 and "plan" in told.stdout
    wrong = call("search", "g", "--checkpoint", "x", "--image", "y", "--top", "0")
    assert wrong.returncode == 2 and "0 is less than 1" in wrong.stderr


def files_of(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != ".lock"}


@pytest.mark.system
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_an_interrupted_add_ends_as_an_uninterrupted_one(
    stop: int, run: Run, checkpoint: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, although broken images come first when it goes on, and shift the batches."""
    one = write_jpegs(images.parent / "one", ["0001_c1_1.jpg"], (64, 32))
    first = sorted(images.rglob("*.jpg"))[0]
    first.with_name("0000_broken.jpg").write_bytes(b"broken")
    run("build", "--checkpoint", checkpoint, "--images", one, "--out", "g", "--index", "hnsw")
    shutil.copytree("g", "whole")
    words = ("--checkpoint", checkpoint, "--images", images, "--batch-size", 3)
    run("add", "whole", *words)
    append, calls = Writer.append, 0

    def terminated(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > stop:
            os.kill(os.getpid(), signal.SIGTERM)
        append(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "append", terminated)
        run("add", "g", *words, status=143)
    assert files_of("g") != files_of("whole")
    run("add", "g", *words)
    assert files_of("g") == files_of("whole")
    run("add", "g", *words)  # nothing new, and what is broken was left out before
    assert files_of("g") == files_of("whole")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("search", "g", "--image", "IMAGE", "--top", 0), 2),
        (("search", "g", "--image", "IMAGE", "--top", -1), 2),
        (("search", "g", "--image", "IMAGE", "--top", "all"), 2),
        (("search", "g", "--image", "IMAGE", "--top", 10**30), 2),
        (("search", "g", "--image", "IMAGE", "--out", "IMAGE/x.html"), 1),
        (("search", "g", "--image", "IMAGE", "--out", "images"), 1),
        (("search", "g", "--image", "nowhere"), 1),
        (("search", "empty", "--image", "IMAGE"), 1),
        (("build", "--images", "images", "--out", "IMAGE/g"), 1),
        (("build", "--images", "images", "--out", ".."), 1),
        (("build", "--images", "images", "--out", "new", "--exit", "../../x"), 1),
        (("build", "--images", "images", "--out", "new", "--device", "meta"), 1),
        (("build", "--images", "images", "--out", "new", "--batch-size", 10**12), 2),
        (("build", "--images", "images", "--out", "new", "--pattern", "a{99999999999}"), 1),
    ],
)
def test_senseless_arguments_are_one_message(
    words: tuple[object, ...], status: int, run: Run, checkpoint: Path, images: Path
) -> None:
    run("build", "--checkpoint", checkpoint, "--images", images, "--out", "g")
    shutil.copytree("g", "empty")
    replace(SavedGallery.open("g").card, count=0, crc32={}).write(Path("empty"))
    before, there = files_of("g"), sorted(Path().iterdir())
    image = str(next(images.rglob("*.jpg")))
    given = [str(word).replace("IMAGE", image) for word in words]
    if status == 2:
        assert main([*given, "--checkpoint", str(checkpoint)]) == 2
    else:
        printed = run(*given, "--checkpoint", checkpoint, status=1)
        assert "error: " in printed or "1 image left out" in printed
    assert files_of("g") == before and sorted(Path().iterdir()) == there
