"""Track people by appearance: embed the boxes of each frame and link those that look alike.

    python docs/examples/track_by_appearance.py
    python docs/examples/track_by_appearance.py --checkpoint last.ckpt --exit stage2
    python docs/examples/track_by_appearance.py --bytetrack   # pip install supervision trackers

Synthetic people cross the view, leave it, and come back. Appearance alone links their
boxes; with --bytetrack, motion links them while they are in view, and appearance links the
tracklets. Without --checkpoint, a small network is trained on other synthetic people for some
seconds. Replace `video` by your camera and detector.

A tracker of BoxMOT that takes embeddings (BoT-SORT, StrongSORT, DeepOCSORT) gets them as
`tracker.update(detections, frame, embeddings)`; its frames are BGR, ours RGB.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment

from reid_lab import embed, load_model
from reid_lab.backbone import SmallResNet
from reid_lab.dataset.synthetic.image import ImageKey, render_image
from reid_lab.dataset.synthetic.keys import Population
from reid_lab.dataset.synthetic.recipe import Recipe
from reid_lab.dataset.transforms import normalise
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import DaRe, ReidModule

PEOPLE, FRAMES, AWAY = 5, 60, 12  # frames that a person is out of view
HEIGHT, WIDTH = 240, 400


@dataclass
class Identities:
    """The mean embedding of everyone seen so far.

    A box is a new identity if it is farther from all of them than `share` of the median distance
    between people who were in view together, who are different people.
    """

    share: float = 0.5
    means: list[np.ndarray] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    apart: list[float] = field(default_factory=list)

    def link(self, rows: np.ndarray, taken: Sequence[int] = ()) -> list[int]:
        """Assign each of the embeddings (N, D) of a frame a different identity.

        Args:
            rows: embeddings of different people.
            taken: identities of others in this frame.
        """
        rows = unit(rows)
        self.apart += distances(rows, rows)[np.triu_indices(len(rows), 1)].tolist()
        limit = self.share * float(np.median(self.apart)) if self.apart else 0.0
        found = [-1] * len(rows)
        if self.means:
            cost = distances(rows, unit(np.stack(self.means)))
            cost[:, list(taken)] = 2.0
            for row, identity in zip(*linear_sum_assignment(cost), strict=True):
                if cost[row, identity] < limit:
                    found[row] = int(identity)
        for row, identity in enumerate(found):
            if identity < 0:
                found[row] = len(self.means)
                self.means.append(np.zeros_like(rows[row]))
                self.counts.append(0)
        self.learn(rows, found)
        return found

    def learn(self, rows: np.ndarray, identities: Sequence[int]) -> None:
        """Add embeddings to the means of their identities."""
        for row, identity in zip(unit(rows), identities, strict=True):
            self.counts[identity] += 1
            self.means[identity] += (row - self.means[identity]) / self.counts[identity]


def unit(rows: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, D) of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine distances (N, M)."""
    return 1 - a @ b.T


def video(seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Frames (H, W, 3) uint8 RGB, their boxes (N, 4) xyxy, and who is in each box (N,)."""
    rng = np.random.default_rng(seed)
    people = [Image.fromarray(picture(Population.TEST, person)) for person in range(PEOPLE)]
    floor = rng.integers(90, 110, (HEIGHT, WIDTH, 3), np.uint8)
    for time in range(FRAMES):
        frame, boxes, who = Image.fromarray(floor), [], []
        for person, image in enumerate(people):
            step = (time + 9 * person) % (FRAMES // 2)
            if step >= FRAMES // 2 - AWAY:
                continue
            left = 10 + 78 * person + rng.integers(-2, 3)
            top = 4 + 5 * step + rng.integers(-2, 3)
            height = 124 + int(rng.integers(-4, 5))
            frame.paste(image.resize((height // 2, height)), (int(left), int(top)))
            boxes.append([left, top, left + height / 2, top + height])
            who.append(person)
        light = rng.uniform(0.9, 1.1)
        pixels = np.clip(light * np.asarray(frame) + rng.normal(0, 4, (HEIGHT, WIDTH, 3)), 0, 255)
        yield pixels.astype(np.uint8), np.array(boxes, float).reshape(-1, 4), np.array(who)


def by_appearance(model: ReidModule, exit: str) -> Iterator[tuple[list[int], np.ndarray]]:
    """The identities of each frame's boxes, and who is in them."""
    identities = Identities()
    for frame, boxes, who in video():
        rows = embed(model, frame, boxes, exits=[exit])[exit].numpy()
        yield identities.link(rows), who


def by_bytetrack(model: ReidModule, exit: str) -> Iterator[tuple[list[int], np.ndarray]]:
    """Like `by_appearance`, but a tracklet keeps the identity of its first box."""
    import supervision as sv
    from trackers import ByteTrackTracker

    tracker, identities = ByteTrackTracker(minimum_consecutive_frames=1), Identities()
    identity_of: dict[int, int] = {}  # tracklet -> identity
    for frame, boxes, who in video():
        found = sv.Detections(
            xyxy=boxes,
            confidence=np.full(len(boxes), 0.9),
            class_id=np.zeros(len(boxes), int),
            data={"who": who},
        )
        found = tracker.update(found)
        found = found[found.tracker_id >= 0]  # -1 is not confirmed yet
        rows = embed(model, frame, found, exits=[exit])[exit].numpy()
        tracklets = found.tracker_id.tolist()
        known = [tracklet in identity_of for tracklet in tracklets]
        old = [identity_of[t] for t in tracklets if t in identity_of]
        identities.learn(rows[known], old)
        new = np.flatnonzero(~np.array(known, bool))
        linked = identities.link(rows[new], old)
        identity_of |= {tracklets[i]: identity for i, identity in zip(new, linked, strict=True)}
        yield [identity_of[t] for t in tracklets], found.data["who"]
    print(f"ByteTrack: {len(identity_of)} tracklets")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="default: an untrained network")
    parser.add_argument("--exit", help="default: the last one")
    parser.add_argument("--bytetrack", action="store_true", help="link by motion first")
    args = parser.parse_args(words)
    model = load_model(args.checkpoint) if args.checkpoint else trained()
    track = by_bytetrack if args.bytetrack else by_appearance
    exit = args.exit or model.exit_names[-1]
    pairs = [pair for ids, who in track(model, exit) for pair in zip(ids, who, strict=True)]
    identities, people = np.array(pairs).T
    right = sum(np.bincount(people[identities == i]).max() for i in np.unique(identities))
    print(
        f"{len(pairs)} boxes of {PEOPLE} people: {len(np.unique(identities))} identities, "
        f"{right / len(pairs):.0%} of the boxes with the identity's main person"
    )


def trained(people: int = 32, takes: int = 4, steps: int = 60) -> ReidModule:
    """A small network, trained on other synthetic people for some seconds."""
    torch.manual_seed(0)
    model = DaRe(SmallResNet(8), BatchHardTriplet(), hidden=32, dim=64).train()
    model.image = (128, 64)
    keys = [(person, take) for person in range(people) for take in range(takes)]
    images = np.stack([picture(Population.TRAIN, *key) for key in keys])
    pixels = normalise(torch.from_numpy(images).permute(0, 3, 1, 2)).unflatten(0, (people, takes))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        chosen = torch.randperm(people)[:8]
        batch = {"image": pixels[chosen].flatten(0, 1), "pid": chosen.repeat_interleave(takes)}
        optimiser.zero_grad()
        sum(model.losses(batch).values()).backward()
        optimiser.step()
    return model.eval()


def picture(population: Population, person: int, take: int = 0) -> np.ndarray:
    """(128, 64, 3) uint8 of a synthetic person."""
    return render_image(Recipe(lookalikes=0), ImageKey(population, person, 1, take))


if __name__ == "__main__":
    main()
