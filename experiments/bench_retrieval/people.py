"""Features of people who were never there: by seed, and about as hard to find as real ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.bench_retrieval.sizes import Size

BLOCK = 8192  # rows made at a time
ALIKE, CLOTHES = 6, 1.0  # so many people dress alike; clothes count so much beside the person
CAMERA = 0.35  # how far a camera takes an image from its person
CLEAR, BLURRED, SELDOM = 0.5, 10.0, 6  # noise, least and most; the larger, the fewer are bad


@dataclass(frozen=True)
class Images:
    """`features` (N, D) float32 of length 1, `pids` and `camids` (N,) int64."""

    features: Tensor
    pids: Tensor
    camids: Tensor


@dataclass(frozen=True)
class People:
    query: Images
    gallery: Images
    size: Size

    def save(self, path: Path) -> None:
        torch.save(asdict(self), path)

    @staticmethod
    def load(path: Path) -> People:
        saved = torch.load(path)
        return People(Images(**saved["query"]), Images(**saved["gallery"]), Size(**saved["size"]))


def invent(size: Size, seed: int = 0) -> People:
    """The same people on every machine with the same torch; each query has a match."""
    random = torch.Generator().manual_seed(seed)
    wardrobe = F.normalize(torch.randn(-(-size.people // ALIKE), size.dim, generator=random), dim=1)
    centres = F.normalize(torch.randn(size.people, size.dim, generator=random), dim=1)
    centres = F.normalize(centres + CLOTHES * wardrobe.repeat(ALIKE, 1)[: size.people], dim=1)
    cameras = F.normalize(torch.randn(size.cameras, size.dim, generator=random), dim=1) * CAMERA
    seen = size.gallery - size.distractors
    everyone = torch.arange(size.people)
    gallery_pids = F.pad(everyone.repeat(-(-seen // size.people))[:seen] + 1, (0, size.distractors))
    gallery_camids = torch.randint(size.cameras, (size.gallery,), generator=random)
    # two cameras see each person, so that whichever takes the query, another holds a match
    gallery_camids[: 2 * size.people] = (
        torch.cat([everyone, everyone + 1]) % size.cameras if size.cameras > 1 else 0
    )
    query_pids = everyone.repeat(-(-size.query // size.people))[: size.query] + 1
    query_camids = torch.randint(size.cameras, (size.query,), generator=random)

    def pictures(pids: Tensor, camids: Tensor) -> Images:
        features = torch.empty(len(pids), size.dim)
        for start in range(0, len(pids), BLOCK):
            rows = slice(start, start + BLOCK)
            features[rows] = _features(pids[rows], camids[rows], centres, cameras, random)
        return Images(features, pids, camids)

    return People(pictures(query_pids, query_camids), pictures(gallery_pids, gallery_camids), size)


def _features(
    pids: Tensor, camids: Tensor, centres: Tensor, cameras: Tensor, random: torch.Generator
) -> Tensor:
    """(n, D) person + camera + noise; most images are clear, some hardly show the person."""
    person = centres[(pids - 1).clamp(min=0)]
    strangers = F.normalize(torch.randn(person.shape, generator=random), dim=1)
    person = torch.where(pids[:, None] > 0, person, strangers)
    bad = torch.rand(len(pids), 1, generator=random).pow(SELDOM)
    blur = CLEAR + (BLURRED - CLEAR) * bad
    noise = F.normalize(torch.randn(person.shape, generator=random), dim=1) * blur
    return F.normalize(person + cameras[camids] + noise, dim=1)
