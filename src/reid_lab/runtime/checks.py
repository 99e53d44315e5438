"""Checks of an export's files, and of what goes into its network and comes out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from reid_lab.budget.router import Mask
from reid_lab.files.regular import no_file
from reid_lab.gallery_format.rows import CHUNK, crc32
from reid_lab.runtime.engines import Engine
from reid_lab.runtime.manifest import (
    MANIFEST,
    PIXELS,
    ExportedExit,
    ExportError,
    Manifest,
    beside,
)
from reid_lab.runtime.weights import weight_files


def check_file(folder: Path, file: str, manifest: Manifest) -> None:
    """Check a file of the export in `folder`, and its weights, before they are opened.

    Raises:
        ExportError: a file is missing, lies elsewhere, or has changed since it was written.
    """
    weights = beside(file, manifest.file_format)
    for name in (file, weights):
        path = folder / name
        if name != file and not path.exists():
            continue
        if not path.is_file():
            raise ExportError(f"{path} {no_file(path)}: copy the export again, or export again")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ExportError(f"{path} is a link to outside of {folder}: copy the file")
        wanted = manifest.crc32.get(name)
        if wanted is not None and crc32_of(path) != wanted:
            raise ExportError(
                f"{path} has changed since it was written (its CRC-32 is not the {wanted:08x} of "
                f"{MANIFEST}), or is of another export: copy the export again, or export again"
            )
    if manifest.file_format == "onnx":
        _check_weights(folder / file, Path(weights).name)


def _check_weights(path: Path, allowed: str) -> None:
    """Check that an ONNX file reads weights from no file but `allowed`.

    Raises:
        ExportError: it does, or is not an ONNX file.
    """
    try:
        elsewhere = weight_files(path.read_bytes()) - {allowed}
    except ValueError as error:
        raise ExportError(f"{path} cannot be opened ({error}): export again") from error
    if elsewhere:
        raise ExportError(
            f"{path} cannot be opened: it reads weights from {', '.join(sorted(elsewhere))}, "
            f"only {allowed} is allowed: export again"
        )


def check_facts(path: Path, engine: Engine, manifest: Manifest) -> None:
    """Check the metadata of an opened file.

    Raises:
        ExportError: the file and the manifest disagree.
    """
    facts = engine.facts
    found = facts.get("fingerprint", "none")
    if found != manifest.fingerprint:
        raise ExportError(
            f"{path} has the fingerprint {found[:12]}, the manifest beside it "
            f"{manifest.fingerprint[:12]}: they are of two exports, export again"
        )
    ours = asdict(manifest)
    for key in ("precision", "preprocessing", "exits"):
        try:
            text = facts[key] if key != "precision" else json.dumps(facts[key])
            same = json.loads(text) == json.loads(json.dumps(ours[key]))
        except (KeyError, ValueError, RecursionError):
            same = False
        if not same:
            raise ExportError(f"{path} has other {key} than the manifest beside it: export again")
    shape, wanted = engine.shapes.get(PIXELS), [*manifest.preprocessing.image, 3]
    if shape is not None and [*shape[1:]] != wanted:
        raise ExportError(
            f"{path} takes pixels {[*shape[1:]]}, {MANIFEST} has {wanted}: export again"
        )


def check_embeddings(path: Path, exit: ExportedExit, rows: np.ndarray, images: int) -> None:
    """Check the embeddings that a file gives for an exit.

    Raises:
        ExportError: they do not fit the manifest, or are not finite.
    """
    if rows.dtype != np.float32 or rows.shape != (images, exit.dim):
        raise ExportError(
            f"{path} gives {rows.dtype} {rows.shape} for exit {exit.name!r}, the manifest has "
            f"float32 ({images}, {exit.dim}): export again"
        )
    if not np.isfinite(rows).all():
        raise ExportError(
            f"{path} gives embeddings of exit {exit.name!r} that are not finite: export a "
            "checkpoint that has not diverged"
        )


def check_pixels(pixels: np.ndarray, image: tuple[int, int]) -> None:
    """Check a batch of images.

    Raises:
        ExportError: it is not (N, *image, 3) uint8.
    """
    wanted = (*image, 3)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted:
        raise ExportError(
            f"pixels are {pixels.dtype} {pixels.shape}: this network takes uint8 "
            f"(N, {', '.join(map(str, wanted))}), RGB"
        )


def check_mask(exit: str, out: np.ndarray, images: int) -> Mask:
    """Check and return the result of `exits_here`.

    Raises:
        ExportError: it is not a mask over the images.
    """
    if out.shape != (images,) or out.dtype != bool:
        raise ExportError(
            f"exits_here({exit!r}, ...) returned {out.dtype} {out.shape}: it must return bool "
            f"({images},), one for each image"
        )
    return out


def crc32_of(path: Path) -> int:
    """The CRC-32 of a file, read in parts."""
    crc = 0
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            crc = crc32(part, crc)
    return crc
