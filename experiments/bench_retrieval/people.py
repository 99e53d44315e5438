"""Random features of synthetic people, about as hard to rank as those of real people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.bench_retrieval.sizes import Size

BLOCK = 8192  # rows at a time
ALIKE, CLOTHES = 6, 1.0  # people who share clothes; weight of the clothes (the person has 1)
CAMERA = 0.35  # length of a camera's offset
CLEAR, BLURRED, SELDOM = 0.5, 10.0, 6  # least and most noise; larger SELDOM: fewer noisy images


@dataclass(frozen=True)
class FeatureSet:
    """`features` (N, D) float32 of length 1, `pids` and `camids` (N,) int64."""

    features: Tensor
    pids: Tensor
    camids: Tensor


@dataclass(frozen=True)
class People:
    """Query and gallery features of one size."""

    query: FeatureSet
    gallery: FeatureSet
    size: Size

    def save(self, path: Path) -> None:
        torch.save(asdict(self), path)

    @staticmethod
    def load(path: Path) -> People:
        saved = torch.load(path)
        query, gallery = FeatureSet(**saved["query"]), FeatureSet(**saved["gallery"])
        return People(query, gallery, Size(**saved["size"]))


def synthetic_people(size: Size, seed: int = 0) -> People:
    """Features by seed; each query has a match.

    The same torch version gives the same features on every machine.
    """
    random = torch.Generator().manual_seed(seed)
    wardrobe = F.normalize(torch.randn(-(-size.people // ALIKE), size.dim, generator=random), dim=1)
    centres = F.normalize(torch.randn(size.people, size.dim, generator=random), dim=1)
    centres = F.normalize(centres + CLOTHES * wardrobe.repeat(ALIKE, 1)[: size.people], dim=1)
    cameras = F.normalize(torch.randn(size.cameras, size.dim, generator=random), dim=1) * CAMERA
    seen = size.gallery - size.distractors
    everyone = torch.arange(size.people)
    gallery_pids = F.pad(everyone.repeat(-(-seen // size.people))[:seen] + 1, (0, size.distractors))
    gallery_camids = torch.randint(size.cameras, (size.gallery,), generator=random)
    # two cameras see each person, so that each query has a match in another camera
    gallery_camids[: 2 * size.people] = (
        torch.cat([everyone, everyone + 1]) % size.cameras if size.cameras > 1 else 0
    )
    query_pids = everyone.repeat(-(-size.query // size.people))[: size.query] + 1
    query_camids = torch.randint(size.cameras, (size.query,), generator=random)

    def images(pids: Tensor, camids: Tensor) -> FeatureSet:
        features = torch.empty(len(pids), size.dim)
        for start in range(0, len(pids), BLOCK):
            rows = slice(start, start + BLOCK)
            features[rows] = _features(pids[rows], camids[rows], centres, cameras, random)
        return FeatureSet(features, pids, camids)

    return People(images(query_pids, query_camids), images(gallery_pids, gallery_camids), size)


def _features(
    pids: Tensor, camids: Tensor, centres: Tensor, cameras: Tensor, random: torch.Generator
) -> Tensor:
    """(n, D) person + camera + noise; most images have little noise, a few are mostly noise."""
    person = centres[(pids - 1).clamp(min=0)]
    strangers = F.normalize(torch.randn(person.shape, generator=random), dim=1)
    person = torch.where(pids[:, None] > 0, person, strangers)
    noisiness = torch.rand(len(pids), 1, generator=random).pow(SELDOM)
    blur = CLEAR + (BLURRED - CLEAR) * noisiness
    noise = F.normalize(torch.randn(person.shape, generator=random), dim=1) * blur
    return F.normalize(person + cameras[camids] + noise, dim=1)
