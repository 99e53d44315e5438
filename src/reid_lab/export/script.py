"""A part of a method as TorchScript."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from reid_lab.errors import first_line, with_options
from reid_lab.export.parts import Part
from reid_lab.runtime.engines import FACTS
from reid_lab.runtime.manifest import ExportError


def write_script(part: Part, path: Path, facts: Mapping[str, str]) -> None:
    """Write a part to one file for any number of images, with `facts`.

    The weights become constants.

    Raises:
        ExportError: torch cannot trace it.
    """
    try:
        with _quiet(), torch.no_grad():
            traced = torch.jit.trace(part.module, part.given, check_trace=False)
            frozen = torch.jit.freeze(traced)
    except Exception as error:  # the tracer's have no common base
        text = (
            f"the network cannot be traced as TorchScript ({first_line(error)}): leave torchscript "
            "out of"
        )
        raise with_options(ExportError(f"{text} to"), f"{text} --to") from error
    with _quiet():
        torch.jit.save(frozen, str(path), _extra_files={FACTS: json.dumps(dict(facts))})


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's advice to use torch.export instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
