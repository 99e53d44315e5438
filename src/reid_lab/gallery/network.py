"""The network whose embeddings can be compared with those of a gallery."""

from __future__ import annotations

import warnings
from pathlib import Path

from reid_lab.errors import SpaceWarning, UserError, with_options
from reid_lab.gallery.embedder import Embedder
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.card import GalleryError
from reid_lab.output import arguments


def no_checkpoint() -> UserError:
    """The error of images without a network."""
    text = "images are embedded by a network: give"
    return with_options(UserError(f"{text} a checkpoint"), f"{text} --checkpoint")


def network_of(
    gallery: SavedGallery, checkpoint: Path | str | None, exit: str, device: str = "auto"
) -> Embedder:
    """The network that made `gallery`, up to `exit`.

    Raises:
        UserError: no checkpoint, another model, or one that was trained for another image size.
    """
    if checkpoint is None:
        raise no_checkpoint()
    embedder = Embedder.load(
        arguments.path("checkpoint", checkpoint), exit, device, check=gallery.check_model
    )
    if embedder.image != gallery.card.image:
        raise GalleryError(
            f"{gallery.folder} was built from images of {gallery.card.image}, {checkpoint} "
            f"takes {embedder.image}: build another gallery"
        )
    return embedder


def warn_of_space(embedder: Embedder, checkpoint: Path | str) -> None:
    """Warn if the network's early exits do not fit its shared space."""
    if embedder.model.space_problem:
        text = f"{checkpoint}: {embedder.model.space_problem}"
        warnings.warn(text, SpaceWarning, stacklevel=3)
