"""A trained network as a teacher: frozen, and not part of its student."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.backbone.modes import evaluating
from reid_lab.dataset.records import Split
from reid_lab.files.atomic import write_torch
from reid_lab.model.base import Outputs, ReidModule

log = logging.getLogger(__name__)


class Teacher:
    """A method in eval mode that takes a student's batches at its own image size.

    It is not an `nn.Module`, so that it is neither among its student's parameters nor in the
    checkpoint. Images of another size are resized on their device (bilinear, antialiased).

    Args:
        module: the trained method; it is frozen here.
        image: (height, width) of its training images.
        name: path of its checkpoint, for messages.
        fingerprint: fingerprint of its checkpoint, see `reid_lab.checkpoint`; part of the cache
            file's name.
    """

    def __init__(
        self, module: ReidModule, image: tuple[int, int], name: str, fingerprint: str
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.image, self.name, self.fingerprint = image, name, fingerprint

    def to(self, device: torch.device) -> None:
        self.module.to(device)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Outputs:
        """Return the teacher's embeddings and logits of normalised images (N, 3, h, w)."""
        if images.shape[2:] != self.image:
            images = F.interpolate(images, self.image, mode="bilinear", antialias=True)
        return self.module.outputs(images)


class Sizes(NamedTuple):
    """Exit -> dimension of its embeddings, and of its logits if it has any."""

    exits: dict[str, int]
    logits: dict[str, int]


@torch.no_grad()
def sizes(module: ReidModule, image: tuple[int, int]) -> Sizes:
    """Return the dimensions at each exit, from a pass over black images of (height, width)."""
    with evaluating(module):
        exits, logits = module.outputs(torch.zeros(2, 3, *image, device=module.device))
    return Sizes(*({k: v.shape[1] for k, v in part.items()} for part in (exits, logits)))


def misfits(pairs: Mapping[str, str], student: Sizes, teacher: Sizes) -> Iterator[str]:
    """Yield a message for each exit in `pairs`, the student's -> the teacher's, that is unknown."""
    for exit, of in pairs.items():
        for name, who, has in ((exit, "student", student), (of, "teacher", teacher)):
            if name not in has.exits:
                yield (
                    f"model.exits: no exit of the {who} is called {name}; it has "
                    f"{', '.join(has.exits)}"
                )


def people_misfits(
    pairs: Mapping[str, str],
    student: Sizes,
    teacher: Sizes,
    identities: int | None,
    self_taught: bool,
) -> Iterator[str]:
    """Yield reasons why soft targets cannot be learned: no logits, or logits of other people.

    A student's exit without logits gets a classifier of `identities`; a teacher's exit only if the
    student teaches itself.
    """
    otherwise = "learn its embeddings with model.soft_targets=false model.features=relation"
    for exit, of in pairs.items():
        if exit not in student.exits or of not in teacher.exits:
            continue
        people = student.logits.get(exit, identities)
        if of not in teacher.logits and not self_taught:
            has = f"has logits at {', '.join(teacher.logits)}" if teacher.logits else "has none"
            yield (
                f"model.exits: the teacher's exit {of} has no classifier, and so no soft targets "
                f"(it {has}); {otherwise}"
            )
        elif teacher.logits.get(of, people) != people:
            yield (
                f"model.teacher classifies {teacher.logits[of]} people at {of}, the student "
                f"{people} at {exit}: give a teacher trained on the same people, or {otherwise}"
            )


class Cache:
    """A teacher's outputs for every training image, computed once and kept in a file.

    Only valid without random augmentation. The file's name includes the teacher's fingerprint and a
    hash of the images, their size and the precision, so that it is never used with another teacher,
    data set or precision.

    Args:
        folder: folder of the file.
        exits: exits of the teacher to keep.
        image: (height, width) of the student's images.

    Attributes:
        precision: `trainer.precision` of the outputs.
    """

    def __init__(
        self, folder: Path, teacher: Teacher, exits: Iterable[str], image: tuple[int, int]
    ) -> None:
        self.folder, self.teacher, self.image = folder, teacher, image
        self.precision = "32-true"
        self.exits = sorted(set(exits))
        self.kept: dict[str, Tensor] = {}  # "exits/pool", "logits/pool" -> (images, D) float32

    def path(self, split: Split) -> Path:
        precision = (self.precision, torch.get_float32_matmul_precision())
        content = (self.exits, self.image, self.teacher.image, precision)
        digest = hashlib.sha256(repr(content).encode())
        for column in (split.names, split.boxes):
            digest.update(b"" if column is None else column.tobytes())
        digest.update(str(split.root.resolve()).encode())
        return self.folder / f"{self.teacher.fingerprint[:16]}-{digest.hexdigest()[:16]}.pt"

    def load(self, split: Split) -> bool:
        """Load the file; return whether it exists and is complete."""
        path = self.path(split)
        if not path.is_file():
            return False
        try:
            kept = torch.load(path, map_location="cpu", weights_only=True)
            whole = all(len(rows) == len(split) for rows in kept.values())
        except Exception:  # a broken file may raise anything
            whole = False
        if not whole:
            log.info("%s is broken: the teacher's outputs are computed again", path)
            return False
        self.kept = kept
        return bool(kept)

    def fill(
        self,
        split: Split,
        batches: Iterable[tuple[Tensor, Tensor]],
        gather: Callable[[Tensor], Tensor],
    ) -> None:
        """Compute the teacher's outputs for each image.

        Args:
            split: the training images.
            batches: (images, their indices in the split).
            gather: concatenates the rows of all processes.
        """
        for images, index in batches:
            rows = gather(index).cpu()
            for name, values in self._named(self.teacher.outputs(images)).items():
                values = gather(values.float()).cpu()
                room = self.kept.setdefault(name, torch.empty(len(split), values.shape[1]))
                room[rows] = values

    def save(self, split: Split) -> None:
        path = self.path(split)
        write_torch(path, self.kept)

    def to(self, device: torch.device) -> None:
        self.kept = {name: values.to(device) for name, values in self.kept.items()}

    def outputs(self, index: Tensor) -> Outputs:
        """The teacher's outputs for the images at `index` (N,)."""
        found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for name, values in self.kept.items():
            kind, exit = name.split("/", 1)
            found[kind == "logits"][exit] = values[index]
        return Outputs(*found)

    def _named(self, outputs: Outputs) -> dict[str, Tensor]:
        exits, logits = outputs
        return {
            **{f"exits/{name}": exits[name] for name in self.exits},
            **{f"logits/{name}": logits[name] for name in self.exits if name in logits},
        }
