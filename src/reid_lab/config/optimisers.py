"""Whether the optimisers of a training fit those of the checkpoint that it is resumed from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer

from reid_lab.checkpoint import CheckpointError
from reid_lab.config.resume import differences
from reid_lab.model import ReidModule

# settings of a parameter group by which torch's optimisers differ
OWN = {"alpha", "amsgrad", "betas", "centered", "dampening", "etas", "lambd", "lr_decay"}
OWN |= {"max_iter", "momentum", "momentum_decay", "nesterov", "rho", "step_sizes"}
# of them, and of torch's newer ones, those that change the update: the checkpoint's would be used
FORMS = ("amsgrad", "centered", "decoupled_weight_decay", "maximize", "nesterov")


def check_optimisers(
    model: ReidModule, trainer: pl.Trainer, state: Mapping[str, Any], checkpoint: Path
) -> None:
    """Check the optimisers, which torch does not: it takes the groups of the checkpoint.

    Args:
        model: the model built from the config.
        trainer: that will train it.
        state: what `read_checkpoint` gives.
        checkpoint: its path, for messages.

    Raises:
        CheckpointError: other optimisers, or other groups of parameters.
    """
    theirs = state["optimizer_states"]
    ours = _optimisers_of(model, trainer)
    if ours is None or not (why := _misfit(theirs, ours)):
        return
    trained, here = state["hyper_parameters"]["model"], model.hparams["model"]
    settings = differences({"model": trained}, {"model": here})
    with_them = f" It was trained with {settings}." if settings else ""
    raise CheckpointError(
        f"ckpt_path={checkpoint}: the training cannot be resumed: {why}.{with_them} Give the "
        "optimiser and the method that it was trained with, leave out ckpt_path to train anew, or "
        "test it with task=test"
    )


def _optimisers_of(model: ReidModule, trainer: pl.Trainer) -> list[Optimizer] | None:
    """The optimisers of a training; None if they can be built only once it runs."""
    model.trainer = trainer
    try:
        return listed(model.configure_optimizers())
    except Exception:  # of a method of somebody else, which may ask the trainer for anything
        return None
    finally:
        model.trainer = None


def listed(made: Any) -> list[Optimizer]:
    """The optimisers in what `configure_optimizers` returns, in the ways that Lightning documents.

    Args:
        made: None, an optimiser, or a dictionary with the key `optimizer`; a list or tuple of
            them; or a list of optimisers and their schedulers.

    Raises:
        TypeError: anything else.
    """
    if made is None:
        return []
    if isinstance(made, Optimizer | dict):
        made = [made]
    elif len(made) == 2 and isinstance(made[0], list):
        made, _schedulers = made
    found = [each["optimizer"] if isinstance(each, dict) else each for each in made]
    if not all(isinstance(each, Optimizer) for each in found):
        raise TypeError(f"no optimisers: {made}")
    return found


def _misfit(theirs: list[Any], ours: list[Optimizer]) -> str:
    """Why the states of a checkpoint are not those of the optimisers; empty if they may be."""
    if len(theirs) != len(ours):
        return f"it holds the state of {len(theirs)} optimisers, this training has {len(ours)}"
    for state, optimiser in zip(theirs, ours, strict=True):
        groups = state.get("param_groups") if isinstance(state, dict) else None
        if not isinstance(groups, list) or not all(map(_is_group, groups)):
            return "it holds no groups of parameters of an optimiser"
        if why := _other_groups(groups, optimiser):
            return why
    return ""


def _is_group(group: object) -> bool:
    return isinstance(group, dict) and isinstance(group.get("params"), list)


def _other_groups(theirs: list[dict[str, Any]], optimiser: Optimizer) -> str:
    ours = optimiser.param_groups
    made = _kind(ours[0])
    for their, our in zip(theirs, ours, strict=False):
        values = [f for f in FORMS if f in their and f in our and bool(their[f]) != bool(our[f])]
        if OWN & their.keys() != OWN & our.keys() or values:
            return f"it holds the state of {_kind(their)}, this training has {made}"
    sizes = [[len(group["params"]) for group in groups] for groups in (theirs, ours)]
    if sizes[0] != sizes[1]:
        return (
            f"it holds the state of {made} with {_counted(sizes[0])}, this training has "
            f"{_counted(sizes[1])}"
        )
    return ""


def _kind(group: Mapping[str, Any]) -> str:
    """An optimiser by the settings of its group, such as `SGD` or `Adam (amsgrad)`."""
    own = OWN & group.keys()
    name = {
        frozenset({"momentum", "dampening", "nesterov"}): "SGD",
        frozenset({"betas", "amsgrad"}): "Adam",
    }.get(frozenset(own), f"an optimiser with {', '.join(sorted(own)) or 'no such settings'}")
    forms = [form for form in FORMS if group.get(form)]
    return f"{name} ({', '.join(forms)})" if forms else name


def _counted(sizes: list[int]) -> str:
    groups = "1 group" if len(sizes) == 1 else f"{len(sizes)} groups"
    return f"{' + '.join(map(str, sizes)) or 0} parameters in {groups}"
