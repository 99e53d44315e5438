"""Fingerprints, and what a checkpoint may make the suite do: nothing but load its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from reid_lab.backbone import SmallResNet
from reid_lab.checkpoint import (
    allowed_classes,
    check_resumable,
    fingerprint,
    load_model,
    open_model,
    register,
)
from reid_lab.config.choices import conf_dir
from reid_lab.config.teacher import load_teacher
from reid_lab.errors import UserError
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import DaRe

WEIGHTS = {
    "head.weight": torch.arange(6.0).view(2, 3),
    "head.bias": torch.zeros(2),
    "seen": torch.tensor(7),
}
CONFIG = {"_target_": "reid_lab.model.DaRe", "dim": 8, "backbone": {"width": 4}}


def saved(folder: Path, weights: Any = WEIGHTS, config: Any = CONFIG, **more: Any) -> str:
    path = folder / f"{len(list(folder.iterdir()))}.ckpt"
    kept = {"model": config, "image": [64, 32]}
    torch.save({"state_dict": weights, "hyper_parameters": kept, **more}, path)
    return fingerprint(path)


def test_what_has_no_effect(tmp_path: Path) -> None:
    first = saved(tmp_path)
    assert len(first) == 64 and int(first, 16)
    turned = {name: WEIGHTS[name] for name in reversed(WEIGHTS)}
    strided = {**WEIGHTS, "head.weight": WEIGHTS["head.weight"].T.contiguous().T}
    others = [
        saved(tmp_path, optimizer_states=[{"step": torch.ones(3)}], global_step=9),
        saved(tmp_path, turned, dict(reversed(CONFIG.items()))),
        saved(tmp_path, strided),
        fingerprint(str(tmp_path / "0.ckpt")),
    ]
    assert set(others) == {first}


def test_what_has_an_effect(tmp_path: Path) -> None:
    weight = WEIGHTS["head.weight"]
    nudged = weight.clone()
    nudged[1, 2] = torch.nextafter(nudged[1, 2], torch.tensor(9.0))
    prints = [
        saved(tmp_path),
        saved(tmp_path, {**WEIGHTS, "head.weight": nudged}),
        saved(tmp_path, {**WEIGHTS, "head.weight": weight.view(3, 2)}),
        saved(tmp_path, {**WEIGHTS, "head.weight": weight.view(torch.int32)}),
        saved(tmp_path, {**WEIGHTS, "head.weight": weight.bfloat16()}),
        saved(tmp_path, {("tail" if k == "seen" else k): v for k, v in WEIGHTS.items()}),
        saved(tmp_path, {k: v for k, v in WEIGHTS.items() if k != "seen"}),
        saved(tmp_path, config={**CONFIG, "backbone": {"width": 5}}),
    ]
    assert len(set(prints)) == len(prints)


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    whole = (tmp_path / "foreign.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    messages = {
        "nowhere.ckpt": "does not exist: give a run's",
        "text.ckpt": "cannot be read",
        "half.ckpt": "cannot be read",
        "foreign.ckpt": "has no config of a model",
        "list.ckpt": "it holds a list",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message) as error:
            fingerprint(tmp_path / name)
        assert name in str(error.value)


# --- hostile and broken checkpoints ---


SMALL: dict[str, Any] = {
    "_target_": "reid_lab.model.DaRe",
    "backbone": {"_target_": "reid_lab.backbone.SmallResNet", "width": 4},
    "loss": {"_target_": "reid_lab.loss.BatchHardTriplet"},
    "hidden": 8,
    "dim": 8,
    "lr": 1e-3,
    "iterations": 2,
}
CANARY = "canary"
HOSTILE = [  # (target, arguments): each would create the file `CANARY`
    ("sympy.sympify", {"_args_": [f"__import__('os').system('touch {CANARY}')"]}),
    ("os.system", {"_args_": [f"touch {CANARY}"]}),
    ("os.system", {"command": f"touch {CANARY}"}),
    ("subprocess.check_call", {"args": ["touch", CANARY]}),
    ("builtins.exec", {"_args_": [f"open('{CANARY}', 'w')"]}),
    ("builtins.open", {"file": CANARY, "mode": "w"}),
    ("pathlib.Path.touch", {"self": {"_target_": "pathlib.Path", "_args_": [CANARY]}}),
    ("pathlib.Path.write_text", {"_args_": [{"_target_": "pathlib.Path", "_args_": [CANARY]}, ""]}),
    ("torch.load", {"f": "evil.pt", "weights_only": False}),
    ("torch.hub.load", {"repo_or_dir": ".", "model": "evil", "source": "local"}),
    ("hydra.utils.instantiate", {"config": {"_target_": "os.system", "command": CANARY}}),
    ("reid_lab.files.atomic.write_text", {"text": "", "path": CANARY}),
    ("reid_lab.files.tables.write_json", {"content": "", "path": CANARY}),
    ("reid_lab.checkpoint.load_model", {"checkpoint": "evil.ckpt"}),
    ("reid_lab.model.base.os.system", {"command": f"touch {CANARY}"}),
    ("reid_lab.backbone.weights.read_state", {"path": "evil.pt", "key": "", "allowed": ""}),
    ("reid_lab.model", {}),
    ("evil.Evil", {}),
    ("", {}),
    (7, {}),
    (None, {}),
    (["reid_lab.model.DaRe"], {}),
]
PLACES = ["lr", "backbone", "loss", "deeper", "root"]


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    """A good checkpoint's content."""
    model = DaRe(SmallResNet(4), BatchHardTriplet(), hidden=8, dim=8)
    kept = {"model": SMALL, "image": [64, 32]}
    return {"state_dict": model.state_dict(), "hyper_parameters": kept, "global_step": 1}


def write(path: Path, state: dict[str, Any], **changes: Any) -> Path:
    """A checkpoint whose hyper-parameters, model config or content are changed."""
    kept = {**state["hyper_parameters"], **changes.pop("kept", {})}
    kept["model"] = changes.pop("config", kept["model"])
    torch.save({**state, "hyper_parameters": kept, **changes}, path)
    return path


def placed(target: object, arguments: dict[str, Any], place: str) -> dict[str, Any]:
    """A model config that names `target` somewhere."""
    node = {"_target_": target, **arguments}
    if place == "root":
        return node
    if place == "deeper":
        return {**SMALL, "backbone": {**SMALL["backbone"], "width": [{"x": [node]}]}}
    return {**SMALL, place: node}


def test_a_good_checkpoint_loads(tmp_path: Path, state: dict[str, Any]) -> None:
    model, image, _ = open_model(write(tmp_path / "a.ckpt", state))
    assert isinstance(model, DaRe) and image == (64, 32) and not model.training


def test_a_checkpoint_that_sees_the_centre(tmp_path: Path, state: dict[str, Any]) -> None:
    model, image, _ = open_model(write(tmp_path / "a.ckpt", state, kept={"enlarge": 1.125}))
    assert image == model.image == (72, 36) and model.crop == (64, 32)
    images = torch.randn(2, 3, 72, 36)
    centre = images[:, :, 4:68, 2:34]
    seen, wanted = dict(model.exits(images)), dict(model.exits(centre))
    assert all(torch.equal(seen[name], rows) for name, rows in wanted.items())


@pytest.mark.parametrize("enlarge", [0.9, 5, float("nan"), "1", True, None, [1]])
def test_a_scale_that_no_training_has(
    tmp_path: Path, state: dict[str, Any], enlarge: object
) -> None:
    path = write(tmp_path / "a.ckpt", state, kept={"enlarge": enlarge})
    with pytest.raises(UserError, match="enlarge=.*allowed: 1 to 4"):
        open_model(path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("target", "arguments"), HOSTILE, ids=lambda v: str(v)[:30])
def test_a_checkpoint_names_allowed_classes_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: dict[str, Any],
    target: object,
    arguments: dict[str, Any],
    place: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil.py").write_text(f"open({CANARY!r}, 'w')")
    (tmp_path / "hubconf.py").write_text(f"open({CANARY!r}, 'w')")
    path = write(tmp_path / "evil.ckpt", state, config=placed(target, arguments, place))
    for load in (load_model, open_model, lambda p: load_teacher(str(p))):
        with pytest.raises(UserError, match="checkpoint may|not a value|not a checkpoint"):
            load(path)
    assert not (tmp_path / CANARY).exists()


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(CANARY),)


@pytest.mark.parametrize("key", ["payload", "state_dict", "hyper_parameters"])
def test_pickled_code_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Any], key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**state, key: Payload()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="more than tensors and plain types"):
        load_model(tmp_path / "evil.ckpt")
    assert not (tmp_path / CANARY).exists()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


EXPANDED = torch.zeros(1).expand(1_000_000, 1_000_000)
BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"config": None}, "has no config of a model"),
    ({"config": "reid_lab.model.DaRe"}, "has no config of a model"),
    ({"config": {}}, "not a method"),
    ({"config": {**SMALL, "dim": 16}}, "size mismatch for heads"),
    ({"config": {**SMALL, "hidden": 10**12}}, "cannot be loaded"),
    ({"config": {**SMALL, "hidden": -1}}, "cannot be loaded"),
    ({"config": {**SMALL, "backbone": 3}}, "cannot be loaded"),
    ({"config": {**SMALL, "depth": 3}}, "unexpected keyword"),
    ({"config": {**SMALL, "lr": "${oc.env:HOME}"}}, "not a value"),
    ({"config": {**SMALL, "lr": "???"}}, "not a value"),
    ({"config": {**SMALL, 3: 4}}, "not text"),
    ({"config": {**SMALL, "lr": torch.ones(1)}}, "not a plain value"),
    ({"config": {**SMALL, "lr": nested(99)}}, "nested too deeply"),
    ({"config": {**SMALL, "lr": [0] * 99_999}}, "too large"),
    ({"config": {**SMALL, "_partial_": True}}, "_target_ and plain arguments only"),
    ({"config": {"_target_": "reid_lab.backbone.SmallResNet", "width": 4}}, "not a method"),
    ({"config": {**SMALL, "_target_": "reid_lab.model.ReidModule"}}, "may name"),
    ({"kept": {"image": [1, 1]}}, "1x1, which is too small for its network"),
    ({"kept": {"image": [0, 0]}}, "allowed: .height, width."),
    ({"kept": {"image": [64.0, 32]}}, "allowed: .height, width."),
    ({"kept": {"image": [10**6, 10**6]}}, "allowed: .height, width."),
    ({"kept": {"image": [64]}}, "allowed: .height, width."),
    ({"kept": {"image": "64x32"}}, "allowed: .height, width."),
    ({"kept": {"normalise": {"mean": [0.5] * 3, "std": [0.5] * 3}}}, "normalised"),
    ({"kept": {"normalise": 5}}, "normalised"),
    ({"state_dict": []}, "no state_dict"),
    ({"state_dict": {}}, "no state_dict"),
    ({"state_dict": {"a": 3}}, "not a tensor"),
    ({"state_dict": {3: torch.ones(1)}}, "not a tensor"),
    ({"state_dict": {"a": EXPANDED}}, "not a dense tensor"),
    ({"state_dict": {"a": torch.ones(2).to_sparse()}}, "not a dense tensor"),
    ({"state_dict": {"a": torch.ones(1)}}, "cannot be loaded"),
    ({"hyper_parameters": None}, "has no config of a model"),
    ({"hyper_parameters": [1]}, "has no config of a model"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN, ids=lambda v: str(v)[:40])
def test_a_broken_checkpoint_is_one_message(
    tmp_path: Path, state: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "broken.ckpt", state, **changes)
    with pytest.raises(UserError, match=message) as error:
        open_model(path)
    assert "broken.ckpt" in str(error.value) or "model" in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, state: dict[str, Any], value: float
) -> None:
    weights = {name: weight.clone() for name, weight in state["state_dict"].items()}
    weights["fusion.weights"][0] = value
    with pytest.raises(UserError, match=r"not finite \(1 tensors, first fusion\.weights\)"):
        load_model(write(tmp_path / "a.ckpt", state, state_dict=weights))


def test_weights_of_another_type_are_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    for kind in (torch.complex64, torch.int32):
        weights = {name: weight.to(kind) for name, weight in state["state_dict"].items()}
        with pytest.raises(UserError, match="its config makes torch.float32"):
            load_model(write(tmp_path / "a.ckpt", state, state_dict=weights))


def test_changed_bytes_are_noticed(tmp_path: Path, state: dict[str, Any]) -> None:
    """torch does not read the checksums that it writes."""
    path = write(tmp_path / "a.ckpt", state)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="wrong checksum|cannot be read"):
        load_model(path)


PLUGIN = """
from reid_lab.checkpoint import register
from reid_lab.model import DaRe

@register
class Sixth(DaRe):
    pass
"""


def test_a_plugin_loads_once_it_is_opted_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Any]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "sixth_method.py").write_text(PLUGIN)
    path = write(tmp_path / "a.ckpt", state, config={**SMALL, "_target_": "sixth_method.Sixth"})
    with pytest.raises(UserError, match="REID_LAB_PLUGINS=your.module"):
        load_model(path)
    assert "sixth_method" not in sys.modules
    monkeypatch.setenv("REID_LAB_PLUGINS", "sixth_method")
    assert type(load_model(path)).__name__ == "Sixth"
    monkeypatch.setenv("REID_LAB_PLUGINS", "no_such_module")
    with pytest.raises(UserError, match="REID_LAB_PLUGINS=no_such_module cannot be imported"):
        load_model(path)


def test_register_takes_a_class() -> None:
    with pytest.raises(TypeError, match="takes a class"):
        register(print)  # type: ignore[type-var]


def test_every_model_config_names_allowed_classes() -> None:
    """What the suite writes, it reads."""
    for file in sorted((conf_dir() / "model").glob("*.yaml")):
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        if "_target_" in config:
            assert config["_target_"] in allowed_classes()


STEPS = {"step": {"total": {"completed": 3}}}
PROGRESS = {"epoch_loop.automatic_optimization.optim_progress": {"optimizer": STEPS}}
TRAINING: dict[str, Any] = {
    "epoch": 0,
    "global_step": 3,
    "pytorch-lightning_version": "2.6.0",
    "loops": {"fit_loop": PROGRESS},
    "callbacks": {},
    "optimizer_states": [],
    "lr_schedulers": [],
    "rng_state": torch.get_rng_state(),
}


@pytest.mark.parametrize("key", [*TRAINING])
@pytest.mark.parametrize("value", [None, "x", -1, [1], {"a": 1}], ids=str)
def test_a_training_goes_on_from_whole_state_only(key: str, value: object) -> None:
    check_resumable(TRAINING, "a.ckpt")
    if type(value) is type(TRAINING[key]) and key not in ("global_step", "loops"):
        return
    with pytest.raises(UserError, match=rf"a\.ckpt .*{key if key != 'global_step' else ''}"):
        check_resumable({**TRAINING, key: value}, "a.ckpt")
