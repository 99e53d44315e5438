"""Knowledge distillation (Ruiz et al.), from and into any exits of any methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.dataset.datamodule import data_of
from reid_lab.errors import UserError
from reid_lab.loss.distillation import hint, relation, soft_cross_entropy
from reid_lab.model.base import Outputs, ReidModule, State
from reid_lab.model.classifier import required
from reid_lab.model.teacher import Cache, Sizes, Teacher, misfits, people_misfits, sizes
from reid_lab.types import Count, NonNegative, Positive

OWN = "student."  # what a student's parameters are called while it is taught


class Distilled(ReidModule):
    """A student that learns from a teacher's outputs in addition to its own objective.

    Equation 2: soft targets + `student_weight` * the student's own losses, which are the paper's
    cross-entropy for a `Classifier`. Exits, costs, optimiser, schedule and checkpoints are the
    student's: these load without the teacher and without this class.

    Args:
        student: any method that has an `objective`.
        teacher: a checkpoint of this suite, such as `last.ckpt` of a run; None takes the student's
            own outputs, without their gradient. `learn_from` must be called with it before
            training.
        identities: number of classes, for exits that get a classifier here; null in a
            config takes the data set's.
        exits: student's exit -> teacher's exit that it learns from. None takes the last exit of
            each; with soft targets, the last with a classifier.
        soft_targets: learn the teacher's softened probabilities, equation 2's first term. An
            exit of the student without a classifier gets one, trained with `student_weight`.
        temperature: T of equation 1. Section 5: best at 3, worst at 1.
        student_weight: lambda of equation 2, the weight of the student's own losses; 1e-4 to 1e-2
            in section 4.3.
        scale_by_t2: multiply the soft targets' term by T^2 (Hinton et al. 2015), so that lambda
            has the same scale at every T. The paper does not.
        features: learn the embeddings as well: `hint` matches the normalised embeddings, behind
            a learned linear projection if the dimensions differ; `relation` matches the distances
            within a batch.
        feature_weight: weight of the loss on embeddings.
        cache: a folder to keep the teacher's outputs in; needs images without augmentation.

    Raises:
        ValueError: nothing is learned from the teacher, or a student without `objective`.
    """

    renamed = {"weight": "student_weight", "scale": "scale_by_t2"}

    def __init__(
        self,
        student: ReidModule,
        teacher: str | None,
        identities: Count | None = None,
        exits: Mapping[str, str] | None = None,
        soft_targets: bool = True,
        temperature: Positive = 3.0,
        student_weight: NonNegative = 1e-3,
        scale_by_t2: bool = False,
        features: Literal["hint", "relation"] | None = None,
        feature_weight: NonNegative = 1.0,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        if type(student).losses is not ReidModule.losses:
            raise ValueError(f"student: {type(student).__name__} has no objective to distil into")
        if not soft_targets and features is None:
            raise ValueError(
                "soft_targets=false, features=null: nothing is learned from the teacher; "
                "switch one on"
            )
        self.student, self.identities = student, identities
        self.student.log = self.log  # type: ignore[method-assign]  # its own is for the top module
        if hasattr(student, "attention_maps"):
            self.attention_maps = student.attention_maps
        self.teacher: Teacher | None = None
        self.self_taught = teacher is None
        self.wanted = None if exits is None else dict(exits)
        self.pairs: dict[str, str] = {}
        self.soft_targets, self.temperature = soft_targets, temperature
        self.student_weight = student_weight
        self.scale = temperature**2 if scale_by_t2 else 1.0
        self.features, self.feature_weight = features, feature_weight
        self.folder = None if cache is None else Path(cache).expanduser()
        self.cache: Cache | None = None
        self.exit_names = student.exit_names
        # needed in training only: the student's checkpoints leave them out
        self.heads, self.projections = nn.ModuleDict(), nn.ModuleDict()

    def learn_from(self, teacher: Teacher | None, image: tuple[int, int]) -> None:
        """Set up training with a teacher on images of size `image` (height, width).

        Raises:
            UserError: unknown exits, exits without logits, or with logits of other people; all
                problems in one message.
        """
        ours = sizes(self.student, image)
        theirs = ours if teacher is None else sizes(teacher.module, teacher.image)
        pairs = self.wanted or {self._last(ours): self._last(theirs)}
        problems = list(misfits(pairs, ours, theirs))
        if self.soft_targets:
            problems += people_misfits(pairs, ours, theirs, self.identities, self.self_taught)
        if self.self_taught:
            problems += [
                f"model.exits: {exit} cannot learn from itself; with model.teacher=null name the "
                "exits, e.g. model.exits={stage1: fusion}"
                for exit, of in pairs.items()
                if exit == of
            ]
        if problems:
            raise UserError("\n".join(problems))
        self.pairs = pairs
        if self.soft_targets:
            taught = {*self.pairs, *(self.pairs.values() if teacher is None else ())}
            for exit in sorted(taught - set(ours.logits)):
                self.heads[exit] = nn.Linear(
                    ours.exits[exit], required(self.identities), bias=False
                )
        for exit, of in self.pairs.items():
            if self.features == "hint" and ours.exits[exit] != theirs.exits[of]:
                self.projections[exit] = nn.Linear(ours.exits[exit], theirs.exits[of], bias=False)
        self.teacher = teacher
        if teacher is not None and self.folder is not None:
            self.cache = Cache(self.folder, teacher, self.pairs.values(), image)

    def _last(self, sizes: Sizes) -> str:
        return list((self.soft_targets and sizes.logits) or sizes.exits)[-1]

    @property
    def stream_exits(self) -> tuple[str, ...]:
        return self.student.stream_exits

    @property
    def shared_exit(self) -> str | None:
        return self.student.shared_exit

    def share_space(self, exits: Mapping[str, Tensor], pids: Tensor) -> None:
        self.student.share_space(exits, pids)

    @property
    def space_is_fitted(self) -> bool:
        return self.student.space_is_fitted

    @property
    def compilable(self) -> list[nn.Module]:
        return self.student.compilable

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        return self.student.step(exit, state)

    def outputs(self, images: Tensor) -> Outputs:
        """Return the student's outputs, with the logits of the classifiers that were added here."""
        exits, logits = self.student.outputs(images)
        return Outputs(
            exits, {**logits, **{name: head(exits[name]) for name, head in self.heads.items()}}
        )

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms of equation 2 and of the features' loss, with their weights applied."""
        if not self.pairs:
            raise RuntimeError("learn_from() comes before a training")
        ours = self.outputs(batch["image"])
        theirs = self._taught(ours, batch)
        own = self.student.objective(ours, batch)
        own |= {
            f"{name}_cross_entropy": F.cross_entropy(ours.logits[name], batch["label"])
            for name in self.heads
        }
        losses = {name: self.student_weight * value for name, value in own.items()}
        for exit, of in self.pairs.items():
            if self.soft_targets:
                soft = soft_cross_entropy(ours.logits[exit], theirs.logits[of], self.temperature)
                losses[f"{exit}_soft_targets"] = self.scale * soft
            if self.features is not None:
                gap = self._feature_loss(exit, ours.exits[exit], theirs.exits[of])
                losses[f"{exit}_{self.features}"] = self.feature_weight * gap
        return losses

    def _taught(self, ours: Outputs, batch: dict[str, Tensor]) -> Outputs:
        if self.cache is not None and self.cache.kept:
            return self.cache.outputs(batch["index"])
        return ours if self.teacher is None else self.teacher.outputs(batch["image"])

    def _feature_loss(self, exit: str, ours: Tensor, theirs: Tensor) -> Tensor:
        if self.features == "relation":
            return relation(*self.gather(ours, theirs))
        return hint(self.projections[exit](ours) if exit in self.projections else ours, theirs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the student's optimiser; added parameters get the settings of its first group."""
        optimizer = cast(torch.optim.Optimizer, self.student.configure_optimizers())
        added = [*self.heads.parameters(), *self.projections.parameters()]
        if added:
            like = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
            optimizer.add_param_group({**like, "params": added})
        return optimizer

    def setup(self, stage: str) -> None:
        self.student.setup(stage)

    def on_fit_start(self) -> None:
        if self.teacher is not None:
            self.teacher.to(self.device)
        if self.cache is not None:
            self._fill(self.cache)

    def _fill(self, cache: Cache) -> None:
        data = data_of(self.trainer)
        split = data.train_split
        cache.precision = str(self.trainer.precision)
        # machines may have folders of their own: all processes fill, or none
        if not self._on_all(cache.load(split)):
            # a loader draws random numbers: forked, so that training is the same as without a cache
            with torch.random.fork_rng([]), self.trainer.precision_plugin.forward_context():
                moved = map(self.trainer.strategy.batch_to_device, data.train_images_loader())
                batches = ((batch["image"][:, 0], batch["index"]) for batch in moved)
                cache.fill(split, batches, lambda rows: self.gather(rows)[0])
            if self.trainer.is_global_zero:
                cache.save(split)
            self.trainer.strategy.barrier()
            other = self.trainer.local_rank == 0 and not self.trainer.is_global_zero
            if other and not cache.load(split):  # a folder that this machine does not share
                cache.save(split)
        cache.to(self.device)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.student.on_before_optimizer_step(optimizer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self.student.on_train_batch_start(batch, batch_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the student's state dict, and added parameters under `added`."""
        super().on_save_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        own = {n.removeprefix(OWN): w for n, w in state.items() if n.startswith(OWN)}
        checkpoint["state_dict"] = own
        checkpoint["added"] = {n: w for n, w in state.items() if not n.startswith(OWN)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        state = {OWN + name: w for name, w in checkpoint["state_dict"].items()}
        mine = self.state_dict()  # nothing is added to a student that is only tested
        added = {name: w for name, w in checkpoint.get("added", {}).items() if name in mine}
        checkpoint["state_dict"] = state | added
