"""Fingerprints: embeddings can be compared if the fingerprints of their models are equal.

A fingerprint covers the weights, the config and the normalisation of images; their size is stored
separately. An equivalent export has the same fingerprint; an export in another precision has its
own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_lab.checkpoint.read import read_checkpoint
from reid_lab.dataset.transforms import MEAN, STD

# the normalisation of all fingerprints that do not mention one
UNMENTIONED = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def fingerprint(checkpoint: Path | str) -> str:
    """SHA-256, in hexadecimal, of a checkpoint's weights, its model's config and the normalisation.

    Optimiser, step, callbacks and dates have no effect: a checkpoint that was
    copied, or saved again after a test, has the same fingerprint.

    Raises:
        UserError: no such file, or not a checkpoint of this suite.
    """
    return fingerprint_of_state(read_checkpoint(checkpoint))


def fingerprint_of_state(state: Mapping[str, Any]) -> str:
    """Fingerprint of a checkpoint from its content."""
    return fingerprint_of(state["state_dict"], state["hyper_parameters"]["model"])


def fingerprint_of(
    weights: Mapping[str, Tensor],
    config: Any,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> str:
    """Fingerprint of weights by name, the model's config (plain types) and the normalisation."""
    digest = hashlib.sha256()
    digest.update(json.dumps(config, sort_keys=True).encode())
    for name in sorted(weights):
        weight = weights[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {weight.dtype} {list(weight.shape)}\n".encode())
        digest.update(weight.flatten().view(torch.uint8).numpy().data)
    if (tuple(mean), tuple(std)) != UNMENTIONED:
        digest.update(f"\nnormalised by {list(mean)} {list(std)}\n".encode())
    return digest.hexdigest()


def fingerprint_of_variant(fingerprint: str, name: str, content: bytes) -> str:
    """Fingerprint of a network with the bytes `content`, derived from one with `fingerprint`."""
    digest = hashlib.sha256(f"{fingerprint} {name}\n".encode())
    digest.update(content)
    return digest.hexdigest()
