"""`reid-lab export --to`: OpenVINO and TorchScript beside ONNX, compared, timed, scored."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_lab.dataset.transforms import normalise
from reid_lab.export import checkpoint as exporting
from reid_lab.export import formats, timed
from reid_lab.export.files import write_openvino, write_torchscript
from reid_lab.export.trace import TRACED, Network
from reid_lab.frontier.collect import collect
from reid_lab.model import ReidModule
from reid_lab.results.rows.cost import COST
from reid_lab.runtime import ExportError, Manifest, Model
from tests.commands import export as main
from tests.export.conftest import EXPORTED, Exported, check_without_torch, network_of, noise
from tests.export.test_export import cut, one_bit
from tests.methods import SIZE, method, save

pytest.importorskip("openvino")
pytestmark = pytest.mark.system

FLOAT = {"onnx": ".", "openvino": "openvino", "torchscript": "torchscript"}
INT8 = {"onnx int8": "int8", "openvino int8": "openvino/int8"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, people: Path) -> Path:
    """DaRe's `last.ckpt` and its export `out` in all formats, timed once."""
    made = tmp_path_factory.mktemp("formats")
    words = ["--checkpoint", str(save(method("dare"), made / "last.ckpt"))]
    words += ["--out", str(made / "out"), "--to", "onnx,openvino,torchscript", "--int8"]
    words += ["--calibration", "16", "--repeats", "1", "--seconds", "0.01", "--batch-size", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "ROUNDS", 1)
        assert main([*words, "dataset=market1501", f"dataset.root={people}"]) == 0
    return made


def check_network(model: Model, wanted: ReidModule) -> None:
    """Whole, in stages and as a stream, for several numbers of images."""
    for count in (1, 4):
        pixels = noise(count, seed=count)
        with torch.inference_mode():
            rows = wanted(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
        whole = model.embed(pixels)
        for exit, row in rows.items():
            for given in (whole[exit], model.embed_until(pixels, exit)):
                np.testing.assert_allclose(given, row, atol=2e-5 * float(row.abs().max()), rtol=0)
    exits = [e.name for e in model.manifest.exits if e.stream]
    places = np.arange(len(pixels)) % len(exits)

    def exits_here(exit: str, found: np.ndarray) -> np.ndarray:
        left = places[places >= exits.index(exit)]
        assert len(found) == len(left)  # the others have exited
        return np.asarray(left == exits.index(exit))

    streamed = model.stream(pixels, exits_here)
    assert streamed.exits == [exits[place] for place in places]
    for row, exit, place in zip(streamed.embeddings, streamed.exits, range(4), strict=True):
        np.testing.assert_allclose(row, whole[exit][place], atol=2e-5 * np.abs(whole[exit]).max())


@pytest.mark.parametrize("name", EXPORTED)
def test_every_method_in_every_format(exported: Exported, name: str, tmp_path: Path) -> None:
    source = exported(name) / "out"
    wanted, plain = network_of(exported(name)), Manifest.read(source)
    write_openvino(tmp_path / "o", source, replace(plain, file_format="openvino"))
    check_network(Model(tmp_path / "o"), wanted)
    network = Network(wanted, SIZE).eval()
    with torch.no_grad():
        plans = network.plan(torch.zeros(TRACED, *SIZE, 3, dtype=torch.uint8))
    write_torchscript(tmp_path / "t", network, plans, replace(plain, file_format="torchscript"))
    check_network(Model(tmp_path / "t", threads=1), wanted)


def test_formats_of_one_network_can_be_compared(folder: Path) -> None:
    found = {n: Manifest.read(folder / "out" / at) for n, at in {**FLOAT, **INT8}.items()}
    keys = {name: manifest.fingerprint for name, manifest in found.items()}
    assert len({keys[name] for name in FLOAT}) == 1
    assert len(set(keys.values())) == 3  # INT8 rounds otherwise in each
    gaps: dict[str, list[float]] = {}
    for name, manifest in found.items():
        assert manifest.file_format == name.split()[0]
        assert manifest.precision == ("int8" if name in INT8 else "float32")
        gaps[name] = [gap["relative"] for gap in manifest.measured["difference"].values()]
        assert max(gaps[name]) < 1e-5 if name in FLOAT else 1e-4 < max(gaps[name]) < 0.5
    assert gaps["openvino int8"] == pytest.approx(gaps["onnx int8"], rel=0.3)  # the same graph


def test_signals_are_handled_after_openvino(folder: Path) -> None:
    """It would leave a freed signal stack behind, and the process would end here."""
    models = [Model(folder / "out" / "openvino", threads=1) for _ in range(3)]
    assert all(len(model.embed(noise(1))) for model in models)
    while models:  # freed in the order in which they were opened
        del models[0]
        gc.collect()
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_int8_in_openvino_is_int8(folder: Path) -> None:
    """The weights take a byte; with and without early exit the embeddings are the same."""
    file = "stages/04_stage4.bin"
    small, full = (folder / "out" / "openvino" / at / file for at in ("int8", "."))
    assert small.stat().st_size < 0.5 * full.stat().st_size
    model, pixels = Model(folder / "out" / "openvino" / "int8"), noise(3)
    model.open_whole()
    assert not list(model.folder.glob("model.*"))
    for exit, rows in model.embed(pixels).items():
        np.testing.assert_array_equal(model.embed_until(pixels, exit), rows)
    streamed = model.stream(pixels, lambda exit, rows: np.arange(len(rows)) == 1)
    assert streamed.exits[1] == "stage1"
    np.testing.assert_array_equal(streamed.embeddings[1], model.embed(pixels)["stage1"][1])


def test_each_format_is_in_the_cost_table(folder: Path) -> None:
    rows, manifest = COST.read(folder / "out" / COST.file), Manifest.read(folder / "out")
    names = [f"{row.format} {row.precision}" for row in rows]
    listed = ["pytorch float32", "onnx float32", "openvino float32", "torchscript float32"]
    listed += ["onnx int8", "openvino int8"]
    assert list(dict.fromkeys(names)) == listed
    assert [row.exit for row in rows] == [*manifest.names] * len(listed)
    for row in rows:
        assert 0 < row.latency_p50_ms <= row.latency_p95_ms and row.images_per_second > 0
        assert (row.batch, row.threads) == (4, 1)
        assert np.isnan(row.file_bytes) == (row.format == "pytorch")
        assert row.process_bytes > 2e7 or not timed.STATUS.is_file()
    stages = manifest.stages[0].file
    onnx = next(row for row in rows if row.format == "onnx")
    assert onnx.file_bytes == (folder / "out" / stages).stat().st_size


def test_each_format_is_a_point_of_the_frontier(folder: Path) -> None:
    found = collect([folder / "out"])
    assert not found.broken and not found.notes
    assert len({point.dataset for point in found.points}) == 1
    methods = {point.method for point in found.points}
    assert methods == {f"last {name}" for name in ("pytorch", *FLOAT, *INT8)}
    for point in found.points:
        assert point.latency_p50_ms > 0 and "threads 1" in point.measured_on
        assert point.runs == str(folder / "last.ckpt")
    maps = {p.method: p.mAP for p in found.points if p.point == "fusion"}
    assert maps["last openvino"] == pytest.approx(maps["last pytorch"], abs=1e-3)


def test_openvino_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    check_without_torch(folder / "out", "openvino", tmp_path)


@pytest.mark.parametrize(
    "name", ["openvino/model.bin", "openvino/model.xml", "torchscript/model.pt"]
)
@pytest.mark.parametrize("damage", [one_bit, cut])
def test_damaged_files_are_not_run(folder: Path, tmp_path: Path, name: str, damage: object) -> None:
    copy = Path(shutil.copytree(folder / "out", tmp_path / "copy"))
    damage(copy / name)  # type: ignore[operator]
    with pytest.raises(ExportError, match="has changed since it was written"):
        Model((copy / name).parent).embed(noise(1))


def test_files_of_another_format_or_export_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder / "out" / "openvino", tmp_path / "copy"))
    plain = Manifest.read(copy)
    replace(plain, file_format="onnx").write(copy)
    with pytest.raises(ExportError, match=r"01_stage1\.xml is not a file of the format onnx"):
        Model(copy)
    replace(plain, fingerprint="other").write(copy)
    with pytest.raises(ExportError, match="they are of two exports"):
        Model(copy).embed(noise(1))
    (copy / "model.xml").write_text("<net>")
    replace(plain, crc32={}).write(copy)
    with pytest.raises(ExportError, match=r"model\.xml cannot be opened"):
        Model(copy).embed(noise(1))


def test_formats_that_are_unknown_or_not_installed_are_told(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--checkpoint", str(folder / "last.ckpt"), "--out", str(tmp_path / "out"), "--to"]
    assert main([*words, "onnx,coreml"]) == 2
    message = "unknown format 'coreml'; available: onnx, openvino, torchscript, tflite"
    assert message in capsys.readouterr().err
    assert main([*words, "onnx,tensorrt"]) == 2
    assert f"{message.replace('coreml', 'tensorrt')}. TensorRT's trtexec" in capsys.readouterr().err
    there = find_spec
    gone = {"openvino", "litert_torch"}
    monkeypatch.setattr(exporting, "find_spec", lambda n: None if n in gone else there(n))
    for name in ("openvino", "tflite"):
        assert main([*words, f"onnx,{name}"]) == 1
        assert f"pip install 'reid-lab[{name}]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
