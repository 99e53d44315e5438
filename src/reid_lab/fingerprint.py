"""Whether embeddings can be compared, told from what made them and nothing else.

A model's fingerprint is of its weights, its config and the normalisation of its images; their
size stands beside it wherever it is kept. An export that computes the same has the same one, one
of another precision has its own.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.errors import UserError

# the normalisation of all fingerprints that do not mention one
UNMENTIONED = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def fingerprint(checkpoint: Path | str) -> str:
    """sha256, in hexadecimal, over a checkpoint's weights, its model's config, the normalisation.

    Optimiser, step, callbacks and the file's own dates have no say: a checkpoint that was
    copied, or saved again after a test, has the same fingerprint.

    Raises:
        UserError: no file, or no checkpoint of this suite.
    """
    state = read_checkpoint(checkpoint)
    return fingerprint_of(state["state_dict"], state["hyper_parameters"]["model"])


def fingerprint_of(
    weights: Mapping[str, Tensor],
    config: Any,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> str:
    """The same from the weights by name, the model's config (plain types), the normalisation."""
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
    """Of a network that computes something else than the one it was made from: its `content`."""
    digest = hashlib.sha256(f"{fingerprint} {name}\n".encode())
    digest.update(content)
    return digest.hexdigest()


def read_checkpoint(checkpoint: Path | str) -> dict[str, Any]:
    """What is in a checkpoint, on the CPU: weights and plain types, no code.

    Raises:
        UserError: no file, or no checkpoint of this suite.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a run's checkpoints/last.ckpt")
    what = f"{path} is no checkpoint of reid_lab: give a run's checkpoints/last.ckpt"
    if not zipfile.is_zipfile(path):  # as torch saves; of other files it raises anything
        raise UserError(f"{what} (it cannot be read)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{what} (it cannot be read)") from error
    kept = state.get("hyper_parameters") if isinstance(state, dict) else None
    if not isinstance(kept, dict) or "model" not in kept or "state_dict" not in state:
        raise UserError(f"{what} (it does not say which model it holds)")
    return state
