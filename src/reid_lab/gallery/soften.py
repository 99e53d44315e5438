"""`reid-lab soften`: a classifier's logits for some images, softened and drawn."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import torch
from rich.text import Text

from reid_lab.checkpoint import open_model
from reid_lab.cost.machine import find_device
from reid_lab.errors import UserError
from reid_lab.files.outputs import check_writable
from reid_lab.gallery import show
from reid_lab.gallery.embedder import decoded_batches
from reid_lab.gallery.image_lists import read_images
from reid_lab.output.console import stdout
from reid_lab.report.softened import entropy, gap, softened, write_softened


def run(args: Namespace) -> int:
    """Write `softened.csv` and `softened.png`, and print the means over the images."""
    check_writable(args.out)
    images, _ = read_images(args.images)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(args.count, len(images))).astype(int))
    model, size, _ = open_model(args.checkpoint)
    model = model.to(find_device(args.device))
    names, rows = [], []
    for batch in decoded_batches([images[i] for i in chosen], size, args.batch_size):
        show.broken(batch.broken)
        if batch.images:
            pixels = torch.from_numpy(batch.pixels).to(model.device)
            with torch.no_grad():
                logits = model.outputs(model.prepared(pixels)).logits
            rows.append(_of(logits, args.exit, args.checkpoint).float().cpu().numpy())
            names += [image.path.name for image in batch.images]
    if not rows:
        raise UserError(f"none of {len(chosen)} images could be read: nothing is written")
    found = np.concatenate(rows)
    for temperature in args.temperatures:
        each = softened(found, temperature)
        means = [np.mean([measure(p) for p in each]) for measure in (np.max, gap, entropy)]
        stdout.print(
            f"T = {temperature:g}: largest {means[0]:.2%}, above the others {means[1]:.2%}, "
            f"entropy {means[2]:.1%} of the largest possible",
            highlight=False,
            soft_wrap=True,
        )
    for path in write_softened(args.out, names, found, args.temperatures):
        stdout.print(Text(f"Written: {path}"), soft_wrap=True)
    return 0


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
