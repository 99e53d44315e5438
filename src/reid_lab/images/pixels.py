"""Decode image files to RGB pixels: JPEG, PNG, BMP, WebP and TIFF. Without torch.

Formats are recognised by the first bytes, not by the file's name.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from reid_lab.errors import UserError
from reid_lab.files.regular import escaped

try:
    import simplejpeg
except ImportError:  # optional: Pillow decodes, too, at half the speed
    simplejpeg = None

MAX_PIXELS = 1 << 26  # 67 million, more than a 60-megapixel camera; 201 MB decoded
BACKGROUND = "white"  # behind transparent pixels
JPEG = b"\xff\xd8\xff"
KINDS: dict[bytes, type[ImageFile]] = {  # first bytes -> Pillow's decoder
    JPEG: JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"BM": BmpImageFile,
    b"RIFF": WebPImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
}
OTHERS = (  # offset and value of the first bytes, name
    (0, b"GIF8", "a GIF"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyphe", "a HEIC"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (0, b"<svg", "an SVG"),
    (0, b"<?xml", "an SVG or another XML file"),
    (0, b"%PDF", "a PDF"),
)
# an image without any of these is upright; searching is cheaper than parsing
METADATA: dict[type[ImageFile], tuple[bytes, ...]] = {
    JpegImageFile: (b"Exif\0", b"tiff:Orientation"),
    PngImageFile: (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp"),
}
WIDTH, HEIGHT, BITS, ORIENTATION = 0x0100, 0x0101, 0x0102, 0x0112  # TIFF and EXIF tags
TRANSPOSED = range(5, 9)  # orientations that swap rows and columns
PLAIN = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}
ALPHA = {"LA", "PA", "RGBA", "RGBa"}


class ImageError(UserError):
    """A file cannot be read as an image; the message says which, why, and how to fix it."""


class ImageTooLargeError(ImageError):
    """An image of more pixels than are allowed."""


class _UnusableError(ValueError):
    """The reason why a file cannot be read and the fix, without the file's name."""


class _TooLargeError(_UnusableError):
    """It has too many pixels."""


def read_pixels(path: Path) -> np.ndarray:
    """Decode an image file: (H, W, 3) uint8 RGB.

    EXIF orientation is applied; transparent pixels are blended with white; 16-bit grey is reduced
    to its upper 8 bits; of several images in a file, the first is read.

    Raises:
        ImageError: the file is missing, damaged, not an image, or has more than `MAX_PIXELS`.
    """
    with _explained(path):
        return _decoded(_checked(path).read_bytes())


def decode_pixels(data: bytes, name: str, limit: int = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of an image file as `read_pixels`: (H, W, 3) uint8 RGB.

    Args:
        name: name of the image, for messages.
        limit: most pixels of the image, at most `MAX_PIXELS`.

    Raises:
        ImageTooLargeError: too many pixels.
        ImageError: damaged, or not an image.
    """
    with _explained(Path(name)):
        return _decoded(data, limit)


def _decoded(data: bytes, limit: int = MAX_PIXELS) -> np.ndarray:
    if simplejpeg is not None and data.startswith(JPEG):
        return _read_jpeg(data, limit)
    image = _opened(io.BytesIO(data), limit)
    image.load()
    # Pillow applies a TIFF's orientation itself
    orientation = 1 if isinstance(image, TiffImageFile) else _orientation(image)
    return _upright(_rgb(image), orientation)


def read_size(path: Path) -> tuple[int, int]:
    """Read (height, width) of `read_pixels`'s result from the file's header.

    Raises:
        ImageError: as `read_pixels`; damage behind the header is found in PNGs only.
    """
    with _explained(path), _checked(path).open("rb") as file:
        image = _opened(file)
        width, height = _size(image)
        # EXIF of a PNG may follow the pixels, and Pillow would decode them to find it
        if isinstance(image, PngImageFile) and not _has_metadata(path.read_bytes(), PngImageFile):
            return height, width
        transposed = _orientation(image) in TRANSPOSED
    return (width, height) if transposed else (height, width)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn any error into an `ImageError` that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # decoders raise errors of any kind for arbitrary bytes
        why = _reason(error)
        kind = ImageTooLargeError if isinstance(error, _TooLargeError) else ImageError
        raise kind(f"{escaped(path)} cannot be read as an image: {why}") from error


def _checked(path: Path) -> Path:
    """Return `path` if it is a regular file: reading a pipe or device might never end."""
    if path.is_file():
        return path
    if path.is_dir():
        raise _UnusableError("it is a folder. Expected an image file")
    if path.exists():
        raise _UnusableError("it is a pipe or a device. Expected an image file")
    target = f" (it is a link to {escaped(path.readlink())})" if path.is_symlink() else ""
    raise _UnusableError(f"it does not exist{target}. Correct the path")


def _reason(error: Exception) -> str:
    if isinstance(error, _UnusableError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}. Check the file and its permissions"
    return f"it is damaged ({error or type(error).__name__}). Replace or remove it"


def _opened(file: BinaryIO, limit: int = MAX_PIXELS) -> ImageFile:
    """Open an image and read its header only.

    Not by `Image.open`, which tries dozens of other formats and has its own size limit.

    Raises:
        _UnusableError: the format is unknown, or the image is too large.
    """
    file.seek(0)
    start = file.read(30)
    kind = next((kind for magic, kind in KINDS.items() if start.startswith(magic)), None)
    if kind is None:
        raise _UnusableError(f"{_other(start)}; supported: JPEG, PNG, BMP, WebP, TIFF")
    if kind is WebPImageFile:  # Pillow allocates the pixels when it opens one
        _check_size(*_webp_size(start), limit)
    file.seek(0)
    image = kind(file)
    _check_size(*_size(image), limit)
    if isinstance(image, PngImageFile):  # its checksums, which decoding ignores
        image.verify()
        file.seek(0)
        image = kind(file)
    return image


def _other(start: bytes) -> str:
    """The format of a file by its first bytes, and advice, if it is not supported."""
    if not start:
        return "it is empty (0 bytes). Replace or remove it"
    found = next((name for offset, magic, name in OTHERS if start[offset:].startswith(magic)), None)
    if found is None:
        return "it does not start like an image. Replace or remove it"
    return f"it is {found}, which is not read. Convert it"


def _check_size(width: int, height: int, limit: int = MAX_PIXELS) -> None:
    """Check the size of an image.

    Raises:
        _UnusableError: no pixels.
        _TooLargeError: more than `limit`.
    """
    if width < 1 or height < 1:
        raise _UnusableError(f"it is {width} x {height} pixels. Replace or remove it")
    if width * height > limit:
        raise _TooLargeError(
            f"it is {width:,} x {height:,} pixels; the limit is {limit:,} pixels. Resize or crop it"
        )


def _read_jpeg(data: bytes, limit: int) -> np.ndarray:
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height, limit)
    decoded = simplejpeg.decode_jpeg(data, colorspace="RGB")
    if not _has_metadata(data, JpegImageFile):
        result: np.ndarray = decoded
        return result
    return _upright(decoded, _orientation(JpegImageFile(io.BytesIO(data))))


def _has_metadata(data: bytes, kind: type[ImageFile]) -> bool:
    return any(segment in data for segment in METADATA[kind])


def _size(image: ImageFile) -> tuple[int, int]:
    """Return the stored width and height; newer Pillow swaps those of a rotated TIFF."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[WIDTH]), int(image.tag_v2[HEIGHT])
    return image.size


def _webp_size(start: bytes) -> tuple[int, int]:
    """Read width and height from the first 30 bytes of a WebP, in its three variants."""
    form = start[8:16]
    if form == b"WEBPVP8X":
        return 1 + int.from_bytes(start[24:27], "little"), 1 + int.from_bytes(
            start[27:30], "little"
        )
    if form == b"WEBPVP8L":
        bits = int.from_bytes(start[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if form == b"WEBPVP8 ":
        sides = int.from_bytes(start[26:28], "little"), int.from_bytes(start[28:30], "little")
        return sides[0] & 0x3FFF, sides[1] & 0x3FFF
    raise _UnusableError("it starts like a WebP but is not one. Replace or remove it")


def _orientation(image: ImageFile) -> int:
    """Read the EXIF orientation, 1 to 8; 1 is upright."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # ignore broken EXIF
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation."""
    if orientation in TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _rgb(image: ImageFile) -> np.ndarray:
    """Convert an image of 1, 8 or 16 bits per channel to (H, W, 3) uint8.

    Raises:
        _UnusableError: the mode is not supported.
    """
    # older Pillow reads a 16-bit PNG into 32 bits
    if image.mode.startswith("I;16") or (image.mode == "I" and isinstance(image, PngImageFile)):
        grey = (np.asarray(image) >> (_bits(image) - 8)).astype(np.uint8)
        return np.stack([grey] * 3, axis=2)
    if image.mode in ALPHA or (image.mode in PLAIN and "transparency" in image.info):
        layer = image.convert("RGBA")
        page = Image.new("RGBA", layer.size, BACKGROUND)
        return np.array(Image.alpha_composite(page, layer).convert("RGB"))
    if image.mode not in PLAIN:
        raise _UnusableError(
            f"its pixels are of Pillow's mode {image.mode!r}, which cannot be converted to RGB. "
            "Save it with 8 bits a channel"
        )
    return np.array(image.convert("RGB"))


def _bits(image: ImageFile) -> int:
    """Return the bits of a grey pixel: 16, or as given in a TIFF, for example 12."""
    return int(image.tag_v2.get(BITS, (16,))[0]) if isinstance(image, TiffImageFile) else 16
