"""Exports of every method, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from reid_lab.results.card import ModelCard
from tests.commands import export as main
from tests.methods import BACKBONES, METHODS, SIZE, TODAY, class_of, method, on_backbone, save

CARD = ModelCard(data="mini", recipe="a test")
Exported = Callable[[str], Path]
# hand-crafted features, whose operations ONNX does not have
REFUSED = {"lomo"}
ON_TODAYS = {f"dare on {name}": name for name in TODAY}
# a network of each class: resnet50 of ResNets; those of TODAY's classes with DaRe
CLASSES = {class_of(name): name for name in sorted(BACKBONES)}
ALONE = [name for target, name in CLASSES.items() if target not in map(class_of, TODAY)]
EXPORTED = [
    pytest.param(name, marks=() if name == "dare" else pytest.mark.recipe)
    for name in (*METHODS, *ALONE, *ON_TODAYS)
    if name not in REFUSED
]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, people: Path) -> Exported:
    """Method, backbone or DaRe on one -> a folder with `last.ckpt` and its export `out`.

    DaRe's has an INT8 export, too.
    """

    @cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        if name in ON_TODAYS:
            model = on_backbone(ON_TODAYS[name], "dare")
        else:
            model = on_backbone(name) if name in BACKBONES else method(name)
        model.hparams["card"] = CARD.to_dict()
        words = ["--checkpoint", str(save(model, folder / "last.ckpt"))]
        words += ["--out", str(folder / "out")]
        if name == "dare":
            words += ["dataset=market1501", f"dataset.root={people}", "--int8"]
            words += ["--calibration", "16", "--triton"]
        assert main(words) == 0
        return folder

    return make


@pytest.fixture(scope="session")
def dare(exported: Exported) -> Path:
    return exported("dare")


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), np.uint8)
