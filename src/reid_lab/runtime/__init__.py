"""Use an exported network: numpy and onnxruntime (or OpenVINO, LiteRT), without torch.

model = Model("exported/")
exits = embed(model, frame, boxes)  # exit -> (N, D)
exits = embed(model, ["someone.jpg"])  # exit -> (1, D)

reid-lab runtime FOLDER IMAGES... --out embeddings.npz
"""

from reid_lab.runtime.embedding import embed
from reid_lab.runtime.files import (
    FileMatch,
    FileResult,
    SearchedFiles,
    embed_to_file,
    search_files,
)
from reid_lab.runtime.gallery import Gallery
from reid_lab.runtime.manifest import ExportError, Manifest
from reid_lab.runtime.merged import Answer, MergedStream
from reid_lab.runtime.model import Model, Streamed

__all__ = [
    "Answer",
    "ExportError",
    "FileMatch",
    "FileResult",
    "Gallery",
    "Manifest",
    "MergedStream",
    "Model",
    "SearchedFiles",
    "Streamed",
    "embed",
    "embed_to_file",
    "search_files",
]
