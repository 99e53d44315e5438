"""Files that try to run something: each would leave a canary behind, and none may."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.torture.bench import Bench, Case, Expected, Stage, training

pytestmark = pytest.mark.system

CANARY = "canary"
PATH = {"_target_": "pathlib.Path", "_args_": [CANARY]}
SHELL = f"touch {CANARY}"
CODE = f"__import__('os').system('{SHELL}')"

# what stands where a checkpoint or a stored config should have a plain value
PAYLOADS: dict[str, Any] = {
    "sympify": {"_target_": "sympy.sympify", "_args_": [CODE]},
    "system": {"_target_": "os.system", "_args_": [SHELL]},
    "posix": {"_target_": "posix.system", "command": SHELL},
    "subprocess": {"_target_": "subprocess.check_call", "_args_": [["touch", CANARY]]},
    "eval": {"_target_": "builtins.eval", "_args_": [CODE]},
    "exec": {"_target_": "builtins.exec", "_args_": [CODE]},
    "write_text": {"_target_": "pathlib.Path.write_text", "_args_": [PATH, "x"]},
    "atomic": {"_target_": "reid_lab.files.atomic.write_text", "path": PATH, "text": "x"},
    "results": {"_target_": "reid_lab.files.tables.write_json", "path": PATH, "content": "x"},
    "instantiate": {
        "_target_": "hydra.utils.instantiate",
        "config": {"_target_": "os.system", "_args_": [SHELL]},
    },
    "torch.load": {"_target_": "torch.load", "f": "pickled", "weights_only": False},
    "torch.hub": {
        "_target_": "torch.hub.load",
        "repo_or_dir": "code",
        "model": "go",
        "source": "local",
    },
    "import": {"_target_": "importlib.import_module", "_args_": ["evil"]},
    "module": {"_target_": "evil.Model"},
    "partial": {
        "_target_": "reid_lab.model.DaRe",
        "_partial_": True,
        "backbone": {"_target_": "os.system", "_args_": [SHELL]},
    },
    "args": {
        "_target_": "torch.nn.Identity",
        "_args_": [[{"deep": [{"_target_": "os.system", "_args_": [SHELL]}]}]],
    },
    "resolver": "${claimed:canary}",
    "env": "${oc.env:HOME}",
    "decode": "${oc.decode:'${claimed:canary}'}",
    "run_dir": "${run_dir:../canary,null}",
}


# those of them that no version of Hydra has on its own list of what it never calls
BITING = ("sympify", "write_text", "atomic", "torch.load", "torch.hub", "module")


class Pickled:
    """Runs a command when it is unpickled without care."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (SHELL,)


# where in the config of a checkpoint's model a payload is put
PLACES_IN_MODEL: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "model": lambda _, payload: payload,
    "lr": lambda model, payload: model | {"lr": payload},
    "loss": lambda model, payload: model | {"loss": payload},
    "backbone": lambda model, payload: model | {"backbone": payload},
    "width": lambda model, payload: model | {"backbone": model["backbone"] | {"width": payload}},
    "new key": lambda model, payload: model | {"evil": payload},
    "deep": lambda model, payload: model | {"lr": [[{"a": [payload]}]]},
    "args": lambda model, payload: model | {"_args_": [payload]},
    "target": lambda model, payload: model | {"_target_": payload},
}


def bait(work: Path) -> None:
    """Code and pickles in the working folder that a payload may name."""
    (work / "code").mkdir(exist_ok=True)
    touch = f"import pathlib\npathlib.Path({str(work / CANARY)!r}).touch()\n"
    (work / "evil.py").write_text(f"{touch}class Model: pass\n")
    (work / "code" / "hubconf.py").write_text(f"{touch}def go(): pass\n")
    torch.save(Pickled(), work / "pickled")


def checkpoint(payload: Any, place: str, where: str = "evil.ckpt") -> Callable[[Stage, Path], None]:
    """Writes a checkpoint whose model's config holds a payload."""

    def prepare(stage: Stage, work: Path) -> None:
        bait(work)
        state = torch.load(stage.checkpoint, weights_only=True)
        kept = state["hyper_parameters"]
        kept["model"] = PLACES_IN_MODEL[place](kept["model"], payload)
        (work / where).parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, work / where)

    return prepare


def resumed(payload: Any, key: str) -> Callable[[Stage, Path], None]:
    """Writes a run of the same name whose config.yaml holds a payload."""

    def prepare(stage: Stage, work: Path) -> None:
        run_folder(payload, key, "runs/case/1")(stage, work)
        (work / "runs" / "case" / "1" / "checkpoints").mkdir()
        shutil.copy(stage.checkpoint, work / "runs" / "case" / "1" / "checkpoints")

    return prepare


def run_folder(payload: Any, key: str, where: str = "evil") -> Callable[[Stage, Path], None]:
    """Writes a finished run whose config.yaml holds a payload."""

    def prepare(stage: Stage, work: Path) -> None:
        bait(work)
        (work / where).mkdir(parents=True)
        shutil.copytree(stage.run / "results", work / where / "results")
        config = OmegaConf.load(stage.run / "config.yaml")
        OmegaConf.update(config, key, payload)
        OmegaConf.save(config, work / where / "config.yaml")

    return prepare


def pickled(where: str, content: Callable[[], bytes]) -> Callable[[Stage, Path], None]:
    """Puts a pickle where something else is expected; the rest is whole."""

    def prepare(stage: Stage, work: Path) -> None:
        shutil.copytree(stage.run, work / "evil", ignore=shutil.ignore_patterns(".hydra"))
        shutil.copytree(stage.gallery, work / "gallery")
        shutil.copytree(stage.export, work / "export")
        (work / where).parent.mkdir(parents=True, exist_ok=True)
        (work / where).write_bytes(content())

    return prepare


def by_torch(old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": Pickled()}, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def by_numpy(name: str) -> bytes:
    file = io.BytesIO()
    objects = np.array([Pickled()], dtype=object)
    if name == "npy":
        np.save(file, objects, allow_pickle=True)
    else:
        np.savez(file, **{"paths": objects, "masks": objects, "regions": objects})
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", by_torch(old=True))
    return file.getvalue()


BUILD = ("build", "--checkpoint", "evil.ckpt", "--images", "@images", "--out", "g")
SEARCH = ("search", "@gallery", "--checkpoint", "evil.ckpt", "--image", "@images")
EXPORT = ("--checkpoint", "evil.ckpt", "--out", "x")
TEACHER = "model=distilled model.teacher=evil.ckpt"
# how a checkpoint is used: name -> module, arguments
USES: dict[str, tuple[str, tuple[str, ...]]] = {
    "load_model": ("tests.torture.load_model", ("evil.ckpt",)),
    "gallery build": ("reid_lab.gallery", BUILD),
    "gallery search": ("reid_lab.gallery", SEARCH),
    "export": ("reid_lab.export", EXPORT),
    "teacher": ("reid_lab", training(TEACHER)),
    "resume": ("reid_lab", training("ckpt_path=evil.ckpt")),
    "test": ("reid_lab", training("task=test ckpt_path=evil.ckpt")),
    "weights": ("reid_lab", training("backbone=resnet18 backbone.weights=evil.ckpt")),
    "jlml": ("reid_lab", training("model=jlml model.weights=evil.ckpt")),
}


def given(name: str, use: str, prepare: Callable[[Stage, Path], None]) -> Case:
    module, arguments = USES[use]
    # a run that is resumed or tested has a config of its own, and may leave the file's alone
    expected: Expected = "either" if use in ("resume", "test") else "refused"
    return Case(f"{name}, {use}", arguments, module, expected, prepare)


FRONTIER = ("evil", "--out", "out")
CASES = [
    *(given(f"{n} as model", "load_model", checkpoint(p, "model")) for n, p in PAYLOADS.items()),
    *(given(f"{n} as lr", "gallery build", checkpoint(p, "lr")) for n, p in PAYLOADS.items()),
    *(
        given(f"sympify as {place}", "load_model", checkpoint(PAYLOADS["sympify"], place))
        for place in PLACES_IN_MODEL
    ),
    *(given("module as deep", use, checkpoint(PAYLOADS["module"], "deep")) for use in USES),
    *(given("system as backbone", use, checkpoint(PAYLOADS["system"], "backbone")) for use in USES),
    *(given("pickle", use, pickled("evil.ckpt", by_torch)) for use in USES),
    *(given("old pickle", use, pickled("evil.ckpt", lambda: by_torch(True))) for use in USES),
    given("pickle in a zip", "load_model", pickled("evil.ckpt", zipped)),
    *(
        Case(f"{name}, frontier", FRONTIER, "reid_lab.frontier", prepare=run_folder(p, "model.lr"))
        for name, p in PAYLOADS.items()
    ),
    *(
        Case(f"{name}, compare", training("compare=[evil]"), prepare=run_folder(p, "model"))
        for name, p in list(PAYLOADS.items())[::4]
    ),
    *(
        Case(f"{name}, resumed", training("ckpt_path=last"), prepare=resumed(p, "model.lr"))
        for name, p in list(PAYLOADS.items())[1::4]
    ),
    Case(
        "attention.npz, compare",
        training("compare=[evil]"),
        prepare=pickled("evil/results/attention.npz", lambda: by_numpy("npz")),
    ),
    Case(
        "attention.npz, frontier",
        FRONTIER,
        "reid_lab.frontier",
        prepare=pickled("evil/results/attention.npz", lambda: by_numpy("npz")),
    ),
    *(
        Case(
            f"{name}, gallery plan",
            ("plan", "gallery"),
            "reid_lab.gallery",
            "refused",
            pickled(f"gallery/{name}", lambda: by_numpy("npy")),
        )
        for name in ("gallery.json", "ids.bin", "embeddings.bin")
    ),
    *(
        Case(
            f"{name}, runtime",
            ("export", "@images/0002_c1s1_064955_01.jpg", "--out", "x.npz"),
            "reid_lab.runtime",
            "refused",
            pickled(f"export/{name}", by_torch),
        )
        for name in ("manifest.json", "model.onnx")
    ),
]


@pytest.mark.torture("hostile", share=12)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_runs(bench: Bench, case: Case, tmp_path: Path) -> None:
    bench.check(case, tmp_path)
    assert not list(tmp_path.rglob(f"{CANARY}*"))


def test_the_bait_bites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The payloads would leave a canary where something ran them."""
    from hydra.utils import instantiate

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    bait(tmp_path)
    for name in BITING:
        try:
            instantiate(PAYLOADS[name])
        except Exception as error:
            print(name, error)
        assert (tmp_path / CANARY).exists(), name
        (tmp_path / CANARY).unlink()
