"""Files to pixels, the same for training, serving and looking at them; without torch.

JPEG, PNG, BMP, WebP and TIFF, recognised by their first bytes, not by the file's name.
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
from reid_lab.files.image_files import escaped

try:
    import simplejpeg
except ImportError:  # the runtime may lack it; Pillow decodes, too, at half the speed
    simplejpeg = None

MAX_PIXELS = 1 << 26  # 67 million: more than a 60-megapixel camera's; 201 MB when decoded
BACKGROUND = "white"  # what is seen through transparent pixels
JPEG = b"\xff\xd8\xff"
KINDS: dict[bytes, type[ImageFile]] = {  # by first bytes, and what reads it
    JPEG: JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"BM": BmpImageFile,
    b"RIFF": WebPImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
}
# without one of these, which are cheaper to search for than to read, an image is upright
METADATA: dict[type[ImageFile], tuple[bytes, ...]] = {
    JpegImageFile: (b"Exif\0", b"tiff:Orientation"),
    PngImageFile: (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp"),
}
WIDTH, HEIGHT, BITS, ORIENTATION = 0x0100, 0x0101, 0x0102, 0x0112  # tags of TIFF and EXIF
ON_A_SIDE = range(5, 9)  # orientations in which rows are columns
PLAIN = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}
ALPHA = {"LA", "PA", "RGBA", "RGBa"}


class ImageError(UserError):
    """A file that cannot be used as an image: which one, why, and what to do."""


class _UnusableError(ValueError):
    """Why, and what to do; without the file's name."""


def read_pixels(path: Path) -> np.ndarray:
    """The image in a file as it is to be shown, (H, W, 3) uint8 RGB.

    Turned as its EXIF says; transparent pixels on white; of 16 bits a pixel the upper 8; the
    first one of several.

    Raises:
        ImageError: the file is missing, broken, no image, or has more than `MAX_PIXELS`.
    """
    with _explained(path):
        data = _checked(path).read_bytes()
        if simplejpeg is not None and data.startswith(JPEG):
            return _read_jpeg(data)
        image = _opened(io.BytesIO(data))
        image.load()
        # Pillow turns a TIFF when it loads it
        orientation = 1 if isinstance(image, TiffImageFile) else _orientation(image)
        return _turned(_rgb(image), orientation)


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of what `read_pixels` gives, from the file's header.

    Raises:
        ImageError: as `read_pixels`, except that damage behind the header is only found in PNGs.
    """
    with _explained(path), _checked(path).open("rb") as file:
        image = _opened(file)
        width, height = _size(image)
        # the EXIF of a PNG may stand behind its pixels, and Pillow decodes them to look for it
        if isinstance(image, PngImageFile) and not _has_metadata(path.read_bytes(), PngImageFile):
            return height, width
        lies = _orientation(image) in ON_A_SIDE
    return (width, height) if lies else (height, width)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Every error as an `ImageError` that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # what decoders raise for arbitrary bytes is not settled
        why = _reason(error)
        raise ImageError(f"{escaped(path)} cannot be read as an image: {why}") from error


def _checked(path: Path) -> Path:
    """`path`, if it is a file: to open a pipe would wait for ever, and a device has no end."""
    if path.is_file():
        return path
    if path.is_dir():
        raise _UnusableError("it is a folder. Give image files")
    if path.exists():
        raise _UnusableError("it is a pipe or a device. Give image files")
    target = f" (it is a link to {escaped(path.readlink())})" if path.is_symlink() else ""
    raise _UnusableError(f"it does not exist{target}. Correct the path")


def _reason(error: Exception) -> str:
    if isinstance(error, _UnusableError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}. Check the file and its permissions"
    return f"it is damaged ({error or type(error).__name__}). Replace or remove it"


def _opened(file: BinaryIO) -> ImageFile:
    """The image in `file`, of which only the header was read.

    Not `Image.open`: that tries dozens of other formats, and has a limit of its own.

    Raises:
        _UnusableError: no image of a kind that is read here, or too large.
    """
    file.seek(0)
    start = file.read(30)
    kind = next((kind for magic, kind in KINDS.items() if start.startswith(magic)), None)
    if kind is None:
        what = "it does not begin as an image does" if start else "it is empty (0 bytes)"
        raise _UnusableError(
            f"{what}. Replace or remove it; JPEG, PNG, BMP, WebP and TIFF are read"
        )
    if kind is WebPImageFile:  # Pillow makes room for the pixels when it opens one
        _check_size(*_webp_size(start))
    file.seek(0)
    image = kind(file)
    _check_size(*_size(image))
    if isinstance(image, PngImageFile):  # its checksums, which decoding does not look at
        image.verify()
        file.seek(0)
        image = kind(file)
    return image


def _check_size(width: int, height: int) -> None:
    """Whether an image of that size is decoded.

    Raises:
        _UnusableError: it has no pixels, or more than `MAX_PIXELS`.
    """
    if width < 1 or height < 1:
        raise _UnusableError(f"it is {width} x {height} pixels. Replace or remove it")
    if width * height > MAX_PIXELS:
        raise _UnusableError(
            f"it is {width:,} x {height:,} pixels; the limit is {MAX_PIXELS:,} pixels "
            "(reid_lab.files.pixels.MAX_PIXELS). Scale it down or cut people out"
        )


def _read_jpeg(data: bytes) -> np.ndarray:
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height)
    decoded = simplejpeg.decode_jpeg(data, colorspace="RGB")
    if not _has_metadata(data, JpegImageFile):
        result: np.ndarray = decoded
        return result
    return _turned(decoded, _orientation(JpegImageFile(io.BytesIO(data))))


def _has_metadata(data: bytes, kind: type[ImageFile]) -> bool:
    return any(segment in data for segment in METADATA[kind])


def _size(image: ImageFile) -> tuple[int, int]:
    """Width and height as they are stored; newer versions of Pillow give a TIFF's turned."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[WIDTH]), int(image.tag_v2[HEIGHT])
    return image.size


def _webp_size(start: bytes) -> tuple[int, int]:
    """Width and height in the first 30 bytes of a WebP, in each of its three forms."""
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
    raise _UnusableError("it begins as a WebP does and is none. Replace or remove it")


def _orientation(image: ImageFile) -> int:
    """How the camera was held, 1 to 8; 1 is upright."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF turns nothing
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in ON_A_SIDE:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _rgb(image: ImageFile) -> np.ndarray:
    """(H, W, 3) uint8 of any mode that has 1, 8 or 16 bits a channel.

    Raises:
        _UnusableError: another mode.
    """
    # older versions of Pillow read the 16 bits of a PNG into 32
    if image.mode.startswith("I;16") or (image.mode == "I" and isinstance(image, PngImageFile)):
        grey = (np.asarray(image) >> (_bits(image) - 8)).astype(np.uint8)
        return np.stack([grey] * 3, axis=2)
    if image.mode in ALPHA or (image.mode in PLAIN and "transparency" in image.info):
        layer = image.convert("RGBA")
        page = Image.new("RGBA", layer.size, BACKGROUND)
        return np.array(Image.alpha_composite(page, layer).convert("RGB"))
    if image.mode not in PLAIN:
        raise _UnusableError(
            f"its pixels are of Pillow's mode {image.mode!r}, which has no one meaning in RGB. "
            "Save it with 8 bits a channel"
        )
    return np.array(image.convert("RGB"))


def _bits(image: ImageFile) -> int:
    """Of a grey pixel in 16: a TIFF may use 12."""
    return int(image.tag_v2.get(BITS, (16,))[0]) if isinstance(image, TiffImageFile) else 16
