"""Random streams by key, so that an image does not depend on what was drawn before it."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Domain(IntEnum):
    """The purpose of a random stream, the first part of its key."""

    CAMERA = 1
    BLOCK = 2
    FAMILY = 3
    PERSON = 4
    TRACK = 5
    IMAGE = 6
    JUNK = 7
    SCENE = 8
    VARIATION = 9


class Population(IntEnum):
    """Three disjoint populations."""

    TRAIN = 0
    TEST = 1
    PASSERBY = 2  # distractors, and people who occlude others


def stream(seed: int, domain: Domain, *key: int) -> np.random.Generator:
    """Return an independent generator for this seed, domain and key."""
    sequence = np.random.SeedSequence(seed, spawn_key=(int(domain), *key))
    return np.random.Generator(np.random.Philox(sequence))
