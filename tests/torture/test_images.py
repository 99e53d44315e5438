"""Every way that a picture is stored, and pictures that are broken, bombs, or cut by odd boxes."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.torture.bench import Bench, Case, Stage, sane_run, training
from tests.torture.test_files import DOCTOR, OWN, cut, listed, noise, table

pytestmark = pytest.mark.system

Make = Callable[[], bytes]
# Black and white, so that every mode holds it exactly; not square, so that turning it shows.
PICTURE = Image.fromarray(np.random.default_rng(0).choice([0, 255], (24, 12)).astype(np.uint8))
TURNED = 6  # EXIF: turn it by 90 degrees to see it upright
ORIENTATION = 0x0112


def stored(kind: str, mode: str, turned: bool = False) -> bytes:
    """The picture in a format and mode; `turned` lies on its side, and says so."""
    picture = PICTURE.transpose(Image.Transpose.ROTATE_90) if turned else PICTURE
    if mode == "I;16":
        deep = np.asarray(picture).astype(np.uint16) * 257
        picture = Image.fromarray(deep)
    else:
        picture = picture.convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    options = {"exif": exif} if turned else {}
    if kind == "webp":
        options["lossless"] = True
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpeg": ("L", "RGB", "CMYK"),
    "bmp": ("1", "L", "P", "RGB"),
    "webp": ("RGB", "RGBA"),
    "tiff": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
}
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "bmp": ".bmp", "webp": ".webp", "tiff": ".tif"}
GOOD: dict[str, tuple[str, Make]] = {
    f"{kind} {mode}": (SUFFIXES[kind], lambda kind=kind, mode=mode: stored(kind, mode))
    for kind, modes in MODES.items()
    for mode in modes
}
GOOD |= {
    f"{kind} {mode} turned": (SUFFIXES[kind], lambda k=kind, m=mode: stored(k, m, turned=True))
    for kind, mode in (
        *(("png", mode) for mode in MODES["png"]),
        *(("jpeg", "RGB"), ("webp", "RGB"), ("tiff", "RGB"), ("tiff", "L")),
    )
}
GOOD |= {
    "suffix in capitals": (".PNG", lambda: stored("png", "RGB")),
    "jpeg named .jpeg": (".jpeg", lambda: stored("jpeg", "RGB")),
    "tiff named .tiff": (".tiff", lambda: stored("tiff", "RGB")),
    "png named .jpg": (".jpg", lambda: stored("png", "RGB")),
    "jpeg named .png": (".png", lambda: stored("jpeg", "RGB")),
}


def png(width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    """A PNG that says what it likes about its size."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def huge_jpeg() -> bytes:
    """A header of 65000 x 65000 pixels before little data."""
    whole = bytearray(stored("jpeg", "RGB"))
    start = whole.index(b"\xff\xc0")
    whole[start + 5 : start + 9] = struct.pack(">HH", 65000, 65000)
    return bytes(whole)


def flat(width: int, height: int) -> Make:
    def make() -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (width, height)).save(file, "png")
        return file.getvalue()

    return make


BROKEN: dict[str, tuple[str, Make]] = {
    "empty jpg": (".jpg", lambda: b""),
    "empty png": (".png", lambda: b""),
    "noise": (".jpg", noise),
    "html": (".jpg", lambda: b"<!DOCTYPE html><html>404</html>"),
    "svg": (".png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "half a jpeg": (".jpg", lambda: cut(0.5)(stored("jpeg", "RGB"))),
    "half a png": (".png", lambda: cut(0.5)(stored("png", "RGB"))),
    "half a tiff": (".tif", lambda: cut(0.5)(stored("tiff", "RGB"))),
    "half a webp": (".webp", lambda: cut(0.5)(stored("webp", "RGB"))),
    "half a bmp": (".bmp", lambda: cut(0.5)(stored("bmp", "RGB"))),
    "png with a wrong checksum": (".png", lambda: stored("png", "L").replace(b"IDAT", b"IDAT\1")),
    "png without data": (".png", lambda: png(12, 24)),
    "png of no width": (".png", lambda: png(0, 24)),
    "png of 2**31 pixels a side": (".png", lambda: png(2**31 - 1, 2**31 - 1)),
    "bomb: jpeg of 65000 x 65000": (".jpg", huge_jpeg),
    "bomb: png of 50000 x 50000": (
        ".png",
        lambda: png(50_000, 50_000, depth=1, data=bytes(6251 * 50_000)),
    ),
    "bomb: png of 100000 x 10000": (".png", lambda: png(100_000, 10_000)),
}
ODD: dict[str, tuple[str, Make]] = {
    "one pixel": (".png", flat(1, 1)),
    "one row": (".png", flat(5000, 1)),
    "one column": (".png", flat(1, 5000)),
    "palette without colours": (".png", lambda: png(4, 4, colour=3, data=bytes(20))),
    "16 bit colour": (".png", lambda: png(4, 4, depth=16, colour=2, data=bytes(4 * 25))),
    "orientation 99": (".jpg", lambda: stored("jpeg", "RGB").replace(b"\xff\xd9", b"Exif\xff\xd9")),
    "gif named .png": (".png", lambda: stored("gif", "L")),
    "more behind its end": (".jpg", lambda: stored("jpeg", "RGB") + noise(100)),
}


def pictures(suffix: str, make: Make) -> Callable[[Stage, Path], None]:
    """`mine/a.png`, the plain picture, and `mine/b`, the one in question."""

    def prepare(stage: Stage, work: Path) -> None:
        (work / "mine").mkdir()
        (work / "mine" / "a.png").write_bytes(stored("png", "RGB"))
        (work / "mine" / f"b{suffix}").write_bytes(make())

    return prepare


def data_set(suffix: str, make: Make) -> Callable[[Stage, Path], None]:
    """A table of images of one's own, of which the first is the one in question."""

    def prepare(stage: Stage, work: Path) -> None:
        content = table(("1", "2", "3", "4")).replace("images/0_1.jpg", f"images/odd{suffix}")
        listed(content)(stage, work)
        (work / "own" / "images" / f"odd{suffix}").write_bytes(make())

    return prepare


def same_rows(file: str) -> Callable[[Path], str]:
    """Whether both pictures have the same embedding: they show the same."""

    def check(work: Path) -> str:
        if file.endswith(".npz"):
            rows = np.load(work / file)["fusion"]
        else:
            rows = np.fromfile(work / file, np.float32).reshape(2, -1)
        if np.allclose(rows[0], rows[1], atol=1e-5 * np.abs(rows).max()):
            return ""
        return f"it is seen as another picture: {rows.tolist()}"

    return check


BUILD = ("build", "--checkpoint", "@checkpoint", "--images", "mine", "--out", "g")


def embed(suffix: str) -> tuple[str, ...]:
    return ("@export", "mine/a.png", f"mine/b{suffix}", "--out", "x.npz")


def good_cases() -> list[Case]:
    found = []
    for name, (suffix, make) in GOOD.items():
        lossy = "jpeg" in name
        mine, own = pictures(suffix, make), data_set(suffix, make)
        found += [
            Case(f"{name}, training", training(OWN), "reid_lab", "done", own, sane_run),
            Case(
                f"{name}, gallery",
                BUILD,
                "reid_lab.gallery",
                "done",
                mine,
                None if lossy else same_rows("g/embeddings.bin"),
            ),
            Case(
                f"{name}, runtime",
                embed(suffix),
                "reid_lab.runtime",
                "done",
                mine,
                None if lossy else same_rows("x.npz"),
            ),
        ]
    return found


def bad_cases() -> list[Case]:
    """Broken ones: left out of a gallery, and refused by the others; the doctor foresees it."""
    found = []
    for name, (suffix, make) in {**BROKEN, **ODD}.items():
        refused = "refused" if name in BROKEN else "either"
        mine, own = pictures(suffix, make), data_set(suffix, make)
        found += [
            Case(f"{name}, training", training(OWN), "reid_lab", refused, own),
            Case(f"{name}, doctor", DOCTOR, "reid_lab.doctor", refused, own),
            Case(f"{name}, gallery", BUILD, "reid_lab.gallery", "either", mine),
            Case(f"{name}, strict", (*BUILD, "--strict"), "reid_lab.gallery", refused, mine),
            Case(f"{name}, runtime", embed(suffix), "reid_lab.runtime", refused, mine),
        ]
    return found


# left top right bottom, of images of 32 x 64 pixels; whether something is left to see
BOXES = {
    "all of it": ("0 0 32 64", True),
    "fractions": ("0.4 0.6 31.5 63.2", True),
    "past the left edge": ("-5 0 20 60", True),
    "past the top edge": ("0 -5 20 60", True),
    "past the right edge": ("5 5 90 60", True),
    "past the bottom edge": ("5 5 30 900", True),
    "past all edges": ("-9 -9 99 99", True),
    "left of it": ("-20 0 -5 60", False),
    "above it": ("0 -20 20 -5", False),
    "right of it": ("40 0 60 60", False),
    "below it": ("0 70 20 90", False),
    "no width": ("5 5 5 60", False),
    "no height": ("5 5 30 5", False),
    "the wrong way round": ("30 60 5 5", False),
    "nan": ("nan 0 20 60", False),
    "inf": ("0 0 inf 60", False),
    "1e30": ("0 0 1e30 1e30", False),
    "three numbers": ("0 0 20", False),
    "words": ("left top right bottom", False),
}


def boxed(box: str) -> Callable[[Stage, Path], None]:
    """A table with boxes, of which the first is the one in question."""
    head, *lines = table(("1", "2", "3", "4")).splitlines()
    rows = [f"{head},box", *(f"{line},{'0 0 32 64' if n else box}" for n, line in enumerate(lines))]
    return listed("\n".join(rows) + "\n")


def box_cases() -> list[Case]:
    found = []
    for name, (box, seen) in BOXES.items():
        expected = "done" if seen else "refused"
        if name == "1e30":  # is past the edges, or no number of pixels
            expected = "either"
        title = f"box {name}"
        found += [
            Case(f"{title}, training", training(OWN), "reid_lab", expected, boxed(box), sane_run),
            Case(f"{title}, doctor", DOCTOR, "reid_lab.doctor", expected, boxed(box)),
        ]
    return found


def a_folder(stage: Stage, work: Path) -> None:
    (work / "mine" / "b.jpg").mkdir(parents=True)
    shutil.copy(next(stage.images.iterdir()), work / "mine" / "a.png")


SEARCH = ("search", "@gallery", "--checkpoint", "@checkpoint", "--image")
OTHERS = [
    Case("a folder as an image, runtime", embed(".jpg"), "reid_lab.runtime", "refused", a_folder),
    Case("a folder as an image, build", BUILD, "reid_lab.gallery", "done", a_folder),
    Case("a folder of images, search", (*SEARCH, "mine"), "reid_lab.gallery", "done", a_folder),
    Case("no image, search", (*SEARCH, "nowhere.jpg"), "reid_lab.gallery", "refused"),
    Case(
        "no image, runtime", ("@export", "nowhere.jpg", "--out", "x"), "reid_lab.runtime", "refused"
    ),
]
CASES = [*good_cases(), *bad_cases(), *box_cases(), *OTHERS]


@pytest.mark.torture("images", share=40)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_images(bench: Bench, case: Case, tmp_path: Path) -> None:
    bench.check(case, tmp_path)
