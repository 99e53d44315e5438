"""Build the objects of a config; values that a constructor refuses are user errors."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from reid_lab.config.nodes import written_key
from reid_lab.errors import UserError

# raised by constructors for invalid values; HYDRA_FULL_ERROR=1 shows the traceback
REFUSALS = (ValueError, TypeError, ArithmeticError, OSError, RuntimeError, ImportError)


class RefusedError(UserError):
    """A constructor refused a value: its `key`, and the constructor's `reason`."""

    def __init__(self, key: str, reason: object) -> None:
        self.key, self.reason = key, str(reason).strip()
        super().__init__(f"{key}: {self.reason}")


def make(cfg: DictConfig, key: str, **more: Any) -> Any:
    """`instantiate` the node at `key`; values that a constructor refuses are user errors.

    Raises:
        RefusedError: a constructor refused a value.
    """
    try:
        return instantiate(OmegaConf.select(cfg, key), **more)
    except InstantiationException as error:
        if isinstance(error.__cause__, (*REFUSALS, MisconfigurationException)):
            keys = written_key(OmegaConf.to_container(cfg, resolve=False), refusing(cfg, key))
            raise RefusedError(".".join(keys), error.__cause__) from error
        raise


def refusing(cfg: DictConfig, key: str) -> list[str]:
    """The innermost node at or below `key` that cannot be built."""
    node = OmegaConf.select(cfg, key)
    names = list(node) if isinstance(node, DictConfig) else range(len(node))
    for name in names:
        inner = f"{key}.{name}"
        if OmegaConf.is_config(OmegaConf.select(cfg, inner)):
            try:
                instantiate(OmegaConf.select(cfg, inner))
            except InstantiationException:
                return refusing(cfg, inner)
    return key.split(".")


def plain(node: DictConfig) -> Any:
    """The config with interpolations resolved, in Python's container types."""
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


def image_size(cfg: DictConfig) -> tuple[int, int]:
    """(height, width) of the images."""
    return cfg.dataset.transforms.height, cfg.dataset.transforms.width
