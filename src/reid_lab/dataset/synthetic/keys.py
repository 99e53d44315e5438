"""Random streams by key: a picture depends on its own key, never on what was drawn before."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Domain(IntEnum):
    """What a stream is for; the rest of its key says which one."""

    CAMERA = 1
    BLOCK = 2
    FAMILY = 3
    PERSON = 4
    TRACK = 5
    IMAGE = 6
    JUNK = 7
    SCENE = 8


class Population(IntEnum):
    """The three disjoint populations."""

    TRAIN = 0
    TEST = 1
    PASSERBY = 2  # distractors, and people who walk in front of somebody


def stream(seed: int, domain: Domain, *key: int) -> np.random.Generator:
    """An independent generator for this seed, domain, and key."""
    sequence = np.random.SeedSequence(seed, spawn_key=(int(domain), *key))
    return np.random.Generator(np.random.Philox(sequence))
