"""`reid-lab export` and `reid_lab.runtime`: the same embeddings without torch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from reid_lab.budget.anytime import AnytimeModel
from reid_lab.budget.stream import planned_rule
from reid_lab.checkpoint import fingerprint, fingerprint_of, load_model
from reid_lab.cost.mul_adds import count_exits
from reid_lab.dataset.images import resize as torch_resize
from reid_lab.dataset.transforms import normalise
from reid_lab.errors import UserError
from reid_lab.export import checkpoint as exporting
from reid_lab.export.files import write_torchscript
from reid_lab.export.int8 import quantised
from reid_lab.export.measure import check_accuracies, check_differences, differences
from reid_lab.export.trace import trace
from reid_lab.files.folders import replacing_folder
from reid_lab.gallery.embedder import embed
from reid_lab.gallery.store import SavedGallery
from reid_lab.model import ReidModule
from reid_lab.model.base import State
from reid_lab.results.card import ModelCard
from reid_lab.runtime import ExportError, Gallery, Manifest, Model
from reid_lab.runtime import embed as embed_without_torch
from reid_lab.runtime.images import resize
from reid_lab.runtime.manifest import PIXELS
from reid_lab.runtime.weights import weight_files
from tests.commands import export as main
from tests.commands import gallery as gallery_main
from tests.commands import runtime as runtime_main
from tests.conftest import write_jpegs
from tests.export.conftest import BLOCKED, CARD, EXPORTED, REFUSED, Exported, network_of, noise
from tests.methods import SIZE, method, save

pytestmark = pytest.mark.system


def check_manifest(folder: Path, method: ReidModule) -> None:
    """What an export states about itself is what its checkpoint is."""
    manifest = Manifest.read(folder / "out")
    assert manifest.fingerprint == fingerprint(folder / "last.ckpt")
    assert manifest.preprocessing.image == SIZE and manifest.precision == "float32"
    assert {e.name: e.mul_adds for e in manifest.exits} == count_exits(method, *SIZE)
    assert tuple(e.name for e in manifest.exits if e.stream) == tuple(method.stream_exits)
    assert [stage.exit for stage in manifest.stages] == list(method.exit_names)
    for file in ("model.onnx", *(stage.file for stage in manifest.stages)):
        metadata = onnx.load(folder / "out" / file).metadata_props
        known = {entry.key: entry.value for entry in metadata}
        assert known["fingerprint"] == manifest.fingerprint
        assert [e["name"] for e in json.loads(known["exits"])] == list(method.exit_names)
        assert json.loads(known["preprocessing"])["mean"] == [0.485, 0.456, 0.406]
        assert b"site-packages" not in (folder / "out" / file).read_bytes()  # no stack traces


@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_is_its_network(exported: Exported, name: str) -> None:
    """Embeddings, whole and stage by stage, and manifest; in one test, as an export takes long."""
    folder = exported(name)
    method, model = network_of(folder), Model(folder / "out")
    check_manifest(folder, method)
    # a `Gather` for a memory format, which OpenVINO computes wrongly in INT8
    graph = onnx.load(folder / "out" / "model.onnx").graph
    assert not [n for node in graph.node for n in node.output if n.startswith("as_strided")]
    for count in (1, 3, 5):
        pixels = noise(count, seed=count)
        with torch.inference_mode():
            wanted = method(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
        found = model.embed(pixels)
        assert tuple(found) == method.exit_names
        for exit, rows in wanted.items():
            scale = float(rows.abs().max())
            for given in (found[exit], model.embed_until(pixels, exit)):
                assert given.dtype == np.float32
                np.testing.assert_allclose(given, rows, atol=2e-5 * scale, rtol=0)


def test_an_export_sees_the_centre(tmp_path: Path) -> None:
    model = method("classifier")
    model.hparams["enlarge"] = 1.25
    words = ["--checkpoint", str(save(model, tmp_path / "last.ckpt"))]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    network, exported = load_model(tmp_path / "last.ckpt"), Model(tmp_path / "out")
    height, width = network.image or (0, 0)
    assert exported.image == (height, width) == (round(SIZE[0] * 1.25), round(SIZE[1] * 1.25))
    top, left = (height - SIZE[0]) // 2, (width - SIZE[1]) // 2
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8)
    centre = pixels[:, top : top + SIZE[0], left : left + SIZE[1]]
    with torch.inference_mode():
        wanted = network(normalise(torch.from_numpy(centre).permute(0, 3, 1, 2)))
    _, traced = trace(network, (height, width))
    plain = replace(exported.manifest, file_format="torchscript", stages=(), crc32={})
    write_torchscript(tmp_path / "script", traced, traced.plans, plain)
    script = Model(tmp_path / "script").embed(pixels)
    assert script.keys() == wanted.keys()
    stopping = AnytimeModel(network).embed(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
    torch.testing.assert_close(stopping.embeddings, wanted[stopping.exit])
    for name, rows in exported.embed(pixels).items():
        np.testing.assert_allclose(script[name], rows, atol=2e-5 * float(rows.max()), rtol=0)
        np.testing.assert_allclose(rows, wanted[name], atol=2e-5 * float(rows.max()), rtol=0)
        whole = exported.manifest.exit(name).mul_adds
        assert whole == count_exits(network, *SIZE)[name]


def test_the_card_goes_with_the_export(dare: Path) -> None:
    for folder in (dare / "out", dare / "out" / "int8"):
        assert ModelCard.of(Manifest.read(folder).card) == CARD
    metadata = {p.key: p.value for p in onnx.load(dare / "out" / "model.onnx").metadata_props}
    assert ModelCard.of(json.loads(metadata["card"])) == CARD


FRAME = np.random.default_rng(5).integers(0, 256, (200, 300, 3), np.uint8)
# where both sides change by whole factors, both resize to the same pixels
SCALED = [[0, 0, 64, 128], [10.4, 20, 42, 84], [236, 8, 300, 136]]


@pytest.mark.parametrize("exits", [None, ["stage2", "stage1"], ["fusion"]])
@pytest.mark.parametrize("kind", ["array", "file"])
def test_a_frame_with_boxes_is_torchs(
    dare: Path, tmp_path: Path, kind: str, exits: list[str] | None
) -> None:
    frame: Any = FRAME
    if kind == "file":
        frame = tmp_path / "frame.png"
        Image.fromarray(FRAME).save(frame)
    for boxes, tolerance in ((SCALED, 2e-5), ([[3, 5, 50, 170], [-9, 0, 77, 70]], 1e-2)):
        wanted = embed(dare / "last.ckpt", frame, boxes, exits=exits)
        for model in (dare / "out", Model(dare / "out")):
            found = embed_without_torch(model, frame, boxes, exits=exits, batch_size=2)
            assert list(found) == list(wanted)
            for exit, rows in wanted.items():
                scale = float(rows.abs().max())
                assert found[exit].dtype == np.float32
                np.testing.assert_allclose(found[exit], rows, atol=tolerance * scale, rtol=0)


def test_a_folder_and_its_paths_are_embedded_alike(dare: Path, tmp_path: Path) -> None:
    folder = write_jpegs(tmp_path / "some", ["a.jpg", "below/c.jpg", "d.jpg"], (128, 64))
    paths = sorted(folder.rglob("*.jpg"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    wanted = embed(dare / "last.ckpt", folder)
    for images in (folder, str(folder), paths, pixels, list(pixels)):
        found = embed_without_torch(dare / "out", images, batch_size=2)
        for exit, rows in wanted.items():
            np.testing.assert_allclose(found[exit], rows, atol=1e-2 * float(rows.abs().max()))
    one = embed_without_torch(dare / "out", paths[1])
    np.testing.assert_allclose(one["fusion"], found["fusion"][1:2], atol=1e-5)


def test_a_frame_without_boxes_has_the_shapes_of_torch(dare: Path) -> None:
    for exits in (None, "stage1"):
        wanted = embed(dare / "last.ckpt", FRAME, [], exits=exits)
        found = embed_without_torch(dare / "out", FRAME, [], exits=exits)
        assert {n: r.shape for n, r in found.items()} == {n: r.shape for n, r in wanted.items()}


@pytest.mark.parametrize(
    ("images", "more"),
    [
        ("nowhere", {}),
        ("nowhere.jpg", {"boxes": SCALED}),
        (["a.jpg"], {}),
        (["a.jpg"], {"boxes": SCALED}),
        ([], {}),
        (".", {"boxes": SCALED}),
        (FRAME, {}),
        (FRAME, {"boxes": [[0, 0, 9, 9], [300, 0, 310, 9]]}),
        (FRAME, {"boxes": [[0, 0, float("nan"), 9]]}),
        (FRAME, {"boxes": [0, 0, 9, 9]}),
        (FRAME / 255, {"boxes": SCALED}),
        (FRAME[..., 0], {"boxes": SCALED}),
        (FRAME[None], {"boxes": SCALED}),
        (FRAME[None], {"batch_size": 0}),
        (torch.from_numpy(FRAME[None]), {}),
        (None, {}),
        ([FRAME, "a.jpg"], {}),
        ([FRAME, FRAME / 255], {}),
        ([FRAME, FRAME[..., 0]], {}),
        ([FRAME, FRAME[:0]], {}),
        (FRAME, {"boxes": SCALED, "exits": ["stage9"]}),
        (FRAME, {"boxes": SCALED, "exits": []}),
    ],
)
def test_what_cannot_be_embedded_is_the_same_error(
    dare: Path, images: Any, more: dict[str, Any]
) -> None:
    messages = []
    for call, model in ((embed, dare / "last.ckpt"), (embed_without_torch, dare / "out")):
        with pytest.raises(UserError) as caught:
            call(model, images, **more)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "\n" not in messages[0]


@pytest.mark.recipe
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_exported_says_how_to_serve_it(name: str) -> None:
    with pytest.raises(ExportError, match=r"cannot be exported to ONNX.*serve it with PyTorch"):
        trace(method(name), SIZE)


def test_later_stages_read_states_not_pixels(dare: Path) -> None:
    stages = Manifest.read(dare / "out").stages
    assert stages[0].inputs == ("pixels",)
    assert not any("pixels" in stage.inputs for stage in stages[1:])
    whole = (dare / "out" / "model.onnx").stat().st_size
    parts = sum((dare / "out" / stage.file).stat().st_size for stage in stages)
    assert parts < 1.5 * whole  # each weight in one stage only


def test_a_stream_gives_each_image_its_own_exit(dare: Path) -> None:
    model, pixels = Model(dare / "out"), noise(9)
    whole = model.embed(pixels)
    exits = [e.name for e in model.manifest.exits if e.stream]
    wishes = np.random.default_rng(1).integers(0, len(exits), len(pixels))  # where each exits
    asked: list[tuple[str, int]] = []

    def exits_here(exit: str, rows: np.ndarray) -> np.ndarray:
        asked.append((exit, len(rows)))
        number = exits.index(exit)
        here = np.flatnonzero(wishes >= number)
        np.testing.assert_allclose(rows, whole[exit][here], atol=1e-5)
        return wishes[here] == number

    found = model.stream(pixels, exits_here)
    assert found.exits == [exits[number] for number in wishes]
    for place, (exit, row) in enumerate(zip(found.exits, found.embeddings, strict=True)):
        np.testing.assert_allclose(row, whole[exit][place], atol=1e-5)
    assert asked == [(d, int((wishes >= n).sum())) for n, d in enumerate(exits[:-1])]


def test_budgets_in_milliseconds(dare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that advances by a millisecond a stage, and two a match."""
    now = iter(np.cumsum([0.0, *[1e-3, 2e-3] * 4] * 3))
    monkeypatch.setattr("reid_lab.runtime.model.perf_counter", lambda: next(now))
    model, searched = Model(dare / "out"), []
    costs = model.measure_exits(2, 2, lambda exit, rows: searched.append((exit, rows.shape)))
    stream = tuple(e.name for e in model.manifest.exits if e.stream)
    assert costs.exits == stream and costs.unit == "ms"
    assert searched == [(name, (2, model.manifest.exit(name).dim)) for name in stream] * 3
    np.testing.assert_allclose(costs.network, 0.5 * np.arange(1, 5))
    np.testing.assert_allclose(costs.matching, 1.0)
    now = iter(np.cumsum([0.0, *[1e-3, 2e-3] * 2] * 3))
    some = model.measure_exits(1, 2, exits=("stage2", "fusion"))
    assert some.exits == ("stage2", "fusion") and len(some.network) == 2
    rule = planned_rule(costs, 4.0)
    shares = np.cumprod([1, *(1 - rule.probabilities[:-1])]) * rule.probabilities
    assert shares @ costs.totals(decides=True) == pytest.approx(4.0)


def test_no_images(dare: Path) -> None:
    model = Model(dare / "out")
    assert {n: rows.shape for n, rows in model.embed(noise(0)).items()} == {
        e.name: (0, e.dim) for e in model.manifest.exits
    }
    assert model.embed_files([])["fusion"].shape == (0, 16)
    assert model.stream(noise(0), lambda exit, rows: rows[:, 0] > 0).exits == []


def test_int8_is_another_model(dare: Path) -> None:
    full, small = Model(dare / "out"), Model(dare / "out" / "int8")
    assert small.manifest.precision == "int8"
    assert small.manifest.fingerprint != full.manifest.fingerprint
    measured = small.manifest.measured
    assert measured["pytorch"] == full.manifest.measured["pytorch"]
    assert measured["pytorch"].keys() == measured["accuracies"].keys()
    assert measured["calibration_images"] == 16
    sizes = [(model.folder / "model.onnx").stat().st_size for model in (small, full)]
    assert measured["size_ratio"] == pytest.approx(sizes[0] / sizes[1])
    assert sizes[0] < 0.8 * sizes[1]  # a tiny network: most bytes are names
    pixels = noise(5)
    for exit, rows in full.embed(pixels).items():
        rough = small.embed(pixels)[exit]
        np.testing.assert_allclose(small.embed_until(pixels, exit), rough, atol=1e-5)
        assert 0 < np.abs(rough - rows).max() < 0.5 * np.abs(rows).max()


def two_convolutions(depthwise: np.ndarray, pointwise: np.ndarray) -> onnx.ModelProto:
    """Pixels -> a depthwise convolution -> "y", a pointwise one with a bias of 0."""
    arrays = {"w_depthwise": depthwise, "w_pointwise": pointwise, "bias": np.zeros(len(pointwise))}
    weights = [onnx.numpy_helper.from_array(w.astype(np.float32), n) for n, w in arrays.items()]
    nodes = [
        onnx.helper.make_node("Cast", [PIXELS], ["float"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["float"], ["first"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Conv", ["first", "w_depthwise"], ["x"], "depthwise", group=3),
        onnx.helper.make_node("Conv", ["x", "w_pointwise", "bias"], ["y"], "pointwise"),
    ]
    pixels = onnx.helper.make_tensor_value_info(PIXELS, onnx.TensorProto.UINT8, ["n", 8, 8, 3])
    maps = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4, 6, 6])
    graph = onnx.helper.make_graph(nodes, "g", [pixels], [maps], weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)


def test_depthwise_convolutions_stay_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = two_convolutions(rng.normal(size=(3, 1, 3, 3)), rng.normal(size=(4, 3, 1, 1)))
    found = quantised(model, [rng.integers(0, 256, (2, 8, 8, 3), np.uint8)], tmp_path)
    kinds = {tuple(i.dims): i.data_type for i in found.graph.initializer if len(i.dims) == 4}
    assert kinds == {
        (3, 1, 3, 3): onnx.TensorProto.FLOAT,
        (4, 3, 1, 1): onnx.TensorProto.INT8,
    }


def test_biases_correct_the_mean_error_of_rounded_weights(tmp_path: Path) -> None:
    """The small weights of a channel become 0 next to its largest one."""
    middle = np.zeros((3, 1, 3, 3))
    middle[:, :, 1, 1] = 1
    weights = np.tile([1.0, 0.004, 0.004], (4, 1))[:, :, None, None]
    model = two_convolutions(middle, weights)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), np.uint8)
    small = quantised(model, [pixels[:20], pixels[20:]], tmp_path)
    full, rough = (
        onnxruntime.InferenceSession(m.SerializeToString()).run(None, {PIXELS: pixels})[0]
        for m in (model, small)
    )
    lost = 0.004 * 2 * pixels[:, 1:-1, 1:-1].mean()  # about one of 256
    assert abs((rough - full).mean()) < 0.1 * lost


def test_nncf_sends_no_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh process: who loaded it first decides."""
    monkeypatch.delenv("CI", raising=False)
    ask = (
        "from reid_lab.export.int8 import load_nncf; load_nncf();"
        "from nncf.telemetry.wrapper import telemetry; import os;"
        "assert 'CI' not in os.environ; print(telemetry._impl.consent)"
    )
    found = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "False"


def test_galleries_and_exports_are_not_mixed(
    exported: Exported, people: Path, tmp_path: Path
) -> None:
    dare = exported("dare")
    images = people / "query"
    build = ("--checkpoint", str(dare / "last.ckpt"), "--images", str(images))
    assert gallery_main(["build", *build, "--out", str(tmp_path / "g"), "--exit", "stage2"]) == 0
    model = Model(dare / "out")
    gallery = Gallery.open(tmp_path / "g", model.manifest)
    saved = SavedGallery.open(tmp_path / "g")
    rows = model.embed_files([Path(path) for path in saved.paths()])[gallery.exit]
    distances, found = gallery.search(rows, 4)
    wanted, order = saved.search(rows, 4)
    np.testing.assert_array_equal(found, order)
    np.testing.assert_allclose(distances, wanted, atol=1e-4)
    assert gallery.paths() == saved.paths() and gallery.pids.tolist() == saved.pids.tolist()
    for other in (dare / "out" / "int8", exported("classifier") / "out"):
        with pytest.raises(ExportError, match="embeddings of two models, or of two precisions"):
            Gallery.open(tmp_path / "g", Manifest.read(other))
    card = json.loads((tmp_path / "g" / "gallery.json").read_text())
    for key, value, message in (("image", [128, 64], "(128, 64)"), ("exit", "x", "'x'")):
        (tmp_path / "g" / "gallery.json").write_text(json.dumps({**card, key: value}))
        with pytest.raises(ExportError) as error:
            Gallery.open(tmp_path / "g", model.manifest)
        assert message in str(error.value)


def test_files_of_two_exports_are_refused(exported: Exported, tmp_path: Path) -> None:
    shutil.copytree(exported("dare") / "out", tmp_path / "mixed")
    shutil.copy(exported("classifier") / "out" / "model.onnx", tmp_path / "mixed")
    with pytest.raises(ExportError, match="or is of another export"):
        Model(tmp_path / "mixed").embed(noise(1))
    replace(Manifest.read(tmp_path / "mixed"), crc32={}).write(tmp_path / "mixed")  # an older one
    model = Model(tmp_path / "mixed")
    with pytest.raises(ExportError, match="they are of two exports"):
        model.embed(noise(1))
    assert model.embed_until(noise(1), "fusion").shape == (1, 16)  # the chain is whole
    for pixels in (noise(1).astype(np.float32), noise(1)[0], noise(1).transpose(0, 3, 1, 2)):
        with pytest.raises(ExportError, match="takes uint8"):
            model.embed_until(pixels, "fusion")
    with pytest.raises(ExportError, match="available: stage1, stage2"):
        model.embed_until(noise(1), "nowhere")


def test_the_runtime_needs_no_torch(dare: Path, tmp_path: Path) -> None:
    write_jpegs(tmp_path, ["a.jpg", "b.png"], SIZE)
    words = [str(dare / "out"), "a.jpg", "b.png", "--out", "rows.npz", "--threads", "1"]
    code = f"{BLOCKED}\nsys.exit(main({['runtime', *words]}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "rows.npz") as saved:
        assert [Path(path).name for path in saved["paths"]] == ["a.jpg", "b.png"]
        wanted = Model(dare / "out").embed_files([tmp_path / "a.jpg", tmp_path / "b.png"])
        np.testing.assert_allclose(saved["fusion"], wanted["fusion"], atol=1e-6)
        assert str(saved["fingerprint"]) == fingerprint(dare / "last.ckpt")


@pytest.mark.parametrize("shape", [(128, 64), (201, 93), (40, 24)])
@pytest.mark.parametrize("smooth", [False, True])
def test_resizing_is_near_torchs(shape: tuple[int, int], smooth: bool) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 4, 3) if smooth else (*shape, 3), np.uint8)
    if smooth:
        image = np.asarray(Image.fromarray(image).resize(shape[::-1]))
    gap = np.abs(resize(image, SIZE).astype(int) - torch_resize(image.copy(), *SIZE))
    assert gap.max() <= 2


def test_runtime_errors_are_one_message(
    dare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 broken")
    for folder, image, message in (
        (tmp_path / "none", tmp_path / "bad.jpg", "is not an exported network, it does not exist"),
        (tmp_path, tmp_path / "bad.jpg", "it has no manifest.json"),
        (dare / "out", tmp_path / "bad.jpg", "cannot be read as an image"),
    ):
        assert runtime_main([str(folder), str(image), "--out", str(tmp_path / "x.npz")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()
    for out, message in (("x.txt", "must end in .npz or .parquet"), (".", "is a folder")):
        assert runtime_main([str(tmp_path), "a.jpg", "--out", str(tmp_path / out)]) == 1
        assert message in capsys.readouterr().err


def test_the_runtime_leaves_out_what_is_broken_and_says_so(
    dare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_jpegs(tmp_path / "crops", ["a.jpg", "b.jpg", "below/c.jpg", "d.jpg"], SIZE)
    (folder / "b.jpg").write_bytes(b"broken")
    (folder / "d.jpg").write_bytes((folder / "d.jpg").read_bytes()[:300])
    (folder / "x.gif").touch()
    words = [str(dare / "out"), str(folder), "--out", str(tmp_path / "x.npz"), "--batch-size", "1"]
    assert runtime_main(words) == 1
    told = capsys.readouterr().err
    assert "b.jpg cannot be read" in told and "d.jpg cannot be read" in told
    assert "2 of 4 images cannot be read and are left out" in told and "(1 .gif)" in told
    with np.load(tmp_path / "x.npz") as saved:
        assert [Path(path).name for path in saved["paths"]] == ["a.jpg", "c.jpg"]
        wanted = Model(dare / "out").embed_files([folder / "a.jpg", folder / "below/c.jpg"])
        np.testing.assert_allclose(saved["fusion"], wanted["fusion"], atol=1e-6)


def test_export_errors_come_before_work(
    dare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*words: object) -> str:
        assert main([str(word) for word in words]) == 1
        return capsys.readouterr().err

    known = ("--checkpoint", dare / "last.ckpt")
    assert "--overwrite it" in told(*known, "--out", dare / "out")
    assert "is not an export" in told(*known, "--out", dare, "--overwrite")
    assert "does not exist" in told("--checkpoint", "none.ckpt", "--out", tmp_path / "new" / "o")
    assert "add a data set" in told(*known, "--out", tmp_path / "o", "--int8")
    nowhere = ("dataset=market1501", f"dataset.root={tmp_path / 'nowhere'}")
    assert "nowhere" in told(*known, "--out", tmp_path / "o", *nowhere)
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    assert "pip install 'reid-lab[export]'" in told(*known, "--out", tmp_path / "o")
    assert not list(tmp_path.iterdir())


def test_a_second_export_is_refused_before_the_network_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "open_model", lambda checkpoint: pytest.fail("it was loaded"))
    out = tmp_path / "out"
    with replacing_folder(out) as folder:
        assert main(["--checkpoint", "x.ckpt", "--out", str(out)]) == 1
        folder.joinpath("x").touch()
    assert "out is being written by another process" in capsys.readouterr().err


def test_the_normalisation_is_in_the_fingerprint() -> None:
    weights, config = {"a": torch.arange(6.0).view(2, 3)}, {"dim": 8}
    # saved in galleries before the normalisation had a say
    known = "c2f345f5dad9f99e056cb8d5d23e78912555e0f89d9498a320fffbf5e2e8698c"
    assert fingerprint_of(weights, config) == known
    others = [
        fingerprint_of(weights, config, mean=(0.5, 0.5, 0.5)),
        fingerprint_of(weights, config, std=(0.5, 0.5, 0.5)),
    ]
    assert len({known, *others}) == 3


class FixedBatch(ReidModule):
    """Takes as many images as it was traced with."""

    exit_names = ("only",)

    def step(self, exit: str, state: State) -> tuple[State, torch.Tensor]:
        (images,) = state
        return (), images.reshape(len(images), -1)[:, :4] * 2

    def losses(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {}


class Unknown(FixedBatch):
    """Does what ONNX has no operator for."""

    def step(self, exit: str, state: State) -> tuple[State, torch.Tensor]:
        (images,) = state
        return (), torch.linalg.eigvalsh(images[:, 0, :4, :4])


@pytest.mark.parametrize("kind", [FixedBatch, Unknown])
def test_what_onnx_cannot_is_told(kind: type[ReidModule]) -> None:
    with pytest.raises(ExportError, match=f"{kind.__name__} cannot be exported to ONNX") as error:
        trace(kind().eval(), (8, 4))
    assert "serve it with PyTorch" in str(error.value) and "\n" not in str(error.value)


def test_what_differs_is_refused() -> None:
    gaps = {
        "near": {"relative": 1e-6},
        "far": {"relative": 1e-2},
        "nan": {"relative": float("nan")},
    }
    with pytest.raises(ExportError, match="far 0.01, nan nan") as error:
        check_differences(gaps, 1e-4)
    assert "near" not in str(error.value)
    check_differences({"near": gaps["near"]}, 1e-4)
    ours, other = {"a": {"mAP": 0.5, "rank1": 0.7}}, {"a": {"mAP": 0.502, "rank1": 0.7}}
    check_accuracies(ours, other, 0.01)
    with pytest.raises(ExportError, match="a mAP 0.5000 against 0.5020"):
        check_accuracies(ours, other, 1e-3)


@pytest.fixture
def copy(dare: Path, tmp_path: Path) -> Path:
    """An export to damage."""
    return Path(shutil.copytree(dare / "out", tmp_path / "copy"))


def changed(place: str, value: Any) -> Callable[[Any], None]:
    """Set what is at a dotted place of a manifest."""
    *parents, last = [int(key) if key.lstrip("-").isdigit() else key for key in place.split(".")]

    def change(content: Any) -> None:
        for key in parents:
            content = content[key]
        content[last] = value

    return change


IMAGES = [[0, 0], [10**6, 10**6], [64], [64, 32, 3], "x", [64.5, 32], [True, True], None]
FILES = ["../../x.onnx", "/etc/passwd", "stages/../../x.onnx", "stages\\..\\x.onnx", "", 5]
FILES += ["C:\\x.onnx", "stages/01_x.onnx\n", "stages/" + "1" * 400 + "_x.onnx"]
MANIFESTS: dict[str, Callable[[Any], None]] = {
    **{f"image={v}": changed("preprocessing.image", v) for v in IMAGES},
    **{f"file={v!r:.20}": changed("stages.0.file", v) for v in FILES},
    **{f"dim={v}": changed("exits.0.dim", v) for v in (0, -1, "8", 2**63, 1.5)},
    **{f"inputs={v}": changed("stages.0.inputs", v) for v in ([], ["x"], "pixels", [5])},
    **{f"outputs={v}": changed("stages.0.outputs", v) for v in ([], ["fusion"], None)},
    **{f"format={v}": changed("format", v) for v in (2, "1", 0)},
    **{f"exits={v}": changed("exits", v) for v in ([], 5, "x")},
    **{f"std={v}": changed("preprocessing.std", v) for v in ([0, 0, 0], [1, 1])},
    "crc32": changed("crc32", {"model.onnx": -1}),
    "precision": changed("precision", "int4"),
    "resize": changed("preprocessing.resize", "nearest"),
    "versions": changed("versions", {"torch": 5}),
    "stream": changed("exits.0.stream", 1),
    "exits twice": lambda content: content["exits"].append(content["exits"][0]),
    "stages swapped": lambda content: content["stages"].reverse(),
    "a stage fewer": lambda content: content["stages"].pop(),
    "no measurements": lambda content: content.pop("measured"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_cannot_be_is_refused(name: str, copy: Path) -> None:
    content = json.loads((copy / "manifest.json").read_text())
    MANIFESTS[name](content)
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ExportError, match=r"manifest\.json.*again|has format 2"):
        Model(copy)


OTHERWISE = {
    "image": changed("preprocessing.image", [128, 64]),
    "std": changed("preprocessing.std", [0.5, 0.5, 0.5]),
    "dim": changed("exits.-1.dim", 9),
    "precision": changed("precision", "int8"),
    "files exchanged": lambda content: (
        content["stages"][0].update(file=content["stages"][-1]["file"]),
        content["stages"][-1].update(file="stages/01_stage1.onnx"),
    ),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_manifest_that_is_not_of_its_files_is_refused(name: str, copy: Path) -> None:
    content = json.loads((copy / "manifest.json").read_text())
    OTHERWISE[name](content)
    (copy / "manifest.json").write_text(json.dumps(content))
    model = Model(copy)
    with pytest.raises(ExportError, match="again"):
        model.embed_until(np.zeros((1, *model.image, 3), np.uint8), "fusion")


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def linked(path: Path) -> None:
    path.symlink_to(path.rename(path.parents[1] / "elsewhere.onnx"))


def diverged(path: Path) -> None:
    """NaN in place of every weight; the manifest of an older version does not notice."""
    model = onnx.load(path)
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > 8:
            nan = onnx.numpy_helper.from_array(np.full_like(values, np.nan), weight.name)
            weight.CopyFrom(nan)
    onnx.save(model, path)
    replace(Manifest.read(path.parent), crc32={}).write(path.parent)


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "bit": (one_bit, "has changed since it was written"),
    "cut": (cut, "has changed since it was written"),
    "link": (linked, "is a link to outside"),
    "gone": (Path.unlink, "does not exist"),
    "NaN": (diverged, "that are not finite"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_networks_are_not_run(name: str, copy: Path) -> None:
    damage, message = DAMAGED[name]
    damage(copy / "model.onnx")
    with pytest.raises(ExportError, match=message):
        Model(copy).embed(noise(1))


def outside(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor, with its bytes in a file above the export."""
    length, tensor.data_location = len(tensor.raw_data), onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    for key, value in {"offset": 0, "location": "../secret", "length": length}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def in_the_graph(model: onnx.ModelProto) -> None:
    outside(next(w for w in model.graph.initializer if len(w.raw_data) > 8))


def in_a_constant(model: onnx.ModelProto) -> None:
    value = onnx.numpy_helper.from_array(np.zeros(8, np.float32))
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["x"], value=outside(value)))


def in_a_branch(model: onnx.ModelProto) -> None:
    value = onnx.numpy_helper.from_array(np.zeros(8, np.float32), "w")
    branch = onnx.helper.make_graph([], "branch", [], [], initializer=[outside(value)])
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch))


def in_a_function(model: onnx.ModelProto) -> None:
    value = onnx.numpy_helper.from_array(np.zeros(8, np.float32))
    node = onnx.helper.make_node("Constant", [], ["x"], value=outside(value))
    model.functions.append(onnx.helper.make_function("d", "f", [], ["x"], [node], []))


@pytest.mark.parametrize("place", [in_the_graph, in_a_constant, in_a_branch, in_a_function])
def test_external_weights_outside_of_the_export_are_not_read(
    copy: Path, place: Callable[[onnx.ModelProto], None]
) -> None:
    (copy.parent / "secret").write_bytes(bytes(10_000))
    model = onnx.load(copy / "model.onnx")
    place(model)
    data = model.SerializeToString()
    assert weight_files(data) == {"../secret"}
    (copy / "model.onnx").write_bytes(data)
    replace(Manifest.read(copy), crc32={}).write(copy)
    with pytest.raises(ExportError, match="cannot be opened: it reads weights from ../secret"):
        Model(copy).embed(noise(1))


def test_where_weights_lie_is_read_from_any_bytes(copy: Path) -> None:
    data = (copy / "model.onnx").read_bytes()
    assert weight_files(data) == set()
    rng = np.random.default_rng(0)
    for _ in range(300):
        end = int(rng.integers(len(data)))
        broken = bytearray(data[:end] + rng.bytes(16) + data[end:])
        with suppress(ValueError):
            weight_files(bytes(broken))


def test_the_runtime_refuses_a_damaged_gallery(
    dare: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ("build", "--checkpoint", dare / "last.ckpt", "--images", people / "query")
    assert gallery_main([str(word) for word in (*build, "--out", tmp_path / "g")]) == 0
    search = [str(dare / "out"), str(next((people / "query").iterdir()))]
    search += ["--gallery", str(tmp_path / "g"), "--top"]
    assert runtime_main([*search, "3"]) == 0
    rate = ["3", "--false-accept-rate", "0.1"]
    assert runtime_main([*search, *rate]) == 1
    assert gallery_main(["calibrate", str(tmp_path / "g"), "--rates", "0.1"]) == 0
    capsys.readouterr()
    assert runtime_main([*search, *rate, "--where", "camid<9"]) == 0
    first = capsys.readouterr().out.splitlines()[0].split("\t")
    assert first[1] == "verdict" and first[3] in ("known", "ambiguous") and first[2] == "0.0000"
    card = json.loads((tmp_path / "g" / "gallery.json").read_text())
    for wrong in ({"metric": "foo"}, {"count": 0, "crc32": {}}, {"exit": "x"}):
        (tmp_path / "g" / "gallery.json").write_text(json.dumps({**card, **wrong}))
        assert runtime_main([*search, "3"]) == 1
    (tmp_path / "g" / "gallery.json").write_text(json.dumps(card))
    one_bit(tmp_path / "g" / "embeddings.bin")
    capsys.readouterr()
    assert runtime_main([*search, "3"]) == 1
    assert "has changed since it was written" in capsys.readouterr().err


def test_nan_is_a_difference(dare: Path) -> None:
    method, model = load_model(dare / "last.ckpt"), Model(dare / "out")
    with torch.no_grad():
        next(method.parameters()).fill_(torch.nan)
    found = differences(method, model)
    with pytest.raises(ExportError, match="stage1 nan"):
        check_differences(found, 1)
    nan = {"a": {"mAP": float("nan"), "rank1": 0.7}}
    with pytest.raises(ExportError, match="a mAP nan against nan"):
        check_accuracies(nan, nan, 1)


def test_diverged_weights_are_not_exported(
    dare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(dare / "last.ckpt", weights_only=True)
    name = next(name for name, weight in state["state_dict"].items() if weight.ndim > 1)
    state["state_dict"][name].fill_(torch.nan)
    torch.save(state, tmp_path / "nan.ckpt")
    assert main(["--checkpoint", str(tmp_path / "nan.ckpt"), "--out", str(tmp_path / "e")]) == 1
    assert f"not finite (1 tensors, first {name}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["nan.ckpt"]


def test_a_triton_repository(dare: Path) -> None:
    """Both models answer as the export does, with the names and shapes of their config."""
    onnxruntime = pytest.importorskip("onnxruntime")
    repository, pixels = dare / "out" / "triton", noise(3)
    assert sorted(path.name for path in repository.iterdir()) == ["reid", "reid_int8"]
    for name, source in (("reid", dare / "out"), ("reid_int8", dare / "out" / "int8")):
        session = onnxruntime.InferenceSession(str(repository / name / "1" / "model.onnx"))
        config = (repository / name / "config.pbtxt").read_text(encoding="utf-8")
        assert f'name: "{name}"' in config and "max_batch_size: 64" in config
        fields = re.findall(r'name: "(\w+)" data_type: TYPE_(\w+) dims: \[ ([\d, ]+) \]', config)
        height, width = SIZE
        assert fields[0] == ("pixels", "UINT8", f"{height}, {width}, 3")
        outputs = {exit: int(dim) for exit, kind, dim in fields[1:] if kind == "FP32"}
        found = dict(zip(outputs, session.run(list(outputs), {"pixels": pixels}), strict=True))
        assert list(outputs) == [node.name for node in session.get_outputs()]
        for exit, rows in Model(source).embed(pixels).items():
            assert rows.shape[1] == outputs[exit]
            np.testing.assert_array_equal(found[exit], rows)
