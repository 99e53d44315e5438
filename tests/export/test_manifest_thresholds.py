"""Thresholds of a checkpoint in its export, and a gallery without its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid_lab.errors import UserError
from reid_lab.files.strict_json import read_json
from reid_lab.files.tables import write_json
from reid_lab.gallery_format.card import Card
from reid_lab.gallery_format.writer import RowWriter, locked
from reid_lab.openset.thresholds import OWN, AcceptThreshold, AcceptThresholds
from reid_lab.runtime.gallery import Gallery
from reid_lab.runtime.manifest import MANIFEST, ExportedExit, Manifest, Preprocessing, Stage

ONE = AcceptThresholds("searches", "x", 7, 9, 9, (AcceptThreshold(0.1, 1.0, 1.0),))


def manifest() -> Manifest:
    image = Preprocessing((16, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    stage = Stage("stages/0_late.onnx", ("pixels",), ("late",))
    exits = (ExportedExit("late", 4, 10, True),)
    return Manifest(
        "m", "float32", image, exits, (stage,), {}, accept_thresholds={"late": {"cosine": (ONE,)}}
    )


def test_an_export_keeps_them(tmp_path: Path) -> None:
    manifest().write(tmp_path)
    assert Manifest.read(tmp_path) == manifest()
    content = read_json(tmp_path / MANIFEST)
    content["calibrations"] = content.pop("accept_thresholds")  # their name in older exports
    write_json(tmp_path / MANIFEST, content)
    assert Manifest.read(tmp_path) == manifest()
    del content["calibrations"]  # as exports of earlier versions
    write_json(tmp_path / MANIFEST, content)
    assert Manifest.read(tmp_path).accept_thresholds == {}


def test_a_gallery_without_its_own_has_those_of_the_network(tmp_path: Path) -> None:
    for metric in ("cosine", "euclidean"):
        folder = tmp_path / metric
        folder.mkdir()
        Card("m", 4, "late", (16, 8), metric).write(folder)  # type: ignore[arg-type]
        Gallery.open_rows(folder).add(np.eye(3, 4, dtype=np.float32), list("abc"), list("xyz"))
    gallery = Gallery.open(tmp_path / "cosine", manifest())
    (verdict,) = gallery.verdicts(np.eye(1, 4, dtype=np.float32), 0.1)
    assert (verdict.verdict, verdict.source) == ("known", "x")
    with pytest.raises(UserError, match="has no thresholds"):
        Gallery.open(tmp_path / "euclidean", manifest()).verdicts(np.eye(1, 4), 0.1)
    own = replace(ONE, source=OWN)
    with locked(gallery.folder):
        RowWriter(Gallery.open_rows(gallery.folder)).set_accept_thresholds((own,))
    (verdict,) = Gallery.open(gallery.folder, manifest()).verdicts(np.eye(1, 4), 0.1)
    assert verdict.source == OWN
