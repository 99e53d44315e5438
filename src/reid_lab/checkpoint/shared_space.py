"""Whether the maps of `model.shared_space` belong to a checkpoint's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reid_lab.model import ReidModule

CALLBACK = "SharedSpace"  # key of the callback that keeps the step of its last fit
FIX = "resume it (task=fit ckpt_path=...) to its next validation or its end"
UNFITTED = (
    "model.shared_space=true: the early exits are not fitted to the gallery's exit, since this "
    f"checkpoint is from before the end of its training: {FIX}"
)


def stale_space(state: Mapping[str, Any]) -> str:
    """Why the maps in a checkpoint's content are of earlier weights; empty if they are not.

    A training fits them at each validation and at its end; what was saved in between holds those of
    the last fit.
    """
    callbacks, step = state.get("callbacks"), state.get("global_step")
    own = callbacks.get(CALLBACK) if isinstance(callbacks, Mapping) else None
    fitted = own.get("fitted_at") if isinstance(own, Mapping) else None
    if not isinstance(fitted, int) or not isinstance(step, int) or fitted == step:
        return ""
    return (
        f"model.shared_space=true: the early exits were fitted at step {fitted} of the training, "
        f"and this checkpoint is of step {step}: {FIX}"
    )


def space_problem(model: ReidModule, state: Mapping[str, Any]) -> str:
    """Why early exits cannot be compared with the shared one; empty if they can, or need not.

    Args:
        model: the method with the checkpoint's weights.
        state: the checkpoint's content.
    """
    if model.shared_exit is None:
        return ""
    return stale_space(state) if model.space_is_fitted else UNFITTED
