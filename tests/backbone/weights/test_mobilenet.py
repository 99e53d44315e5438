"""Files of MobileNet v1, converted: the embeddings are those of the network that wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.backbone import MobileNet, WeightsError
from reid_lab.backbone.weights import WeightsFile, read_weights
from reid_lab.backbone.weights.found import FoundWeights
from reid_lab.backbone.weights.identify import identify
from reid_lab.checkpoint import checkpoint_of, revive
from reid_lab.results.card import ModelCard
from tests.backbone.test_mobilenet import between_one
from tests.backbone.weights.drawn import drawn_images, drawn_weights
from tests.conftest import Compose

IMAGES = 20 * drawn_images(64, 32)  # ReLU6 clips some
WIDTHS = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, *(1,) * 5, 2, 1)


def converted(file: WeightsFile) -> tuple[FoundWeights, Any]:
    found = identify(file)
    return found, revive(checkpoint_of(file, found, ModelCard()), file.path)


def slim_shapes(alpha: float, classes: int = 1001) -> dict[str, tuple[int, ...]]:
    """TF-slim's variables, as tf.train.list_variables lists them."""
    widths = [int(width * alpha) for width in WIDTHS]
    kernels = {"Conv2d_0/weights": (3, 3, 3, widths[0])}
    for unit, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False), 1):
        kernels[f"Conv2d_{unit}_depthwise/depthwise_weights"] = (3, 3, inputs, 1)
        kernels[f"Conv2d_{unit}_pointwise/weights"] = (1, 1, inputs, outputs)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in kernels.items():
        shapes[name] = shape
        channels = shape[2] if "depthwise" in name else shape[3]
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{name.split('/')[0]}/BatchNorm/{part}"] = (channels,)
    shapes["Logits/Conv2d_1c_1x1/weights"] = (1, 1, widths[-1], classes)
    shapes["Logits/Conv2d_1c_1x1/biases"] = (classes,)
    return {f"MobilenetV1/{name}": shape for name, shape in shapes.items()}


def slim_arrays(alpha: float) -> dict[str, np.ndarray]:
    """Drawn so that every layer's output is of the order of 1."""
    random, arrays = np.random.RandomState(0), {}
    for name, shape in slim_shapes(alpha).items():
        values = random.standard_normal(shape)
        if name.endswith("weights"):
            values *= np.sqrt(2 / (9 if "depthwise" in name else np.prod(shape[:3])))
        elif name.endswith(("gamma", "variance")):
            values = random.uniform(0.5, 1.5, shape)
        arrays[name] = values.astype(np.float32)
    return arrays


def slim_logits(arrays: dict[str, np.ndarray], images: Tensor) -> tuple[Tensor, Tensor]:
    """Pooled features and logits by TF-slim's definition, on images between -1 and 1."""

    def kernel(name: str) -> Tensor:
        return torch.from_numpy(arrays[f"MobilenetV1/{name}"])

    def norm(x: Tensor, name: str) -> Tensor:
        gamma, beta, mean, variance = (
            kernel(f"{name}/BatchNorm/{part}").view(-1, 1, 1)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return ((x - mean) / (variance + 0.001).sqrt() * gamma + beta).clamp(0, 6)

    x = F.pad(images, (0, 1, 0, 1))  # sizes are even: one row and column behind
    weights = kernel("Conv2d_0/weights").permute(3, 2, 0, 1)
    x = norm(F.conv2d(x, weights, stride=2), "Conv2d_0")
    for unit, stride in enumerate(STRIDES, 1):
        name = f"Conv2d_{unit}_depthwise"
        weights = kernel(f"{name}/depthwise_weights").permute(2, 3, 0, 1)
        x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        x = norm(F.conv2d(x, weights, stride=stride, groups=len(weights)), name)
        name = f"Conv2d_{unit}_pointwise"
        x = torch.einsum("nchw,cd->ndhw", x, kernel(f"{name}/weights")[0, 0])
        x = norm(x, name)
    features = x.mean((2, 3))
    head = kernel("Logits/Conv2d_1c_1x1/weights")[0, 0]
    return features, features @ head + kernel("Logits/Conv2d_1c_1x1/biases")


@torch.no_grad()
def test_tf_slim_s_variables(tmp_path: Path, composed: Compose) -> None:
    arrays, path = slim_arrays(0.25), tmp_path / "mobilenet_v1_0.25_128.npz"
    others = {"global_step": np.int64(7), "MobilenetV1/Conv2d_0/weights/RMSProp": np.zeros(3)}
    np.savez(path, **arrays, **others)  # type: ignore[arg-type]
    found, model = converted(read_weights(path))
    assert (found.toolbox, found.network, found.classes) == ("TF-slim", "MobileNet v1 x0.25", 1001)
    assert {*found.left_over(read_weights(path).shapes)} == {*others}
    ours, theirs = model.eval().outputs(IMAGES), slim_logits(arrays, between_one(IMAGES))
    assert theirs[0].std() > 0.05
    torch.testing.assert_close(ours.exits["pool"], theirs[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.logits["pool"], theirs[1], rtol=1e-4, atol=1e-4)
    cfg = composed(*found.overrides.split())
    assert (cfg.backbone.alpha, cfg.backbone.variant) == (0.25, "tf_slim")


@torch.no_grad()
@pytest.mark.parametrize(("name", "alpha"), [("100", "1"), ("125", "1.25")])
def test_timm_s_network(name: str, alpha: str) -> None:
    theirs = timm.create_model(f"mobilenetv1_{name}").eval()
    state = drawn_weights({k: tuple(v.shape) for k, v in theirs.state_dict().items()})
    theirs.load_state_dict(state)
    found, model = converted(WeightsFile(Path("mobilenetv1.pth"), state))
    assert (found.toolbox, found.network) == ("timm", f"MobileNet v1 x{alpha}")
    assert not found.left_over({key: tuple(v.shape) for key, v in state.items()})
    features = theirs.forward_features(between_one(IMAGES))
    ours = model.eval().outputs(IMAGES)
    torch.testing.assert_close(ours.exits["pool"], features.mean((2, 3)), rtol=1e-4, atol=1e-4)
    logits = theirs.forward_head(features)
    torch.testing.assert_close(ours.logits["pool"], logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_transformers_names_hold_tf_slim_s_tensors(tmp_path: Path) -> None:
    """Its names, the same numbers in torch's layout: the same embeddings as from the .npz file."""
    arrays = slim_arrays(0.25)
    path = tmp_path / "slim.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    state = {}
    norms = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
    for name, array in arrays.items():
        _, layer, *rest = name.split("/")
        values = torch.from_numpy(array)
        if layer == "Logits":
            key = "classifier." + ("bias" if values.ndim == 1 else "weight")
            state[key] = values if values.ndim == 1 else values[0, 0].T
            continue
        unit = int(layer.split("_")[1])
        place = f"layer.{2 * unit - (1 if 'pointwise' in layer else 2)}" if unit else "conv_stem"
        if rest[0] == "BatchNorm":
            part = norms.get(rest[1], "running_var")
            state[f"mobilenet_v1.{place}.normalization.{part}"] = values
        else:
            axes = (2, 3, 0, 1) if "depthwise" in layer else (3, 2, 0, 1)
            state[f"mobilenet_v1.{place}.convolution.weight"] = values.permute(*axes)
    found, model = converted(WeightsFile(Path("model.safetensors"), state))
    assert (found.toolbox, found.classes) == ("transformers", 1001)
    expected = converted(read_weights(path))[1].eval()(IMAGES)["pool"]
    torch.testing.assert_close(model.eval()(IMAGES)["pool"], expected)


@torch.no_grad()
def test_pytorch_mobilenet_is_the_plain_variant(tmp_path: Path) -> None:
    """Its file starts a plain network: `model.<unit>.<layer>`, of convolution, norm and ReLU."""
    ours = MobileNet(0.5).eval()
    shapes = {k: tuple(v.shape) for k, v in ours.state_dict().items()}
    ours.load_state_dict(drawn_weights(shapes))
    theirs: dict[str, Tensor] = {}
    layer = 0
    for stage in ours.stages.values():
        for module in stage:  # type: ignore[attr-defined]
            unit, place = (0, layer) if layer < 3 else ((layer - 3) // 6 + 1, (layer - 3) % 6)
            for key, value in module.state_dict().items():
                theirs[f"model.{unit}.{place}.{key}"] = value
            layer += 1
    theirs["fc.weight"], theirs["fc.bias"] = torch.zeros(1000, 512), torch.zeros(1000)
    found, model = converted(WeightsFile(Path("mobilenet_sgd.pth.tar"), theirs))
    assert found.toolbox == "pytorch-mobilenet" and "variant=" not in found.overrides
    assert torch.equal(model.eval().backbone(IMAGES), ours(IMAGES))
    path = tmp_path / "converted.ckpt"
    torch.save({"state_dict": model.state_dict()}, path)
    assert torch.equal(MobileNet(0.5, path).eval()(IMAGES), ours(IMAGES))
    with pytest.raises(WeightsError, match=r"missing \['stages.stage1.renormalise"):
        MobileNet(0.5, path, variant="tf_slim")


def test_parts_that_are_missing(tmp_path: Path) -> None:
    arrays = slim_arrays(0.25)
    for name in ("Logits/Conv2d_1c_1x1/weights", "Logits/Conv2d_1c_1x1/biases"):
        del arrays[f"MobilenetV1/{name}"]
    np.savez(tmp_path / "headless.npz", **arrays)  # type: ignore[arg-type]
    found, model = converted(read_weights(tmp_path / "headless.npz"))
    assert found.classes is None and model.classifier.weight.shape == (1, 256)
    del arrays["MobilenetV1/Conv2d_3_pointwise/BatchNorm/beta"]
    np.savez(tmp_path / "short.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="MobileNet v1 x0.25, but lacks 1 of its tensors"):
        converted(read_weights(tmp_path / "short.npz"))


def test_other_networks_of_timm_are_asked_for_by_name() -> None:
    with torch.device("meta"):
        state = timm.create_model("mobilenetv1_100h").state_dict()
    assert "give --network" in identify(WeightsFile(Path("weights.pth"), state)).reason


def test_files_of_arrays_that_are_malformed(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(WeightsError, match="not a file of arrays"):
        read_weights(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="not a file of arrays"):
        read_weights(tmp_path / "objects.npz")
