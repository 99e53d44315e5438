"""A part of a method as TFLite, by litert-torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from torch import Tensor, nn

from reid_lab.errors import first_line, with_options
from reid_lab.export.parts import Part
from reid_lab.export.trace import Exportable, Network, silenced
from reid_lab.optional import load
from reid_lab.runtime.engines import FACTS_FILE
from reid_lab.runtime.manifest import ExportError


class Convertible(nn.Module):
    """A part with registered weights, in operations that LiteRT supports."""

    def __init__(self, network: Network, part: Part) -> None:
        super().__init__()
        self.network, self.part = network, part.module

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        with Exportable():
            found: tuple[Tensor, ...] = self.part(*given)
        return found


def write_tflite_part(network: Network, part: Part, path: Path, facts: Mapping[str, str]) -> None:
    """Write a part to one file for the number of images of its example.

    `facts` follow the graph as a file in a ZIP archive, as TFLite keeps files with a model.

    Raises:
        ExportError: litert-torch cannot convert it.
    """
    with silenced():
        converter = load("litert_torch", "to=tflite", "--to tflite")
        try:
            converter.convert(Convertible(network, part).eval(), part.given).export(str(path))
        except Exception as error:  # the converter's have no common base
            text = (
                f"the network cannot be converted to TFLite ({type(error).__name__}: "
                f"{first_line(error)}): leave tflite out of"
            )
            raise with_options(ExportError(f"{text} to"), f"{text} --to") from error
    with ZipFile(path, "a") as archive:
        archive.writestr(ZipInfo(FACTS_FILE), json.dumps(dict(facts)))
