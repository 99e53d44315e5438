"""Where HAN's regions lie, and how far they move from image to image.

python -m experiments.han_synthetic LABEL=RUN ...

reads the last checkpoint of each run, and writes `regions.csv`: for each run, level and region the
mean and the standard deviation, over the query images, of the box's centre as a share of the
image's height (down) and width (right).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from experiments.tables import write
from reid_lab.checkpoint import load_model
from reid_lab.config.paths import register_resolvers
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.transforms import normalise
from reid_lab.model import HAN

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.han_synthetic")
    parser.add_argument("runs", nargs="+", metavar="LABEL=RUN")
    rows: list[dict[str, Any]] = []
    for given in parser.parse_args().runs:
        label, _, folder = given.partition("=")
        rows += [{"run": label, **row} for row in regions(*read(Path(folder)))]
    write(HERE / "regions.csv", rows)


def read(run: Path) -> tuple[HAN, ReidDataModule]:
    register_resolvers()
    config = OmegaConf.load(run / "config.yaml")
    model = load_model(run / "checkpoints" / "last.ckpt")
    assert isinstance(model, HAN)
    return model, instantiate(config.dataset)


def regions(model: HAN, data: ReidDataModule) -> Iterator[dict[str, Any]]:
    """A row for each level and region of the local branch."""
    for level, centres in enumerate(centres_of(model, data), 1):
        for region, of_images in enumerate(centres.unbind(1), 1):
            mean, deviation = of_images.mean(0).tolist(), of_images.std(0).tolist()
            yield {
                "level": level,
                "region": region,
                "right": mean[0],
                "down": mean[1],
                "right_deviation": deviation[0],
                "down_deviation": deviation[1],
            }


@torch.no_grad()
def centres_of(model: HAN, data: ReidDataModule) -> list[Tensor]:
    """Centres (queries, regions, 2) of the boxes of each level, as x and y."""
    queries = len(data.splits("test")[0])
    found: list[list[Tensor]] = []
    for batch in data.test_dataloader():  # queries first
        images = normalise(batch["pixels"][:, 0])  # one view
        boxes = [boxes for _, boxes in model.attention_maps(images)]
        found.append([(box[..., :2] + box[..., 2:]) / 2 for box in boxes])
    return [torch.cat(level)[:queries] for level in zip(*found, strict=True)]


if __name__ == "__main__":
    main()
