"""Read weights files of any toolbox safely: tensors and plain values, nothing is run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_lab import optional
from reid_lab.errors import UserError
from reid_lab.files.regular import no_file
from reid_lab.files.stored import StoredFileError, read_arrays
from reid_lab.results.card import ModelCard

# where toolboxes keep the state dict in a checkpoint
WRAPPERS = ("state_dict", "model", "model_state_dict", "network", "net", "state_dict_ema")
DATA_PARALLEL = "module."


class WeightsError(UserError):
    """Pre-trained weights cannot be loaded; the message explains how to get them."""


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file.

    Attributes:
        path: path of the file.
        state: tensors by name, without DataParallel's `module.`.
        others: entries beside the state dict: epoch, accuracy, config, metadata.
    """

    path: Path
    state: dict[str, Tensor]
    others: dict[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.state.items()}

    @property
    def card(self) -> ModelCard | None:
        """The model card of a checkpoint of this suite; None for other or older files."""
        return ModelCard.of(self._kept("card"))

    @property
    def backbone(self) -> Mapping[str, Any]:
        """The backbone's config in a checkpoint of this suite; empty for other files."""
        return self._kept("model", "backbone") or {}

    def _kept(self, *keys: str) -> Mapping[str, Any] | None:
        node: Any = self.others.get("hyper_parameters")
        for key in keys:
            node = node.get(key) if isinstance(node, Mapping) else None
        return node if isinstance(node, Mapping) else None


def read_weights(path: Path | str) -> WeightsFile:
    """Read a .pth, .pth.tar, .ckpt, .safetensors or .npz file.

    Raises:
        WeightsError: no such file, a damaged one, or one without a state dict.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"{path}: {no_file(path) if path.exists() else 'no such file'}")
    try:
        content, others = _content(path)
        state = _state(content)
    except ValueError as error:
        raise WeightsError(f"{path}: no state dict ({error})") from error
    if isinstance(content, dict) and state is not content:
        others = {str(k): v for k, v in content.items() if v is not state}
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise WeightsError(f"{path}: no state dict (it holds no tensor by name)")
    for name, tensor in tensors.items():
        if not is_dense(tensor):
            raise WeightsError(f"{path}: {name} is not a dense tensor")
    if all(name.startswith(DATA_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(DATA_PARALLEL): value for name, value in tensors.items()}
    return WeightsFile(path, tensors, others)


def read_state(path: Path, key: str, allowed: str) -> dict[str, Tensor]:
    """The state dict in a file, plain or in a checkpoint; see `read_given`."""
    return read_given(path, key, allowed).state


def read_given(path: Path, key: str, allowed: str) -> WeightsFile:
    """Read a weights file that the user gave as `key`.

    Raises:
        WeightsError: no such file, or no state dict; the message says what is `allowed`.
    """
    try:
        return read_weights(path)
    except WeightsError as error:
        raise WeightsError(f"{key}={error}; {allowed}") from error


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor takes as much memory as in its file; an expanded one takes far more."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _content(path: Path) -> tuple[Any, dict[str, Any]]:
    """The content of a file and its metadata. Raises ValueError with the reason."""
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".npz":
        return _npz(path), {}
    broken = None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()  # torch writes checksums, but does not read them
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # about pickles that torch did not write
            if broken is None:
                return torch.load(path, map_location="cpu", weights_only=True), {}
    except pickle.UnpicklingError as error:
        raise ValueError(_reason(error)) from error
    except Exception as error:  # torch raises many kinds for a file that it did not write
        raise ValueError(f"truncated, or not written by torch: {type(error).__name__}") from error
    raise ValueError(f"{broken} has a wrong checksum")


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    safetensors = optional.load("safetensors", "a .safetensors file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # its own errors are of no public base class
        raise ValueError(f"truncated, or no safetensors file: {error}") from error


def _npz(path: Path) -> dict[str, Tensor]:
    """The numeric arrays by name, such as TensorFlow's variables."""
    try:
        arrays = read_arrays(path)
    except StoredFileError as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from error
    return {k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype.kind in "fi"}


def _numpy_scalars() -> list[Any]:
    """Classes in the pickle of an accuracy that NumPy computed; no arrays or objects."""
    scalar = np.float64().__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    dtypes = {type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "?")}
    return [*((scalar, name) for name in names), np.dtype, *dtypes]


def _reason(error: pickle.UnpicklingError) -> str:
    found = re.search(r"(?:GLOBAL|global|class|Global) '?([\w.]+)'?", str(error))
    if found is None:
        return "truncated, or not written by torch"
    return (
        f"it holds a {found[1]}, and only tensors and plain values are loaded; where it can be "
        "loaded, save its state dict by itself: torch.save(model.state_dict(), ...)"
    )


def _state(content: Any) -> Mapping[Any, Any]:
    """The state dict in a file's content: the content itself, or the value of a known key."""
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}")
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            result: Mapping[Any, Any] = content[key]
            return result
    if any(isinstance(value, Tensor) for value in content.values()):
        return content
    raise ValueError(f"it holds {', '.join(map(str, list(content)[:5])) or 'nothing'}")
