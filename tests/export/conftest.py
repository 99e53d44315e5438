"""Exports of every method, made once for all of xdist's processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from torch.onnx._internal.exporter._registration import ONNXRegistry

from reid_lab.checkpoint import load_model, open_model
from reid_lab.export.checkpoint import ExportOptions, Source, write_export
from reid_lab.model import ReidModule
from reid_lab.results.card import ModelCard
from reid_lab.runtime import Model
from tests.commands import export as main
from tests.methods import (
    BACKBONES,
    METHODS,
    SIZE,
    TODAY,
    class_of,
    method,
    on_backbone,
    save,
    shortened,
)

BLOCKED = """
import sys
for name in ("torch", "pytorch_lightning", "hydra", "faiss"):
    sys.modules[name] = None
from reid_lab.cli.main import main
"""
CARD = ModelCard(data="mini", recipe="a test")
Exported = Callable[[str], Path]
# hand-crafted features, whose operations ONNX does not have
REFUSED = {"lomo"}
ON_TODAYS = {f"dare on {name}": name for name in TODAY}
# a network of each class: resnet50 of ResNets; those of TODAY's classes with DaRe
CLASSES = {class_of(name): name for name in sorted(BACKBONES)}
ALONE = [name for target, name in CLASSES.items() if target not in map(class_of, TODAY)]
# a method of each class: by their sizes alone, two are the same once they are shrunk
KINDS = {class_of(name): name for name in METHODS if name not in REFUSED}.values()
EXPORTED = [
    pytest.param(name, marks=() if name == "dare" else pytest.mark.recipe)
    for name in (*KINDS, *ALONE, *ON_TODAYS)
]
# exported as a user does it; the others without the blocks that differ only in their channels
AS_A_USER = ("dare", "classifier")


@pytest.fixture(scope="session", autouse=True)
def operators_once() -> Iterator[None]:
    """torch parses the source of its 500 ONNX operators in each export, for over a second."""
    with pytest.MonkeyPatch.context() as patch:
        once = staticmethod(cache(ONNXRegistry.from_torchlib))
        patch.setattr(ONNXRegistry, "from_torchlib", once)
        yield


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, people: Path) -> Exported:
    """Method, backbone or DaRe on one -> a folder with `last.ckpt` and its export `out`.

    DaRe's has an INT8 export, too.
    """

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exports"
    shared.mkdir(exist_ok=True)

    @cache
    def make(name: str) -> Path:
        folder = shared / name
        with FileLock(shared / f"{name}.lock"):
            if not (folder / "made").is_file():
                folder.mkdir(exist_ok=True)
                write(name, folder, people)
                (folder / "made").touch()
        return folder

    return make


def write(name: str, folder: Path, people: Path) -> None:
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
    if name in AS_A_USER:
        assert main(words) == 0
        return
    opened, image, key = open_model(folder / "last.ckpt")
    (folder / "out").mkdir()
    source = Source(folder / "last.ckpt", shortened(opened), image, key)
    write_export(folder / "out", source, None, ExportOptions())


def network_of(folder: Path) -> ReidModule:
    """What was exported into the folder of its name."""
    model = load_model(folder / "last.ckpt")
    return model if folder.name in AS_A_USER else shortened(model)


@pytest.fixture(scope="session")
def dare(exported: Exported) -> Path:
    return exported("dare")


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), np.uint8)


def check_without_torch(export: Path, folder: str, place: Path) -> None:
    """A process that cannot import torch gives the ONNX export's embeddings."""
    np.save(place / "pixels.npy", noise(2))
    code = f"""{BLOCKED}
import numpy as np
from reid_lab.runtime import Model
rows = Model({str(export / folder)!r}, 1).embed(np.load("pixels.npy"))
np.save("rows.npy", rows["fusion"])
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = Model(export).embed(noise(2))["fusion"]
    np.testing.assert_allclose(np.load(place / "rows.npy"), wanted, atol=1e-5)
