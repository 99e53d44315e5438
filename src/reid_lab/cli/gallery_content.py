"""What `reid-lab gallery people`, `info` and `remove` print. They do not import torch, which is
slow, except to remove images from an approximate index.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

import numpy as np

from reid_lab.cli.show import gallery_content as show
from reid_lab.gallery.content import remove_images
from reid_lab.gallery_format.rows import GalleryRows


def info(args: Namespace) -> int:
    show.info(GalleryRows.open_rows(args.gallery))
    return 0


def people(args: Namespace) -> int:
    gallery = GalleryRows.open_rows(args.gallery)
    show.people(gallery, np.flatnonzero(gallery.select(args.where)))
    return 0


def remove(args: Namespace) -> int:
    result = remove_images(
        args.gallery, people=args.pid, files=args.file, where=args.where, dry_run=args.dry_run
    )
    show.removed(result.before, result.rows, args.dry_run)
    return 0


ACTIONS: dict[str, Callable[[Namespace], int]] = {"info": info, "people": people, "remove": remove}
