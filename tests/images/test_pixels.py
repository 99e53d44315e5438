"""Decoding of image files. Needs no torch, to run with any Pillow: `pytest --noconftest`."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from reid_lab.files.regular import escaped
from reid_lab.images import pixels
from reid_lab.images.files import SUFFIXES, find_images, is_image, skipped_note
from reid_lab.images.pixels import MAX_PIXELS, ImageError, read_pixels, read_size

SIZE = (12, 20)  # width, height
MODES = {
    ".jpg": ("L", "RGB", "CMYK"),
    ".jpeg": ("RGB",),
    ".png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    ".bmp": ("1", "L", "P", "RGB"),
    ".webp": ("L", "RGB", "RGBA"),
    ".tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
    ".tiff": ("RGB",),
}
CASES = [(suffix, mode) for suffix, modes in MODES.items() for mode in modes]
DECODERS = [(*case, jpeg) for case in CASES for jpeg in ("simplejpeg", "pillow")]
DECODERS = [row for row in DECODERS if row[2] == "pillow" or row[0] in (".jpg", ".jpeg")]
HAS_EXIF = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")


def example(mode: str) -> Image.Image:
    """Brighter to the right and below; the lower half is transparent where that can be."""
    cells = np.array([[[0, 40, 80], [200, 160, 120]], [[120, 90, 90], [255, 255, 200]]], np.uint8)
    rgb = Image.fromarray(cells).resize(SIZE, Image.Resampling.BILINEAR)
    if mode == "I;16":
        return Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) << 8)
    image = rgb.convert(mode)
    if mode in ("LA", "RGBA"):
        alpha = np.full(SIZE[::-1], 255, np.uint8)
        alpha[10:] = 0
        image.putalpha(Image.fromarray(alpha))
    return image


def expected(image: Image.Image) -> np.ndarray:
    if image.mode == "I;16":
        return np.stack([(np.asarray(image) >> 8).astype(np.uint8)] * 3, 2)
    rgb = np.array(image.convert("RGB"))
    if image.mode in ("LA", "RGBA"):
        rgb[10:] = 255
    return rgb


def near(a: np.ndarray, b: np.ndarray, suffix: str) -> bool:
    """Exact, except for the losses of JPEG and WebP."""
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    lossy = suffix in (".jpg", ".jpeg", ".webp")
    return bool(np.abs(a.astype(int) - b).mean() < 8) if lossy else np.array_equal(a, b)


def test_every_suffix_has_its_modes() -> None:
    assert set(MODES) == set(SUFFIXES)


@pytest.mark.parametrize(("suffix", "mode", "jpeg"), DECODERS)
def test_suffixes_and_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, mode: str, jpeg: str
) -> None:
    if jpeg == "pillow":
        monkeypatch.setattr(pixels, "simplejpeg", None)
    path, image = tmp_path / f"x{suffix}", example(mode)
    image.save(path)
    assert near(read_pixels(path), expected(image), suffix)
    assert read_size(path) == SIZE[::-1]
    assert path.stat()  # closed, or Windows cannot remove it
    path.unlink()


@pytest.mark.parametrize(
    ("suffix", "mode", "jpeg"), [row for row in DECODERS if row[0] in HAS_EXIF]
)
def test_photos_are_shown_as_they_were_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, mode: str, jpeg: str
) -> None:
    if jpeg == "pillow":
        monkeypatch.setattr(pixels, "simplejpeg", None)
    path, image, exif = tmp_path / f"x{suffix}", example(mode), Image.Exif()
    for orientation in range(10):  # 1 to 8 are valid
        exif[0x0112] = orientation
        image.save(path, exif=exif)
        held = Image.fromarray(expected(image))
        held.getexif()[0x0112] = orientation
        wanted = np.asarray(ImageOps.exif_transpose(held))
        assert near(read_pixels(path), wanted, suffix), orientation
        assert read_size(path) == wanted.shape[:2], orientation


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_transparent_colour_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, SIZE, 1 if mode == "P" else 0)
    if mode == "P":
        image.putpalette([9, 9, 9] * 256)
    image.save(tmp_path / "x.png", transparency=(0, 0, 0) if mode == "RGB" else int(mode == "P"))
    assert (read_pixels(tmp_path / "x.png") == 255).all()


def test_half_transparent_pixels_are_mixed(tmp_path: Path) -> None:
    Image.new("RGBA", SIZE, (0, 0, 0, 128)).save(tmp_path / "x.png")
    assert set(np.unique(read_pixels(tmp_path / "x.png"))) == {127}


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_no_known_range_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, SIZE, 70000).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match=rf"x\.tif cannot be .*mode '{mode}'.*8 bits"):
        read_pixels(tmp_path / "x.tif")


def test_twelve_bits_keep_their_greys(tmp_path: Path) -> None:
    """Two pixels in three bytes, as scientific cameras write them."""
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1)]
    tags += [(279, 3)]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    ifd = struct.pack("<H", len(tags)) + entries + bytes(4)
    start = b"II*\0" + struct.pack("<I", 12)
    (tmp_path / "x.tif").write_bytes(start + b"\x80\x0f\xf0\0" + ifd)  # 0x800, 0xff0
    assert read_pixels(tmp_path / "x.tif")[0, :, 0].tolist() == [0x80, 0xFF]


def test_pages_behind_the_first_do_not_matter(tmp_path: Path) -> None:
    first, second = Image.new("RGB", SIZE, "red"), Image.new("RGB", (3, 3), "blue")
    for name in ("x.tif", "x.webp", "x.png"):
        first.save(tmp_path / name, save_all=True, append_images=[second.resize(SIZE)])
        assert read_pixels(tmp_path / name)[0, 0, 0] > 200 and read_size(tmp_path / name) == (
            20,
            12,
        )


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    example("RGB").save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.jpg")
    assert np.array_equal(read_pixels(tmp_path / "x.jpg"), expected(example("RGB")))
    (tmp_path / "x.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")  # Pillow would run Ghostscript
    with pytest.raises(ImageError, match="does not start like an image"):
        read_pixels(tmp_path / "x.jpg")


# files that cannot be read


def png(width: int, height: int, depth: int = 1, colour: int = 0, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    start = data.find(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 1), (259, 1), (262, 1), (273, 8), (278, height)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def webp(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    body = b"VP8L" + struct.pack("<IBI", 16, 0x2F, bits) + bytes(11)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


BOMBS = {
    "x.jpg": (jpeg(65000, 65000), "65,000 x 65,000"),
    "exif.jpg": (
        jpeg(65000, 65000)[:2] + b"\xff\xe1\0\x08Exif\0\0" + jpeg(65000, 65000)[2:],
        "65,",
    ),
    "x.png": (png(50000, 50000), "50,000 x 50,000"),
    "x.bmp": (bmp(60000, 60000), "60,000 x 60,000"),
    "x.webp": (webp(16000, 16000), "16,000 x 16,000"),
    "x.tif": (tiff(100000, 100000), "100,000 x 100,000"),
    "little.png": (png(8192, 8193), "8,192 x 8,193"),  # Pillow's own limit is higher
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize(
    ("read", "decoder"),
    [(read_pixels, "simplejpeg"), (read_pixels, "pillow"), (read_size, "pillow")],
)
def test_bombs_are_named_with_size_and_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, read: object, decoder: str
) -> None:
    if decoder == "pillow":
        monkeypatch.setattr(pixels, "simplejpeg", None)
    (tmp_path / name).write_bytes(BOMBS[name][0])
    with pytest.raises(ImageError) as error:
        read(tmp_path / name)  # type: ignore[operator]
    message = str(error.value)
    assert str(tmp_path / name) in message and BOMBS[name][1] in message
    assert f"{MAX_PIXELS:,} pixels" in message
    assert "MAX_PIXELS" not in message  # a name in the code is no help


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(8192, 8192))
    assert read_size(tmp_path / "x.jpg") == (8192, 8192)


def saved(suffix: str) -> bytes:
    buffer = io.BytesIO()
    example("RGB").save(buffer, Image.registered_extensions()[suffix])
    return buffer.getvalue()


UNREADABLE = {
    "empty.jpg": (b"", r"is empty \(0 bytes\)"),
    "text.jpg": (b"<html>404</html>", "does not start like an image"),
    "cut.jpg": (saved(".jpg")[:-100], "is damaged"),
    "cut.png": (saved(".png")[:-100], "is damaged"),
    "cut.bmp": (saved(".bmp")[:-100], "is damaged"),
    "cut.webp": (saved(".webp")[:-40], "is damaged"),
    "cut.tif": (saved(".tif")[:-100], "is damaged"),
    "start.jpg": (b"\xff\xd8\xff", "is damaged"),
    "start.png": (b"\x89PNG\r\n\x1a\n", "is damaged"),
    "start.bmp": (b"BM", "is damaged"),
    "start.webp": (b"RIFFxxxxWEBP", "starts like a WebP"),
    "start.tif": (b"II*\0", "is damaged"),
    "sound.webp": (b"RIFFxxxxWAVEfmt ", "starts like a WebP"),
    "flipped.png": (saved(".png")[:60] + b"\0" + saved(".png")[61:], "is damaged"),
    "short.png": (png(9, 9, 8), "is damaged"),
    "nothing.webp": (webp(1, 1)[:12] + b"VP8 " + bytes(14), "0 x 0 pixels"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(UNREADABLE[name][0])
    with pytest.raises(ImageError, match=UNREADABLE[name][1]) as error:
        read_pixels(tmp_path / name)
    assert str(tmp_path / name) in str(error.value) and "BytesIO" not in str(error.value)


@pytest.mark.parametrize("read", [read_pixels, read_size])
def test_paths_without_an_image(tmp_path: Path, read: object) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    reasons = {"folder": "is a folder", "link": r"link to gone\.jpg", "none": "does not exist"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        reasons["pipe"] = "pipe or a device"
    for name, why in reasons.items():
        with pytest.raises(ImageError, match=rf"{name}\.jpg cannot be read .*{why}"):
            read(tmp_path / f"{name}.jpg")  # type: ignore[operator]


def test_files_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.jpg").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match=r"x\.jpg cannot be read .*: Permission denied"):
        read_pixels(tmp_path / "x.jpg")


@pytest.mark.filterwarnings("ignore")  # Pillow's, about EXIF and TIFF tags
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("read", [read_pixels, read_size])
def test_arbitrary_damage_ends_in_pixels_or_one_error(
    tmp_path: Path, suffix: str, read: object
) -> None:
    rng, whole, path = np.random.default_rng(0), saved(suffix), tmp_path / f"x{suffix}"
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data[: rng.integers(1, len(data) + 1)])
        try:
            read(path)  # type: ignore[operator]
        except ImageError as error:
            assert str(error).startswith(f"{path} cannot be read")


# names and folders


def test_names_are_shown_in_one_line_of_utf8() -> None:
    assert escaped("/a/Zoë 東京.jpg") == "/a/Zoë 東京.jpg"
    assert escaped("two\nlines\t.jpg") == "two\\nlines\\t.jpg"
    assert escaped(os.fsdecode(b"Andr\xe9")).encode("utf-8")


def test_a_mixed_folder(tmp_path: Path) -> None:
    names = [
        "a.jpg",
        "b/B.TIFF",
        "b/c.gif",
        "b/d.heic",
        "e.GIF",
        "notes",
        ".hidden.jpg",
        "Thumbs.db",
    ]
    names += [".thumbs/a.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    found, note = find_images(tmp_path)
    assert [path.name for path in found] == ["a.jpg", "B.TIFF"]
    assert note.startswith("4 files are skipped") and "(2 .gif, 1 .heic, 1 no ending)" in note
    assert skipped_note(["a.png", ".x", "desktop.ini"]) == ""
    assert is_image("A.WEBP") and not is_image("a.gif")
