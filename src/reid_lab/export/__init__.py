"""Export a checkpoint to ONNX: the whole network, and one file per exit to run in a chain.

`export_checkpoint` does what `reid-lab export` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.export.checkpoint import ExportResult, export_checkpoint
    from reid_lab.export.formats import Format

_HOMES = {"ExportResult": "checkpoint", "Format": "formats", "export_checkpoint": "checkpoint"}
__all__ = ["ExportResult", "Format", "export_checkpoint"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
