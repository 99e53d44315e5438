from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from reid_lab.backbone import OSNet, WeightsError
from reid_lab.checkpoint import open_model
from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.run.run import run
from tests.backbone.weights.drawn import drawn_images, drawn_weights
from tests.backbone.weights.golden import embeddings_of, state_of
from tests.commands import cost, frontier, gallery, weights
from tests.conftest import Compose, write_jpegs

OSNET = "torchreid_osnet_x0_25"


@pytest.fixture(scope="module")
def osnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As torchreid writes it, trained in parallel."""
    path = tmp_path_factory.mktemp("torchreid") / "osnet_duke.pth.tar-60"
    state = {f"module.{key}": value for key, value in state_of(OSNET).items()}
    torch.save({"state_dict": state, "epoch": 60, "rank1": np.float64(0.943)}, path)
    return path


def test_inspect(osnet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert weights(["inspect", str(osnet)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = dict(line.split("  ", 1) for line in lines)
    rows = {label: value.strip() for label, value in rows.items()}
    assert rows["toolbox"] == "torchreid"
    assert rows["network"] == "OSNet x0.25"
    assert rows["heads"] == "linear, batch norm and ReLU to 512; classifier of 751 classes"
    assert rows["trained on"] == "Market-1501 (by its 751 classes)"  # not the file's name
    assert rows["licence"].startswith("MIT")
    assert rows["config"].startswith("model=classifier backbone=osnet backbone.width=0.25")
    assert rows["left over"] == "nothing"
    assert rows["also holds"] == "epoch=60, rank1=0.943"


@pytest.mark.recipe
@torch.no_grad()
def test_convert(osnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ours.ckpt"
    assert weights(["convert", str(osnet), "--out", str(out), "--data", "my people"]) == 0
    assert "model=classifier backbone=osnet" in capsys.readouterr().out
    model, size, _ = open_model(out)
    assert size == (256, 128)
    expected = embeddings_of(OSNET)
    torch.testing.assert_close(model(drawn_images(64, 32))["pool"], expected, atol=1e-5, rtol=1e-5)
    assert model.card is not None
    assert model.card.data == "my people"
    assert model.card.recipe == "OSNet x0.25 of torchreid, converted from osnet_duke.pth.tar-60"

    assert weights(["convert", str(osnet), "--out", str(out)]) == 1
    assert "exists already: --overwrite it" in capsys.readouterr().err
    again = ["convert", str(osnet), "--out", str(out), "--overwrite", "--image", "384x128"]
    assert weights(again) == 0
    assert open_model(out)[1] == (384, 128)

    assert weights(["inspect", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "convert     no: it is a checkpoint of reid_lab already" in printed
    assert "Classifier(backbone=OSNet(width=0.25, norm=batch), fc=512, identities=751)" in printed
    assert "image       384x128" in printed
    start = f"train from  backbone=osnet backbone.width=0.25 backbone.weights={out}"
    assert start in printed.splitlines()


def test_a_lost_classifier_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {k: v for k, v in state_of(OSNET).items() if not k.startswith("classifier.")}
    torch.save(state, tmp_path / "osnet_msmt17.pth")
    assert weights(["inspect", str(tmp_path / "osnet_msmt17.pth")]) == 0
    out = capsys.readouterr().out
    assert "MSMT17 (by the file's name)" in out
    assert "the classifier was not kept: testing needs none, training a new one" in out


@pytest.mark.recipe
@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x1_0", "densenet201"])
def test_torchvisions_classifiers(tmp_path: Path, name: str) -> None:
    network = getattr(models, name)().eval()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(drawn_weights(shapes))
    torch.save(network.state_dict(), tmp_path / "imagenet.pth")
    out = tmp_path / "ours.ckpt"
    assert weights(["convert", str(tmp_path / "imagenet.pth"), "--out", str(out)]) == 0
    model, _, _ = open_model(out)
    images = drawn_images(64, 32)
    outputs = model.outputs(images)
    torch.testing.assert_close(outputs.logits["pool"], network(images))
    assert model.card is not None
    assert model.card.data == "ImageNet-1K (by its 1,000 classes)"


@pytest.mark.recipe
@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("mobilenetv2_050", [256, 128], "backbone=timm backbone.name=mobilenetv2_050"),
        ("vit_tiny_patch16_224", [224, 224], "backbone=timm_vit"),
    ],
)
def test_timms_networks_are_named(
    tmp_path: Path, name: str, size: list[int], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network = pytest.importorskip("timm").create_model(name).eval()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(drawn_weights(shapes))
    torch.save(network.state_dict(), tmp_path / "timm.pth")
    file, out = str(tmp_path / "timm.pth"), tmp_path / "ours.ckpt"
    assert weights(["convert", file, "--out", str(out)]) == 1
    assert "does not name its network: give --network" in capsys.readouterr().err
    assert weights(["convert", file, "--out", str(out), "--network", name]) == 0
    assert f"model=classifier {words}" in capsys.readouterr().out
    model, image, _ = open_model(out)
    assert list(image) == size
    images = drawn_images(*image)[:1]
    config = network.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    theirs = (
        (images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) - mean
    ) / std
    torch.testing.assert_close(
        model.outputs(images).logits["pool"], network(theirs), atol=1e-4, rtol=1e-4
    )


def test_a_transformers_image_is_that_of_its_positions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = pytest.importorskip("timm").create_model("vit_tiny_patch16_224")
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    words = ["convert", str(tmp_path / "vit.pth"), "--network", "vit_tiny_patch16_224"]
    assert weights([*words, "--image", "256x128", "--out", str(tmp_path / "o.ckpt")]) == 1
    assert "position embedding is of images of 224x224: omit --image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"image_encoder.conv1.weight": 1, "bottleneck_proj.weight": 1}, "CLIP-ReID's CLIP's"),
        ({"a.weight": 1}, "key names of no known toolbox (first: a.weight)"),
        ({"stages.stage1.0.weight": 1}, "give it as backbone.weights=FILE"),
    ],
)
def test_files_that_cannot_be_converted(
    tmp_path: Path, state: dict[str, int], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors: dict[str, Tensor] = {key: torch.zeros(n) for key, n in state.items()}
    torch.save(tensors, tmp_path / "w.pth")
    assert weights(["inspect", str(tmp_path / "w.pth")]) == 0
    capsys.readouterr()
    out = tmp_path / "o.ckpt"
    assert weights(["convert", str(tmp_path / "w.pth"), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier.weight": ()}, "tensors of unknown shapes"),
        ({"conv1.conv.weight": (5, 3, 7, 7)}, "5 channels of the stem; known: 64, 48"),
        ({"fc.1.running_mean": (3,)}, "has another shape of 1 of its tensors (here pool.3.run"),
        ({"more.weight": (1,)}, ""),
    ],
)
def test_unexpected_tensors(
    tmp_path: Path,
    changes: dict[str, tuple[int, ...]],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = {**state_of(OSNET), **{key: torch.zeros(shape) for key, shape in changes.items()}}
    torch.save(state, tmp_path / "w.pth")
    words = [str(tmp_path / "w.pth"), "--out", str(tmp_path / "o.ckpt")]
    assert weights(["convert", *words]) == bool(message)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == bool(message)
    if not message:
        assert weights(["inspect", words[0]]) == 0
        assert "left over   1: more.weight" in capsys.readouterr().out


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["inspect", "x.pth", "--image", "256"], ["convert", "x.pth"], []):
        assert weights(words) == 2
    capsys.readouterr()
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    assert weights(["inspect", str(tmp_path / "module.pth")]) == 1
    assert "save its state dict by itself" in capsys.readouterr().err


def test_names_are_printed_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a\x1b[2Jb\n": torch.zeros(1)}, tmp_path / "w.pth")
    assert weights(["inspect", str(tmp_path / "w.pth")]) == 0
    out = capsys.readouterr().out
    assert r"(first: a\x1b[2Jb )" in out and "\x1b" not in out


@pytest.mark.recipe
def test_a_converted_backbone_starts_other_methods(osnet: Path, tmp_path: Path) -> None:
    assert weights(["convert", str(osnet), "--out", str(tmp_path / "ours.ckpt")]) == 0
    started = OSNet(width=0.25, weights=tmp_path / "ours.ckpt")
    found = open_model(tmp_path / "ours.ckpt")[0].backbone.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in started.state_dict().items())
    with pytest.raises(WeightsError, match="reid-lab weights inspect FILE prints the network"):
        OSNet(width=0.5, weights=tmp_path / "ours.ckpt")


@pytest.mark.system
@pytest.mark.report
@pytest.mark.usefixtures("undrawn")
def test_what_takes_a_checkpoint_takes_a_converted_one(
    osnet: Path, tmp_path: Path, composed: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "ours.ckpt"
    assert weights(["convert", str(osnet), "--out", str(ours), "--image", "64x32"]) == 0
    network = ("backbone=osnet", "backbone.width=0.25", "model=classifier", "model.fc=512")
    few = ("callbacks.verification=null", "callbacks.ranked_lists=null")
    run(composed(*network, *few, "task=test", f"ckpt_path={ours}"))
    page = (tmp_path / "run" / "report" / "report.html").read_text(encoding="utf-8")
    assert "<dd>Market-1501 (by its 751 classes)</dd>" in page
    chosen = ["--checkpoint", str(ours)]
    assert cost([*chosen, "--batch=2", "--repeats=1", "--seconds=0.01", "--allocator=default"]) == 0
    write_jpegs(tmp_path / "people", ["1/a.jpg", "2/b.jpg"])
    folders = ["--images", str(tmp_path / "people"), "--out", str(tmp_path / "gallery")]
    assert gallery(["build", *chosen, *folders]) == 0
    assert frontier([str(tmp_path / "run"), "--out", str(tmp_path / "frontier")]) == 0
