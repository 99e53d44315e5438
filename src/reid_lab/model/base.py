"""What every method is: a LightningModule that turns images into exits, cheapest first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]  # what one exit leaves for the next


class Outputs(NamedTuple):
    """What one pass over training images gives a loss to work on.

    `exits`: name -> embeddings (N, D). `logits`: name -> (N, identities), of those exits that
    have a classifier.
    """

    exits: dict[str, Tensor]
    logits: dict[str, Tensor]


class ReidModule(pl.LightningModule, ABC):
    """A method as a sequence of exits.

    A subclass names its exits, computes one after the other in `step`, and gives its `objective`
    on the `outputs` of a pass. Evaluation, logging, exact resuming, the cost account, early exit
    and export know no more than that.
    """

    exit_names: tuple[str, ...]

    def __init__(self) -> None:
        super().__init__()
        self._rng_state: Tensor | None = None

    @abstractmethod
    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        """Go on to the next exit.

        Args:
            exit: its name.
            state: what the exit before left; the images (N, 3, H, W) alone at the first one.

        Returns:
            The new state and this exit's embeddings (N, D). Every tensor of a state has the
            images along its first axis, so that a part of a batch can go on by itself.
        """

    def exits(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Images (N, 3, H, W) -> (name, embeddings (N, D)), one after the other.

        Lazy: what an exit does not need is not computed before the next one is asked for.
        """
        state: State = (images,)
        for name in self.exit_names:
            state, rows = self.step(name, state)
            yield name, rows

    def outputs(self, images: Tensor) -> Outputs:
        """Training images (N, 3, H, W) -> embeddings and logits, in one pass."""
        return Outputs(self(images), {})

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The scalar losses by name of a training batch's outputs; they are summed."""
        raise NotImplementedError(f"{type(self).__name__} has neither objective nor losses")

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A training batch -> the scalar losses by name.

        Overridden by a method that does not learn from one pass; it cannot be distilled.
        """
        return self.objective(self.outputs(batch["image"]), batch)

    @property
    def stream_exits(self) -> tuple[str, ...]:
        """The exits that a budgeted stream may leave by."""
        return self.exit_names

    @property
    def compilable(self) -> list[nn.Module]:
        """The parts that `torch.compile` may take, each called as a whole."""
        return []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) -> every exit's embeddings (N, D) by name."""
        return dict(self.exits(images))

    def embed(self, images: Tensor) -> dict[str, Tensor]:
        """Views (N, V, 3, H, W) -> every exit's embeddings (N, D) float32, mean over V."""
        n, views = images.shape[:2]
        exits = self(images.flatten(0, 1))
        return {name: e.float().view(n, views, -1).mean(1) for name, e in exits.items()}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        losses = self.losses(batch)
        total = torch.stack(list(losses.values())).sum()
        if len(losses) > 1:
            self.log_dict({f"train/loss_{name}": value.detach() for name, value in losses.items()})
        self.log("train/loss", total.detach(), prog_bar=True)
        return total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        return {"exits": self.embed(batch["image"]), "index": batch["index"]}

    test_step = validation_step

    def gather(self, *tensors: Tensor) -> list[Tensor]:
        """Each (N, ...) of all processes, (world * N, ...), with gradients.

        So that DDP mines its triplets in the whole PK batch, as one process would.
        """
        if self._trainer is None or self.trainer.world_size == 1:
            return list(tensors)
        return [
            cast(Tensor, self.all_gather(t, sync_grads=t.is_floating_point())).flatten(0, 1)
            for t in tensors
        ]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["rng_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._rng_state = checkpoint.get("rng_state")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self._rng_state is not None:  # here, since setting up draws numbers, too
            torch.set_rng_state(self._rng_state)
            self._rng_state = None
