"""`reid-lab export --to tflite`, where its packages are installed, and its engine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from reid_lab.checkpoint import load_model
from reid_lab.dataset.transforms import normalise
from reid_lab.export import formats
from reid_lab.optional import MissingPackageError
from reid_lab.results.rows.cost import COST
from reid_lab.runtime import ExportError, Manifest, Model
from reid_lab.runtime.engines import TfliteEngine
from tests.commands import export as main
from tests.export.conftest import check_without_torch, noise
from tests.export.test_export import cut, one_bit
from tests.methods import method, save

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DaRe's `last.ckpt` and its export `out`, timed once."""
    for package in ("litert_torch", "ai_edge_litert"):
        pytest.importorskip(package)
    made = tmp_path_factory.mktemp("tflite")
    words = ["--checkpoint", str(save(method("dare"), made / "last.ckpt"))]
    words += ["--out", str(made / "out"), "--to", "onnx,tflite"]
    words += ["--repeats", "1", "--seconds", "0.01", "--batch-size", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "ROUNDS", 1)
        assert main(words) == 0
    return made


def test_it_computes_what_pytorch_does(folder: Path) -> None:
    """Whole, in stages and as a stream, for several numbers of images."""
    model = Model(folder / "out" / "tflite", threads=1)
    for count in (1, 4):
        pixels = noise(count, seed=count)
        with torch.inference_mode():
            images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
            wanted = load_model(folder / "last.ckpt")(images)
        whole = model.embed(pixels)
        for exit, rows in wanted.items():
            for given in (whole[exit], model.embed_until(pixels, exit)):
                np.testing.assert_allclose(given, rows, atol=2e-5 * float(rows.abs().max()), rtol=0)
    assert model.embed(noise(0))["fusion"].shape == (0, whole["fusion"].shape[1])
    streamed = model.stream(pixels, lambda exit, rows: np.arange(len(rows)) == 1)
    first = streamed.exits[1]
    assert first == model.manifest.exits[0].name
    np.testing.assert_array_equal(streamed.embeddings[1], model.embed_until(pixels, first)[1])


def test_it_is_compared_and_timed(folder: Path) -> None:
    onnx, found = Manifest.read(folder / "out"), Manifest.read(folder / "out" / "tflite")
    assert (found.file_format, found.fingerprint) == ("tflite", onnx.fingerprint)
    assert max(gap["relative"] for gap in found.measured["difference"].values()) < 1e-5
    assert {"litert-torch", "ai-edge-litert"} <= found.versions.keys()
    rows = [row for row in COST.read(folder / "out" / COST.file) if row.format == "tflite"]
    assert [row.exit for row in rows] == [*found.names]
    first = folder / "out" / "tflite" / found.stages[0].file
    assert rows[0].file_bytes == first.stat().st_size and rows[0].latency_p50_ms > 0


def test_it_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    check_without_torch(folder / "out", "tflite", tmp_path)


def test_damaged_files_are_not_run(folder: Path) -> None:
    at = folder / "out" / "tflite"
    path, plain = at / "model.tflite", Manifest.read(at)
    content = path.read_bytes()
    try:
        for damage in (one_bit, cut):
            damage(path)
            with pytest.raises(ExportError, match="has changed since it was written"):
                Model(at).embed(noise(1))
            path.write_bytes(content)
        replace(plain, crc32={}).write(at)
        path.write_bytes(content[:1000])
        with pytest.raises(ExportError, match=r"model\.tflite cannot be opened"):
            Model(at).embed(noise(1))
        path.unlink()
        with ZipFile(path, "w") as archive:
            archive.writestr("other", "")
        with pytest.raises(ExportError, match=r"model\.tflite cannot be opened"):
            Model(at).embed(noise(1))
    finally:
        path.write_bytes(content)
        plain.write(at)


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(
        MissingPackageError, match=r"model\.tflite needs .*pip install ai-edge-litert"
    ):
        TfliteEngine(tmp_path / "model.tflite", 1, ())
