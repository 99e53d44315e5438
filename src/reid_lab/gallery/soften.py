"""A classifier's logits for some images, softened and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from reid_lab.checkpoint import open_model
from reid_lab.cost.machine import find_device
from reid_lab.errors import UserError, first
from reid_lab.files.outputs import check_writable
from reid_lab.gallery.build import LISTED
from reid_lab.gallery.embedder import decoded_batches
from reid_lab.gallery.image_lists import read_images
from reid_lab.output import arguments
from reid_lab.output.arguments import check_whole, numbers
from reid_lab.report.softened import entropy, gap, softened, write_softened

FIGURE_5 = (1.0, 3.0, 5.0, 10.0, 20.0, 30.0)  # temperatures of the distillation paper's figure


@dataclass(frozen=True)
class SoftenedMeans:
    """Means over the images of the probabilities at one temperature, as shares.

    Attributes:
        temperature: T of equation 1.
        largest: largest probability.
        gap: largest probability above the mean of the others.
        entropy: entropy, divided by the largest possible one.
    """

    temperature: float
    largest: float
    gap: float
    entropy: float


@dataclass(frozen=True)
class SoftenResult:
    """What `soften_images` wrote.

    Attributes:
        files: the table and the figure.
        means: one per temperature.
        broken: a message for each image that could not be read and was left out.
    """

    files: list[Path]
    means: list[SoftenedMeans]
    broken: list[str] = field(default_factory=list)


def soften_images(
    images: Path | str,
    checkpoint: Path | str,
    out: Path | str,
    *,
    temperatures: Sequence[float] = FIGURE_5,
    exit: str | None = None,
    count: int = 4,
    batch_size: int = 64,
    device: str = "auto",
) -> SoftenResult:
    """Write a classifier's probabilities for some images at several temperatures.

    Args:
        images: folder, CSV file or image, as of `embed_to_file`.
        checkpoint: checkpoint of a classifier.
        out: folder of `softened.csv`, and of `softened.png` with the first four images.
        temperatures: temperatures above 0.
        exit: exit with a classifier; None takes the last one.
        count: number of images, spread evenly over all.
        batch_size: images at a time.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.

    Raises:
        UserError: no images, none that can be read, no classifier, a temperature that is not above
            0, `out` cannot be written, or no such device.
    """
    check_whole("count", count)
    check_whole("batch_size", batch_size)
    chosen_at = numbers("temperatures", temperatures)
    if wrong := [t for t in chosen_at if not 0 < t < np.inf]:
        raise UserError(f"temperatures: {wrong[0]!r} is not a finite number above 0")
    images, checkpoint = arguments.path("images", images), arguments.path("checkpoint", checkpoint)
    out = arguments.path("out", out)
    check_writable(out)
    listed, _ = read_images(images)
    chosen = np.unique(np.linspace(0, len(listed) - 1, min(count, len(listed))).astype(int))
    model, size, _ = open_model(checkpoint)
    model = model.to(find_device(device))
    names, rows, broken = list[str](), [], list[str]()
    for batch in decoded_batches([listed[i] for i in chosen], size, batch_size):
        broken += batch.broken
        if batch.images:
            pixels = torch.from_numpy(batch.pixels).to(model.device)
            with torch.no_grad():
                logits = model.outputs(model.prepared(pixels)).logits
            rows.append(_of(logits, exit, checkpoint).float().cpu().numpy())
            names += [image.path.name for image in batch.images]
    if not rows:
        reasons = "".join(f"\n  {line}" for line in first(broken, LISTED))
        raise UserError(f"none of {len(chosen)} images could be read: nothing is written{reasons}")
    found = np.concatenate(rows)
    files = write_softened(out, names, found, chosen_at)
    return SoftenResult(files, [_means(found, t) for t in chosen_at], broken)


def _means(logits: np.ndarray, temperature: float) -> SoftenedMeans:
    each = softened(logits, temperature)
    largest, above, spread = (
        float(np.mean([measure(p) for p in each])) for measure in (np.max, gap, entropy)
    )
    return SoftenedMeans(temperature, largest, above, spread)


def _of(logits: dict[str, torch.Tensor], exit: str | None, checkpoint: object) -> torch.Tensor:
    """
    Raises:
        UserError: no exit has a classifier, or not that one.
    """
    if not logits:
        raise UserError(f"{checkpoint} has no classifier: give one of model=classifier, pla, bot")
    if exit is not None and exit not in logits:
        raise UserError(f"exit {exit!r} has no classifier; available: {', '.join(logits)}")
    return logits[exit or list(logits)[-1]]
