"""`python -m reid_lab.runtime FOLDER IMAGES... --out embeddings.npz`; see `--help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reid_lab.errors import UserError
from reid_lab.runtime.gallery import Gallery
from reid_lab.runtime.images import read
from reid_lab.runtime.model import Model


def main(argv: Sequence[str] | None = None) -> int:
    """0: done; 1: the user's error, told in one message; 130: interrupted."""
    args = _parse(argv)
    try:
        model = Model(args.folder, args.threads)
        paths = [path.absolute() for path in args.images]
        if args.gallery:
            _search(model, paths, args)
        if args.out:
            exits = model.embed_files(paths, args.batch_size)
            _save(args.out, exits, paths, model.manifest.fingerprint)
            print(f"{args.out}: {len(paths)} images, exits {', '.join(exits)}")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _save(path: Path, exits: dict[str, np.ndarray], images: list[Path], fingerprint: str) -> None:
    """An array for each exit, `paths`, and the `fingerprint` that says what they compare with."""
    with path.open("wb") as file:  # numpy would append .npz to another name
        np.savez(file, **exits, paths=np.array([*map(str, images)]), fingerprint=fingerprint)  # type: ignore[arg-type]


def _search(model: Model, paths: list[Path], args: argparse.Namespace) -> None:
    """A line for each match: image, place, distance, pid, camid, path."""
    gallery = Gallery.open(args.gallery, model.manifest)
    for start in range(0, len(paths), args.batch_size):
        batch = paths[start : start + args.batch_size]
        rows = model.embed_until(read(batch, model.image), gallery.exit)
        for path, near, which in zip(batch, *gallery.search(rows, args.top), strict=True):
            for place, (distance, row) in enumerate(zip(near, which, strict=True), 1):
                who = f"{gallery.pids[row]}\t{gallery.camids[row]}\t{gallery.paths[row]}"
                print(f"{path}\t{place}\t{distance:.4f}\t{who}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m reid_lab.runtime")
    parser.description = "Embed images with an exported network: onnxruntime, no torch."
    parser.add_argument("folder", type=Path, help="of the export")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="write every exit's embeddings, .npz")
    parser.add_argument("--gallery", type=Path, help="print who is found in a saved gallery")
    parser.add_argument("--top", type=int, default=10, help="matches of each, %(default)s")
    parser.add_argument("--batch-size", type=int, default=32, help="%(default)s")
    parser.add_argument("--threads", type=int, default=0, help="0 takes all cores")
    args = parser.parse_args(argv)
    if not (args.out or args.gallery):
        parser.error("nothing to do: give --out, --gallery, or both")
    if min(args.batch_size, args.top) < 1 or args.threads < 0:
        parser.error("--batch-size and --top are at least 1, --threads at least 0")
    return args


if __name__ == "__main__":
    sys.exit(main())
