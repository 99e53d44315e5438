"""`reid_lab.embed`: folders, paths, pixels, and a frame with boxes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import reid_lab
from reid_lab.dataset.images import decode, resize
from reid_lab.dataset.transforms import normalise
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from tests.conftest import write_jpegs
from tests.methods import SIZE, method

FRAME = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
BOXES = [[0, 0, 32, 64], [40.4, 10, 90, 99.7], [-9, 60, 20, 300]]
WHOLE = [[0, 0, 32, 64], [40, 10, 90, 100], [0, 60, 20, 120]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    names = ["a.jpg", "b.jpg", "deep/c.jpg", "deep/d.jpg", "e.jpg"]
    return write_jpegs(tmp_path / "images", names, (70, 40))


def embedded_alone(model: ReidModule, crops: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """Each crop by itself, resized, normalised and embedded."""
    pixels = torch.from_numpy(np.stack([resize(np.ascontiguousarray(c), *SIZE) for c in crops]))
    with torch.inference_mode():
        return model(normalise(pixels.permute(0, 3, 1, 2)))


@pytest.mark.parametrize("given", ["checkpoint", "network"])
def test_embed_gives_every_exit(
    given: str, checkpoint: Path, model: ReidModule, images: Path
) -> None:
    paths = sorted(images.rglob("*.jpg"))
    pixels = [decode(path) for path in paths]
    wanted = embedded_alone(model, pixels)
    network = checkpoint if given == "checkpoint" else model
    for source in (images, str(images), paths, np.stack(pixels), pixels):
        found = reid_lab.embed(network, source, batch_size=3)
        assert tuple(found) == model.exit_names
        for name, rows in found.items():
            torch.testing.assert_close(rows, wanted[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("kind", ["array", "file", "flipped"])
@pytest.mark.parametrize(
    "boxes", [BOXES, torch.tensor(BOXES), SimpleNamespace(xyxy=np.array(BOXES))]
)
def test_the_boxes_of_a_frame(
    boxes: Any, kind: str, batch_size: int | None, model: ReidModule, tmp_path: Path
) -> None:
    frame: Any = FRAME
    if kind == "file":
        frame = tmp_path / "frame.png"
        Image.fromarray(FRAME).save(frame)
    elif kind == "flipped":  # negative strides, as OpenCV's BGR turned to RGB
        frame = np.ascontiguousarray(FRAME[..., ::-1])[..., ::-1]
    wanted = embedded_alone(model, [FRAME[box[1] : box[3], box[0] : box[2]] for box in WHOLE])
    found = reid_lab.embed(model, frame, boxes, batch_size=batch_size)
    assert tuple(found) == model.exit_names
    for name, rows in found.items():
        torch.testing.assert_close(rows, wanted[name], atol=1e-5, rtol=0)


def test_detections_of_supervision(model: ReidModule) -> None:
    supervision = pytest.importorskip("supervision")
    detections = supervision.Detections(xyxy=np.array(BOXES, np.float32))
    found = reid_lab.embed(model, FRAME, detections)
    for name, rows in reid_lab.embed(model, FRAME, BOXES).items():
        torch.testing.assert_close(found[name], rows)
    assert reid_lab.embed(model, FRAME, supervision.Detections.empty())["fusion"].shape[0] == 0


def test_all_crops_of_a_frame_are_one_batch(
    model: ReidModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    step = model.step

    def counted(exit: str, state: Any) -> Any:
        sizes.append(len(state[0]))
        return step(exit, state)

    monkeypatch.setattr(model, "step", counted)
    reid_lab.embed(model, FRAME, BOXES[:1] * 99, exits=["stage1"])
    assert sizes == [99]


@pytest.mark.parametrize("exits", [None, ["stage2", "stage1"], "stage3"])
def test_a_frame_without_boxes(exits: Any, model: ReidModule) -> None:
    every = reid_lab.embed(model, FRAME, BOXES, exits=exits)
    none = reid_lab.embed(model, FRAME, [], exits=exits)
    assert {n: tuple(r.shape) for n, r in none.items()} == {
        n: (0, r.shape[1]) for n, r in every.items()
    }


def test_later_exits_are_not_computed(model: ReidModule, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    step = model.step

    def noted(exit: str, state: Any) -> Any:
        asked.append(exit)
        return step(exit, state)

    wanted = reid_lab.embed(model, FRAME, BOXES)
    monkeypatch.setattr(model, "step", noted)
    found = reid_lab.embed(model, FRAME, BOXES, exits=["stage3", "stage1"])
    assert list(found) == ["stage1", "stage3"] and asked == ["stage1", "stage2", "stage3"]
    for name, rows in found.items():
        torch.testing.assert_close(rows, wanted[name])


def test_embed_refuses_what_it_cannot_embed(model: ReidModule, images: Path) -> None:
    with pytest.raises(UserError, match=r"must be \(N, H, W, 3\) uint8"):
        reid_lab.embed(model, np.zeros((1, 64, 32, 3), np.float32))
    with pytest.raises(UserError, match="no images"):
        reid_lab.embed(model, [])
    unloaded = method("dare")
    for source, boxes in ((images, None), (FRAME, BOXES)):
        with pytest.raises(UserError, match=r"give size=\(height, width\)"):
            reid_lab.embed(unloaded, source, boxes)
    assert reid_lab.embed(unloaded, FRAME, BOXES, size=SIZE)["stage1"].shape[0] == 3
    (images / "bad.jpg").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(UserError, match=r"bad\.jpg"):
        reid_lab.embed(model, images)
