"""Base class of all methods: a LightningModule that turns images into exits, cheapest first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from math import isfinite
from typing import Any, NamedTuple, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from reid_lab.backbone import Backbone
from reid_lab.compat.lightning import is_attached, writes_metrics
from reid_lab.dataset.transforms import centre_of, enlarged, normalise
from reid_lab.errors import UserError, first
from reid_lab.model.random_state import CPU, CUDA, random_state, set_random_state
from reid_lab.openset.thresholds import AcceptThresholdsByExit
from reid_lab.results.card import ModelCard

CHECKED = 50  # steps between checks, on a GPU, that the loss is finite
State = tuple[Tensor, ...]  # what one exit leaves for the next


class Outputs(NamedTuple):
    """The output of one pass over training images, for the losses.

    `exits`: name -> embeddings (N, D). `logits`: name -> (N, identities), for exits with a
    classifier.
    """

    exits: dict[str, Tensor]
    logits: dict[str, Tensor]


class MethodError(UserError):
    """A method violates the contract of `ReidModule`."""


class DivergedError(UserError):
    """The loss or weights are not finite; training stops."""


class ReidModule(pl.LightningModule, ABC):
    """A method as a sequence of exits.

    A subclass names its exits, computes them one after the other in `step`, and defines its
    `objective` on the `outputs` of a pass. Evaluation, logging, exact resuming, the cost account,
    early exit and export need nothing else.
    """

    exit_names: tuple[str, ...] = ()
    # settings that configs of old checkpoints lack -> the values that they were trained with
    unstated: Mapping[str, Any] = {}
    renamed: Mapping[str, str] = {}  # settings of older configs and checkpoints -> their names now
    card: ModelCard | None = None  # of the checkpoint that it was loaded from
    accept_thresholds: AcceptThresholdsByExit = {}  # its thresholds for false-accept rates
    # (height, width) to which images are resized, likewise; the network sees the centre `crop`
    image: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None  # None: all of the image
    enlarge: float = 1  # image / crop
    space_problem: str = ""  # why its checkpoint's early exits do not fit `shared_exit`, if so

    def __init__(self) -> None:
        super().__init__()
        self._random: dict[str, Tensor] = {}  # state of the training that is resumed
        self._optimizers_kept: int | None = None  # in the checkpoint that is resumed
        self._losses: dict[str, Tensor] = {}  # of this step

    @abstractmethod
    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        """Compute the next exit.

        Args:
            exit: name of the exit.
            state: state of the previous exit; only the images (N, 3, H, W) at the first exit.

        Returns:
            The new state and this exit's embeddings (N, D). Every tensor of a state has the images
            along its first axis, so that a part of a batch can continue alone.
        """

    def see_centre(self, enlarge: float) -> None:
        """Crop enlarged images to their centre from now on: `image` becomes the `crop`."""
        if enlarge > 1 and self.image is not None:
            self.crop, self.enlarge = self.image, enlarge
            self.image = enlarged(self.crop, enlarge)

    def cropped(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) of size `image` -> their centre (N, 3, h, w); others unchanged."""
        whole = tuple(images.shape[2:]) == self.image
        if self.crop is None or self.image is None or not whole:
            return images
        (height, width), (top, left) = self.crop, centre_of(self.image, self.crop)
        return images[:, :, top : top + height, left : left + width]

    def prepared(self, pixels: Tensor) -> Tensor:
        """Pixels (N, H, W, 3) uint8 of size `image` -> the network's input (N, 3, h, w)."""
        return normalise(self.cropped(pixels.permute(0, 3, 1, 2)))

    def exits(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Images (N, 3, H, W) -> (name, embeddings (N, D)), one after the other.

        Images of size `image` are cropped to their centre.

        Lazy: nothing beyond an exit is computed before the next exit is requested.

        Raises:
            MethodError: `exit_names` is empty, or `step` returned something else.
        """
        if not self.exit_names:
            raise MethodError(
                f"{type(self).__name__} has no exits: set exit_names, a tuple of names, in the "
                "class or in its constructor"
            )
        state: State = (self.cropped(images),)
        for name in self.exit_names:
            result = self.step(name, state)
            self._check_step(name, result)
            state, rows = result
            yield name, rows

    def _check_step(self, exit: str, result: object) -> None:
        if isinstance(result, tuple) and len(result) == 2:
            state, rows = result
            if isinstance(state, tuple) and isinstance(rows, Tensor) and rows.ndim == 2:
                return
        raise MethodError(
            f"{type(self).__name__}.step({exit!r}) returned {_described(result)}; expected "
            "(state, embeddings): a tuple of tensors for the next exit and a tensor (N, D)"
        )

    def outputs(self, images: Tensor) -> Outputs:
        """Training images (N, 3, H, W) -> embeddings and logits, in one pass."""
        return Outputs(self(images), {})

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The scalar losses by name of a training batch's outputs; they are summed."""
        raise NotImplementedError(
            f"{type(self).__name__} has no objective and no losses: implement objective"
        )

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A training batch -> the scalar losses by name.

        Override it in a method that does not learn from one pass; such a method cannot be
        distilled.
        """
        return self.objective(self.outputs(batch["image"]), batch)

    @property
    def stream_exits(self) -> tuple[str, ...]:
        """The exits at which a query may exit early."""
        return self.exit_names

    @property
    def shared_exit(self) -> str | None:
        """The exit whose gallery embeddings serve the queries of every exit.

        None: queries are compared with the gallery's embeddings of their own exit.
        """
        return None

    @property
    def exit_signs(self) -> dict[str, Tensor]:
        """Exits that rank by a learned form with negative directions: name -> (D,) signs, 1 or -1.

        The form is the sum of the signs times the squared differences of two embeddings, which is
        not a distance. All other exits rank by the chosen metric.
        """
        return {}

    @property
    def exit_weights(self) -> dict[str, Tensor]:
        """The learned scalar weight of each exit in a fusion, by name; logged and reported."""
        return {}

    @property
    def compilable(self) -> list[nn.Module]:
        """The parts for `torch.compile`, each of which is called as a whole."""
        return []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) -> exit -> embeddings (N, D)."""
        return dict(self.exits(images))

    def embed(self, images: Tensor) -> dict[str, Tensor]:
        """Views (N, V, 3, H, W) -> exit -> embeddings (N, D) float32, the mean over V."""
        return _mean_of_views(self(images.flatten(0, 1)), images)

    def embed_unshared(self, images: Tensor) -> dict[str, Tensor]:
        """Like `embed`, but before the exits are mapped into the space of `shared_exit`."""
        return _mean_of_views(self.outputs(images.flatten(0, 1)).exits, images)

    def share_space(self, exits: Mapping[str, Tensor], pids: Tensor) -> None:
        """Fit the maps of every exit into the space of `shared_exit`, after training.

        Args:
            exits: exit -> (N, D) of the training images, from `embed_unshared`.
            pids: (N,) pids of the training images.
        """
        raise NotImplementedError(f"{type(self).__name__} has a shared_exit and no share_space")

    @property
    def space_is_fitted(self) -> bool:
        """Whether `share_space` was called, if there is a `shared_exit`."""
        return True

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        losses = self.losses(_TrainingBatch(batch))
        if not isinstance(losses, dict) or not losses:
            raise MethodError(
                f"the losses of {type(self).__name__} are {_described(losses)}; expected scalars "
                "by name, such as {'triplet': loss}"
            )
        for backbone in self._penalised:
            losses |= backbone.penalties()
        total = torch.stack(list(losses.values())).sum()
        self._losses = {name: value.detach() for name, value in losses.items()}
        if len(losses) > 1:
            self.log_step({f"loss_{name}": value for name, value in self._losses.items()})
        self.log_step({"loss": total.detach()}, prog_bar=True)
        if self.exit_weights:
            self.log_step({f"weight_{name}": value for name, value in self.exit_weights.items()})
        if is_attached(self) and self.global_step == batch_idx == 0:
            self._log_first_step(total)
        return total

    @cached_property
    def _penalised(self) -> list[Backbone]:
        """The networks inside that add separate losses."""
        inside = [module for module in self.modules() if isinstance(module, Backbone)]
        return [m for m in inside if type(m).penalties is not Backbone.penalties]

    def log_step(self, values: Mapping[str, Tensor | float], prog_bar: bool = False) -> None:
        """Log values of a training step under `train/`, at the steps at which they are written.

        Lightning's `log` takes a millisecond, more than a small network's step on a GPU.
        """
        if is_attached(self):
            shown = prog_bar and self.trainer.progress_bar_callback is not None
            if not (shown or writes_metrics(self.trainer)):
                return
        for name, value in values.items():
            self.log(f"train/{name}", value, prog_bar=prog_bar)

    def _log_first_step(self, total: Tensor) -> None:
        """Log the losses of the first step, which Lightning skips if it logs every n-th step."""
        if self.trainer.log_every_n_steps <= 1:  # type: ignore[attr-defined]
            return
        losses = {f"train/loss_{name}": value.item() for name, value in self._losses.items()}
        losses = losses if len(losses) > 1 else {}
        for logger in self.trainer.loggers:
            logger.log_metrics({**losses, "train/loss": total.item()}, step=0)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        return {"exits": self.embed(batch["image"])}

    test_step = validation_step

    def gather(self, *tensors: Tensor) -> list[Tensor]:
        """Gather tensors (N, ...) of all processes, (world * N, ...), with gradients.

        DDP then mines triplets in the whole PK batch, as a single process does.
        """
        if not is_attached(self) or self.trainer.world_size == 1:
            return list(tensors)
        return [
            cast(Tensor, self.all_gather(t, sync_grads=t.is_floating_point())).flatten(0, 1)
            for t in tensors
        ]

    def diverged(self) -> bool:
        """Whether the loss of this step is not finite on some process.

        Only the loss is checked: in fp16 the scaler skips steps whose gradients overflow.
        """
        if not self._losses:
            return False
        finite = bool(torch.stack(list(self._losses.values())).sum().isfinite())
        return not self._on_all(finite)

    def forget_loss(self) -> None:
        """Continue after a loss that is not finite, once the weights are restored."""
        self._losses = {}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        # a GPU would be waited for; weights stay NaN, and checkpoints are checked, too
        if self.device.type != "cuda" or self.global_step % CHECKED == 0:
            self._check_loss()

    def on_validation_start(self) -> None:
        self._check_weights(self.state_dict())

    def on_test_start(self) -> None:
        self._check_weights(self.state_dict())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._check_loss()
        self._check_weights(checkpoint["state_dict"])
        checkpoint.update(random_state(self.device))

    def _check_loss(self) -> None:
        if not self.diverged():
            return
        parts = {name: float(value) for name, value in self._losses.items()}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in parts.items())
        what = f"the loss is {sum(parts.values()):.4g} ({shown})"
        if isfinite(sum(parts.values())):
            what = "the loss of another process is not finite"
        raise DivergedError(f"{what} {self._advice()}")

    def _check_weights(self, state: Mapping[str, Any]) -> None:
        broken = [
            name
            for name, value in state.items()
            if isinstance(value, Tensor) and not bool(value.isfinite().all())
        ]
        if not self._on_all(not broken):
            named = ", ".join(first(broken, 3))
            raise DivergedError(f"weights are not finite ({named}) {self._advice()}")

    def _advice(self) -> str:
        """The state of the training and advice, for the message."""
        if not is_attached(self) or not self.trainer.optimizers:
            return "and nothing can be computed with them: give another checkpoint, or train again"
        rate, precision = self.trainer.optimizers[0].param_groups[0]["lr"], self.trainer.precision
        exact = "" if precision == "32-true" else f", trainer.precision=32-true (now {precision})"
        return (
            f"at step {self.global_step} with learning rate {rate:.3g}: the training has "
            f"diverged. Try a lower model.lr, +trainer.gradient_clip_val=1{exact}"
        )

    def _on_all(self, ok: bool) -> bool:
        """Whether `ok` holds on all processes."""
        if not is_attached(self) or self.trainer.world_size == 1:
            return ok
        return self.trainer.strategy.reduce_boolean_decision(ok)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._random = {key: checkpoint[key] for key in (CPU, CUDA) if key in checkpoint}
        self._optimizers_kept = len(checkpoint.get("optimizer_states") or [])

    def on_train_start(self) -> None:
        if self._optimizers_kept not in (None, len(self.trainer.optimizers)):
            raise ValueError(
                f"the checkpoint holds the state of {self._optimizers_kept} optimisers, this "
                f"training has {len(self.trainer.optimizers)}"
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        set_random_state(self._random, self.device)  # here, since setting up draws numbers, too
        self._random = {}


def _mean_of_views(exits: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    n, views = images.shape[:2]
    return {name: e.float().view(n, views, -1).mean(1) for name, e in exits.items()}


class _TrainingBatch(dict[str, Tensor]):
    def __missing__(self, key: str) -> Tensor:
        raise MethodError(f"a training batch has no {key!r}; available: {', '.join(self)}")


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_described, value))})"
    return f"{type(value).__name__} {value!r:.40}"
