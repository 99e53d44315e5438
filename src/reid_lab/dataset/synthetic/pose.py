"""The joints of a walking person."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from reid_lab.dataset.synthetic.person import Pedestrian

Vec = tuple[float, float, float]  # (left, up, forward) in body heights, the ground is up = 0

THIGH, SHIN, ANKLE = 0.245, 0.235, 0.042
UPPER_ARM, FOREARM = 0.168, 0.15


@dataclass(frozen=True)
class Limb:
    """Joints of a limb: hip, knee, ankle, toe; or shoulder, elbow, wrist, fingertip."""

    root: Vec
    middle: Vec
    end: Vec
    tip: Vec


@dataclass(frozen=True)
class Pose:
    """The joints of one person at one moment."""

    pelvis: Vec
    neck: Vec
    head: Vec  # centre of the head
    legs: tuple[Limb, Limb]  # left, right
    arms: tuple[Limb, Limb]
    spread: float  # distance of the feet, for the hem of a skirt


def walk(person: Pedestrian, rng: np.random.Generator) -> Pose:
    """Draw a random pose of the person's walk; sometimes they stand."""
    phase = float(rng.uniform(0, 2 * pi))
    vigour = person.stride * float(rng.uniform(0.75, 1.1))
    if rng.random() < 0.15:
        vigour *= 0.2
    lean = 0.02 + 0.03 * vigour
    legs = [_leg(person, phase + shift, vigour, side) for side, shift in ((1, 0.0), (-1, pi))]
    drop = min(min(leg.end[1] - ANKLE, leg.tip[1] - 0.012) for leg in legs)
    legs = [_lowered(leg, drop) for leg in legs]
    hip = legs[0].root[1]
    neck = (0.0, hip + 0.305, lean)
    head = (0.0, neck[1] + 0.082, lean + 0.018)
    bent = 1.25 if person.carried == "handbag" else 0.0
    arms = tuple(
        _arm(person, neck, phase + shift, vigour, side, bent if side < 0 else 0.0)
        for side, shift in ((1, pi), (-1, 0.0))
    )
    apart = abs(legs[0].end[2] - legs[1].end[2])
    return Pose((0.0, hip, 0.0), neck, head, (legs[0], legs[1]), (arms[0], arms[1]), apart)


def _leg(person: Pedestrian, phase: float, vigour: float, side: int) -> Limb:
    swing = 0.42 * vigour * sin(phase) + 0.04
    bend = 0.08 + 0.85 * vigour * max(0.0, cos(phase)) ** 1.3
    hip = (side * 0.05 * person.build, 0.0, 0.0)
    knee = _along(hip, THIGH * person.legs, swing, 0.0)
    ankle = _along(knee, SHIN * person.legs, swing - bend, side * -0.02)
    pitch = 0.55 * (swing - bend) if swing < bend else 0.5 * (swing - bend)
    toe = (
        ankle[0] + side * 0.018,
        ankle[1] - 0.028 + 0.09 * sin(pitch),
        ankle[2] + 0.098 * cos(pitch),
    )
    return Limb(hip, knee, ankle, toe)


def _arm(
    person: Pedestrian, neck: Vec, phase: float, vigour: float, side: int, held: float
) -> Limb:
    swing = 0.4 * vigour * sin(phase) * (0.3 if held else 1.0)
    shoulder = (side * 0.1 * person.build * person.frame, neck[1] - 0.049, neck[2] - 0.004)
    elbow = _along(shoulder, UPPER_ARM, swing - 0.06, side * 0.13)
    bend = max(held, 0.22 + 0.3 * vigour * max(0.0, sin(phase)))
    wrist = _along(elbow, FOREARM, swing + bend, side * 0.03)
    tip = _along(wrist, 0.05, swing + bend, 0.0)
    return Limb(shoulder, elbow, wrist, tip)


def _along(start: Vec, length: float, swing: float, out: float) -> Vec:
    """Return the far end of a hanging bone, swung forward and to the left by radians."""
    return (
        start[0] + length * sin(out),
        start[1] - length * cos(swing) * cos(out),
        start[2] + length * sin(swing) * cos(out),
    )


def _lowered(limb: Limb, drop: float) -> Limb:
    root, middle, end, tip = (
        (p[0], p[1] - drop, p[2]) for p in (limb.root, limb.middle, limb.end, limb.tip)
    )
    return Limb(root, middle, end, tip)
