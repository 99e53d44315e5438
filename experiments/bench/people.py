"""Write random images in Market-1501's layout: 128x64 JPEGs of about 4 KB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from reid_lab.dataset import Benchmark, read_layout

IDENTITIES, EACH, CAMERAS = 96, 32, 6


def write_people(root: Path, seed: int = 0) -> Benchmark:
    """Write 3,072 training images of coarse noise, and two test people."""
    rng = np.random.default_rng(seed)
    people = [(f"bounding_box_train/{p:04}", EACH) for p in range(1, IDENTITIES + 1)]
    people += [(f"{part}/{p}", 2) for part in ("query", "bounding_box_test") for p in (1001, 1002)]
    names = [
        f"{person}_c{i % CAMERAS + 1}s1_{i:06}_00.jpg"
        for person, images in people
        for i in range(images)
    ]
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (16, 8, 3), np.uint8))
        pixels = np.array(coarse.resize((64, 128), Image.Resampling.BICUBIC))
        path.write_bytes(simplejpeg.encode_jpeg(pixels, quality=90))
    return read_layout(root, "bench")
