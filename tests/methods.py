"""Every method and backbone that conf/ offers, at a size that a test runs in seconds.

A new YAML under conf/model or conf/backbone is found here, and so by every test that is
parametrised by METHODS, BACKBONES or NETWORKS.
"""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torchvision.models.densenet import _DenseBlock

from reid_lab.backbone import Backbone
from reid_lab.config.build import build_model
from reid_lab.config.choices import conf_dir
from reid_lab.config.paths import register_resolvers
from reid_lab.model import Distilled, ReidModule
from reid_lab.model.teacher import Teacher

SIZE = (64, 32)  # height, width
PEOPLE = 3
# what a model is shrunk to, where it has such a key
SIZES = {"dim": 16, "hidden": 16, "width": 4, "parts": 2}
SMALL_BACKBONE = {"_target_": "reid_lab.backbone.SmallResNet", "width": SIZES["width"]}


def offered(group: str) -> list[str]:
    """The choices of a config group that build something by themselves."""
    files = sorted((conf_dir() / group).glob("*.yaml"))
    return [f.stem for f in files if "_target_" in yaml.safe_load(f.read_text(encoding="utf-8"))]


def objective_of_one_pass(name: str) -> bool:
    """Whether conf/model/NAME.yaml can be a student."""
    node = yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
    return bool(get_object(node["_target_"]).losses is ReidModule.losses)


METHODS, BACKBONES = offered("model"), offered("backbone")
# label -> overrides: every YAML of conf/backbone, and more networks of those that have many
NETWORKS: dict[str, tuple[str, ...]] = {
    **{name: (f"backbone={name}",) for name in BACKBONES},
    "googlenet": ("backbone=classic", "backbone.name=googlenet"),
    "osnet_x0_25": ("backbone=osnet", "backbone.width=0.25"),
    "osnet_ain_x0_25": ("backbone=osnet", "backbone.width=0.25", "backbone.norm=ain"),
    "efficientnet_lite0": ("backbone=timm", "backbone.name=efficientnet_lite0"),
    "convnext_atto": ("backbone=timm", "backbone.name=convnext_atto"),
    "vit_tiny": ("backbone=timm_vit", "backbone.name=vit_tiny_patch16_224"),
}
# small networks of today, on which every method with a backbone is tried
TODAY = ("timm", "efficientnet_lite0", "osnet_x0_25", "vit_tiny", "convnext_atto")
STUDENTS = [name for name in METHODS if objective_of_one_pass(name)]


def takes_a_backbone(name: str) -> bool:
    """Whether conf/model/NAME.yaml is built on the config's backbone, itself or as its student."""
    text = (conf_dir() / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    return "backbone: ${backbone}" in text or "/model@student: classifier" in text


_read, _read_once = FileConfigSource.load_config, dict[tuple[str, str, int], ConfigResult]()


def _load_config(source: FileConfigSource, config_path: str) -> ConfigResult:
    """Hydra's; a file that has not changed is parsed once, which takes a third of composing."""
    path = Path(source.path, source._normalize_file_name(config_path))
    if not path.is_file():
        return _read(source, config_path)
    key = (source.provider, str(path), path.stat().st_mtime_ns)
    if key not in _read_once:
        _read_once[key] = _read(source, config_path)
    return deepcopy(_read_once[key])


FileConfigSource.load_config = _load_config  # type: ignore[method-assign]


@cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=[*overrides])


def compose_once(*overrides: str) -> DictConfig:
    """A config that may be changed; Hydra takes 0.2 s for each that it composes."""
    return deepcopy(_composed(overrides))


def composed(*overrides: str) -> DictConfig:
    """A config on `backbone=small`; no data set is read, no weights are downloaded."""
    places = ("name=test", "run_dir=.", "dataset.root=.", "task=test")
    return compose_once("backbone=small", *places, *overrides)


def config(name: str, *overrides: str) -> DictConfig:
    """`model=NAME`, tiny, on tiny backbones; `overrides` are of what is not shrunk."""
    cfg = composed(f"model={name}", *overrides)
    cfg.dataset.transforms.height, cfg.dataset.transforms.width = SIZE
    cfg.dataset.transforms.test_crop = "whole"  # images of SIZE are what the network sees
    if not any(word.startswith("backbone=") for word in overrides):
        cfg.backbone = SMALL_BACKBONE
    elif "weights" in cfg.backbone:
        cfg.backbone.weights = None
    shrink(cfg.model)
    return cfg


def shrink(node: DictConfig) -> None:
    """Set every known size of a model, and use tiny backbones."""
    for key in map(str, node):
        if key == "teacher":
            node[key] = "teacher.ckpt"  # read by no test that does not train
            continue
        if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        if key in SIZES:
            node[key] = SIZES[key]
        elif isinstance(node[key], DictConfig):
            if is_backbone(node[key]):
                node[key] = SMALL_BACKBONE
            else:
                shrink(node[key])


def is_backbone(node: DictConfig) -> bool:
    target = get_object(node["_target_"]) if "_target_" in node else None
    return isinstance(target, type) and issubclass(target, Backbone)


def method(name: str, *overrides: str) -> ReidModule:
    """The method of conf/model/NAME.yaml, tiny, in eval mode, with random weights everywhere."""
    torch.manual_seed(0)
    return awake(build_model(config(name, *overrides), PEOPLE)).eval()


def on_backbone(name: str, model: str = "classifier") -> ReidModule:
    """A method on the network `name` of `NETWORKS`, at its own size, with random weights."""
    return method(model, *NETWORKS[name])


def class_of(name: str) -> str:
    """The `_target_` of the method `name`, or of the network `name` of `NETWORKS`."""
    group, _, choice = (f"model={name}" if name in METHODS else NETWORKS[name][0]).partition("=")
    node = yaml.safe_load((conf_dir() / group / f"{choice}.yaml").read_text(encoding="utf-8"))
    return str(node["_target_"])


def backbone(name: str, **options: Any) -> Backbone:
    """The network `name` of `NETWORKS` without weights, in eval mode."""
    cfg = config("classifier", *NETWORKS[name])
    torch.manual_seed(0)
    network: Backbone = instantiate(cfg.backbone, **options)
    return network.eval()


def awake(model: ReidModule) -> ReidModule:
    """`model` with norms that have an effect, and without parameters that start at zero."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.bias, 0, 0.5)
    for values in model.state_dict().values():  # e.g. HAN's regions, LOMO's metrics
        if values.is_floating_point() and not values.any():
            values.normal_(std=0.1)
    return model


class FirstChannels(nn.Module):
    """In place of a layer of a dense block: as many channels (N, 32, h, w), without weights."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[0][:, :32]


@torch.no_grad()
def shortened(model: ReidModule) -> ReidModule:
    """In place: of blocks that differ only in their channels, those that can be left out are.

    A tracer takes as long as a network is deep. The first of each kind stays, and so does each
    that changes its maps' shape; only the first and the last layer of a dense block stay.
    """
    keeps_shape: dict[nn.Module, bool] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        shapes = [tuple(x.shape) if isinstance(x, Tensor) else None for x in (*inputs, output)]
        same = len(shapes) == 2 and shapes[0] is not None and shapes[0] == shapes[1]
        keeps_shape[module] = same and keeps_shape.get(module, True)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    model(torch.zeros(2, 3, *SIZE))
    for hook in hooks:
        hook.remove()
    met: set[str] = set()
    for parent in list(model.modules()):
        if isinstance(parent, nn.Sequential):
            for name, child in list(parent.named_children()):
                kind = re.sub(r"\d\d+", "", repr(child))  # strides and kernels have one digit
                weighted = any(p.ndim > 1 for p in child.parameters())
                if weighted and len(parent) > 1 and kind in met and keeps_shape.get(child):
                    del parent._modules[name]
                met.add(kind)
        elif isinstance(parent, _DenseBlock):
            for name in list(parent)[1:-1]:
                parent[name] = FirstChannels()
    return model


def to_train(name: str, *overrides: str) -> ReidModule:
    """A method ready for a training step; a student learns from a copy of itself."""
    model = method(name, *overrides)
    if isinstance(model, Distilled):
        teacher = deepcopy(model.student)
        model.learn_from(Teacher(teacher, SIZE, "a.ckpt", "f" * 64), SIZE)
    return model.train()


def batch(people: int = PEOPLE, images: int = 2) -> dict[str, torch.Tensor]:
    """A PK batch of noise."""
    label = torch.arange(people).repeat_interleave(images)
    noise = torch.randn(len(label), 3, *SIZE, generator=torch.Generator().manual_seed(0))
    return {"image": noise, "label": label, "pid": label + 10, "index": torch.arange(len(label))}


def trainer(**given: Any) -> Any:
    """What a method asks of its trainer, at a step whose metrics are written."""
    connector = SimpleNamespace(should_update_logs=True)
    return SimpleNamespace(_logger_connector=connector, progress_bar_callback=None, **given)


@cache
def is_trained(name: str) -> bool:
    """Whether a method learns by gradients."""
    return any(p.requires_grad for p in method(name).parameters())


def save(model: ReidModule, path: Path) -> Path:
    """A checkpoint as a run writes it, without the optimiser's state."""
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return path
