"""A network in evaluation or training mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put a network in a mode for a block; then each part has its own again, after errors, too."""
    modes = {part: part.training for part in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def evaluating(module: nn.Module) -> AbstractContextManager[None]:
    """Put a network in evaluation mode for a block, see `in_mode`."""
    return in_mode(module, training=False)
