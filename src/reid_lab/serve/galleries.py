"""Saved galleries for the start of a service: one per exit, with the same images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reid_lab.errors import UserError, with_options
from reid_lab.runtime.gallery import Gallery
from reid_lab.runtime.manifest import Manifest


def open_galleries(
    folders: Sequence[Path], manifest: Manifest, metric: str | None = None
) -> dict[str, Gallery]:
    """The galleries in `folders` by exit, in the network's order.

    Args:
        metric: required metric; None: any.

    Raises:
        UserError: galleries of another network or of different images or metrics, two of one exit,
            or none of the last exit.
    """
    opened: dict[str, Gallery] = {}
    for gallery in (Gallery.open(folder, manifest) for folder in folders):
        if other := opened.get(gallery.exit):
            raise UserError(
                f"{other.folder} and {gallery.folder} are both of exit {gallery.exit}: give one "
                "gallery for each exit"
            )
        opened[gallery.exit] = gallery
    last = [e.name for e in manifest.exits if e.stream or e is manifest.exits[-1]][-1]
    if opened and last not in opened:
        raise UserError(
            f"the galleries are of {', '.join(opened)}; one of {last}, at which the last "
            f"queries exit, is missing: reid-lab gallery build --exit {last}"
        )
    metrics = {g.card.metric for g in opened.values()} | ({metric} if metric else set())
    if len(metrics) > 1:
        text = f"metric are of {', '.join(sorted(metrics))}: use one"
        raise with_options(UserError(f"galleries and {text}"), f"the galleries and --{text}")
    galleries = {name: opened[name] for name in manifest.names if name in opened}
    for name, gallery in galleries.items():
        first = galleries[last]
        if gallery.paths() != first.paths() or (gallery.pids != first.pids).any():
            raise UserError(
                f"{gallery.folder} (exit {name}) and {first.folder} (exit {first.exit}) hold "
                "different images: build both from the same folder"
            )
    return galleries


def check_metric(galleries: dict[str, Gallery], path: Path, metric: str) -> None:
    """Raises:
    UserError: the galleries have another metric than a file of people.
    """
    for gallery in galleries.values():
        if gallery.card.metric != metric:
            raise UserError(f"{path} is of the metric {metric}, not {gallery.card.metric}")
