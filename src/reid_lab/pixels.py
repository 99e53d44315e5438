"""Files to pixels, the same for training, serving and looking at them; without torch."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

try:
    import simplejpeg
except ImportError:  # the runtime may lack it; Pillow decodes, too, at half the speed
    simplejpeg = None

# what Pillow and simplejpeg raise for a file that is missing, broken or no image
UNREADABLE = (OSError, ValueError, SyntaxError)
JPEG, EXIF = b"\xff\xd8", b"Exif\0\0"
EXIF_WITHIN = 1 << 16  # a JPEG's EXIF is its first segment
ORIENTATION = 0x0112  # the EXIF tag of how the camera was held: 1 is upright
ON_A_SIDE = range(5, 9)


def read_pixels(path: Path) -> np.ndarray:
    """The image in a file as it is to be shown, (H, W, 3) uint8 RGB.

    Turned as its EXIF says; of 16 bits a pixel the upper 8.

    Raises:
        UNREADABLE: the file is missing, broken, or no image.
    """
    data = path.read_bytes()
    if simplejpeg is not None and data[:2] == JPEG and _upright(data):
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I;16"):
            return np.stack([(np.asarray(image) >> 8).astype(np.uint8)] * 3, axis=2)
        upright = image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
        return np.array(upright.convert("RGB"))


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of what `read_pixels` gives, without decoding it.

    Raises:
        UNREADABLE: the file is missing, or does not begin as an image does.
    """
    with Image.open(path) as image:
        width, height = image.size
        lies = _orientation(image) in ON_A_SIDE
        image.verify()  # of a PNG all checksums
    return (width, height) if lies else (height, width)


def _upright(jpeg: bytes) -> bool:
    # most have no EXIF, and looking for it is cheaper than reading it
    return EXIF not in jpeg[:EXIF_WITHIN] or _orientation(Image.open(io.BytesIO(jpeg))) == 1


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # what Pillow raises for broken EXIF is not settled: it turns nothing
        return 1
