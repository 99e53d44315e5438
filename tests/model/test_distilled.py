"""Students, their teachers, and what is left of both in a checkpoint."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from reid_lab.backbone import SmallResNet
from reid_lab.checkpoint import fingerprint, fingerprint_of, load_model
from reid_lab.config.build import build_data, build_model, build_trainer
from reid_lab.config.choices import conf_dir
from reid_lab.config.settings import check
from reid_lab.config.teacher import load_teacher
from reid_lab.dataset import read_layout
from reid_lab.errors import UserError
from reid_lab.loss.distillation import hint, relation, soft_cross_entropy
from reid_lab.model import Classifier, Distilled, ReidModule
from reid_lab.model.base import State
from reid_lab.model.teacher import Cache, Teacher
from reid_lab.run.run import run
from tests.conftest import Compose
from tests.methods import METHODS, PEOPLE, SIZE, STUDENTS, method

BATCH = {
    "image": torch.randn(4, 3, *SIZE, generator=torch.Generator().manual_seed(0)),
    "label": torch.tensor([0, 0, 1, 2]),
    "pid": torch.tensor([5, 5, 6, 7]),
    "index": torch.arange(4),
}


def taught_by(module: ReidModule, image: tuple[int, int] = SIZE) -> Teacher:
    return Teacher(module, image, "a.ckpt", "f" * 64)


def distilled(
    student: str = "classifier", teacher: ReidModule | None = None, **options: Any
) -> Distilled:
    wide = teacher or Classifier(SmallResNet(6), PEOPLE)
    model = Distilled(method(student).train(), "a.ckpt", identities=PEOPLE, **options)
    model.learn_from(taught_by(wide), SIZE)
    return model


def total(model: ReidModule, batch: dict[str, Tensor] = BATCH) -> Tensor:
    return torch.stack(list(model.losses(batch).values())).sum()


@pytest.mark.parametrize("scale", [False, True])
def test_losses_are_equation_2(scale: bool) -> None:
    teacher = Classifier(SmallResNet(6), PEOPLE)
    model = distilled(
        teacher=teacher, temperature=5.0, student_weight=0.25, scale_by_t2=scale
    ).eval()
    ours, theirs = (m.outputs(BATCH["image"]).logits["pool"] for m in (model, teacher))
    soft = -((theirs / 5).softmax(1) * (ours / 5).log_softmax(1)).sum(1).mean()
    expected = soft * (25 if scale else 1) + 0.25 * F.cross_entropy(ours, BATCH["label"])
    torch.testing.assert_close(total(model), expected)
    assert set(model.losses(BATCH)) == {"cross_entropy", "pool_soft_targets"}


@pytest.mark.parametrize(
    ("student", "features"),
    [*((name, None) for name in STUDENTS), ("dare", "hint"), ("classifier", "relation")],
)
def test_any_method_learns_and_the_teacher_stays(student: str, features: str | None) -> None:
    model = distilled(student, features=features)
    teacher = model.teacher
    assert teacher is not None
    before = {name: value.clone() for name, value in teacher.module.state_dict().items()}
    total(model.train()).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert not [n for n, p in trained.items() if "triplet" not in n and p.grad is None]
    assert not any(p.requires_grad or p.grad is not None for p in teacher.module.parameters())
    after = teacher.module.state_dict()  # batch norm statistics among them
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert not [n for n in model.state_dict() if not n.startswith(("student.", "heads.", "proj"))]


def test_an_exit_without_classifier_gets_one_that_lambda_trains() -> None:
    model = distilled("dare", student_weight=0.5, exits={"stage1": "pool", "fusion": "pool"})
    assert set(model.heads) == {"stage1", "fusion"}
    outputs = model.eval().outputs(BATCH["image"])
    losses = model.losses(BATCH)
    for exit in ("stage1", "fusion"):
        logits = outputs.exits[exit] @ model.heads[exit].weight.T  # type: ignore[operator]
        expected = 0.5 * F.cross_entropy(logits, BATCH["label"])
        torch.testing.assert_close(losses[f"{exit}_cross_entropy"], expected)
        assert f"{exit}_soft_targets" in losses
    own = model.student.losses(BATCH)
    assert all(torch.allclose(losses[name], 0.5 * value) for name, value in own.items())


def test_branches_learn_from_branches() -> None:
    teacher = method("han").train()
    model = distilled("han", teacher, exits={"global": "global", "local": "local"}).eval()
    ours, theirs = model.outputs(BATCH["image"]), teacher.outputs(BATCH["image"])
    losses = model.losses(BATCH)
    for branch in ("global", "local"):
        expected = soft_cross_entropy(ours.logits[branch], theirs.logits[branch], 3.0)
        torch.testing.assert_close(losses[f"{branch}_soft_targets"], expected)
    torch.testing.assert_close(ours.exits, model(BATCH["image"]))
    assert model.stream_exits == ("global", "joint") and model.attention_maps(BATCH["image"])


@pytest.mark.parametrize("soft_targets", [True, False])
def test_a_stage_that_learns_from_its_fusion(soft_targets: bool) -> None:
    """The gradient reaches the stage that learns and not what the fusion alone depends on."""
    student = method("dare").train()
    options: dict[str, Any] = {"features": "relation", "soft_targets": soft_targets}
    model = Distilled(student, None, PEOPLE, {"stage1": "fusion"}, **options)
    model.learn_from(None, SIZE)
    assert set(model.heads) == ({"stage1", "fusion"} if soft_targets else set())
    losses = model.losses(BATCH)
    learned = [value for name, value in losses.items() if name.endswith(("targets", "relation"))]
    assert len(learned) == 1 + soft_targets
    torch.stack(learned).sum().backward()
    reached = {n for n, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached and all(".stage1." in name for name in reached)
    exits = student.eval()(BATCH["image"])
    expected = relation(exits["stage1"], exits["fusion"])
    torch.testing.assert_close(model.eval().losses(BATCH)["stage1_relation"], expected)


def test_hints_of_another_dimension_are_projected() -> None:
    model = distilled(features="hint", feature_weight=2.0).eval()
    assert model.teacher is not None
    assert model.projections["pool"].weight.shape == (48, 32)
    theirs = model.teacher.outputs(BATCH["image"]).exits["pool"]
    ours = model(BATCH["image"])["pool"] @ model.projections["pool"].weight.T  # type: ignore[operator]
    torch.testing.assert_close(model.losses(BATCH)["pool_hint"], 2 * hint(ours, theirs))
    same = distilled(teacher=method("classifier").train(), features="hint")
    assert not same.projections


def test_relations_are_among_the_images_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = distilled(soft_targets=False, features="relation").eval()
    whole = model.losses(BATCH)["pool_relation"]
    shares: list[tuple[Tensor, ...]] = []

    def gather(_: Distilled, *mine: Tensor) -> list[Tensor]:
        shares.append(mine)
        return [torch.cat(rows) for rows in zip(*shares, strict=True)]

    monkeypatch.setattr(Distilled, "gather", gather)
    for share in (slice(0, 2), slice(2, 4)):  # a process each; the last one has met both
        loss = model.losses({name: value[share] for name, value in BATCH.items()})["pool_relation"]
    torch.testing.assert_close(loss, whole)


def test_the_teacher_sees_its_own_image_size() -> None:
    seen = []
    module = method("classifier").train()
    teacher = taught_by(module, (96, 80))
    module.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore[union-attr, operator]
    teacher.outputs(BATCH["image"])
    expected = F.interpolate(BATCH["image"], (96, 80), mode="bilinear", antialias=True)
    torch.testing.assert_close(seen[0], expected)


def test_exits_are_the_student_s() -> None:
    model = distilled("dare").eval()
    state: State = (BATCH["image"],)
    for name, rows in model.student(BATCH["image"]).items():
        state, stepped = model.step(name, state)
        torch.testing.assert_close(stepped, rows)
    assert model.exit_names == model.student.exit_names
    assert model.stream_exits == model.student.stream_exits


def test_what_is_added_learns_as_the_student_does() -> None:
    model = distilled("han", method("classifier").train(), exits={"joint": "pool"})
    optimizer = model.configure_optimizers()
    groups = optimizer.param_groups
    assert len(groups) == 3 and groups[2]["lr"] == groups[0]["lr"]
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        ("classifier", "dare", {}, r"(?s)fusion has no classifier.*has none.*features=relation"),
        ("classifier", "jlml", {"exits": {"pool": "joint"}}, "has logits at global, local"),
        ("classifier", "classifier", {"exits": {"pol": "pool"}}, "student is called pol; it has p"),
        ("classifier", "classifier", {"exits": {"pool": "x"}}, "teacher is called x; it has pool"),
    ],
)
def test_exits_that_cannot_teach(
    student: str, teacher: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        distilled(student, method(teacher).train(), **options)


def test_other_people_cannot_be_told_apart_but_embedded() -> None:
    stranger = Classifier(SmallResNet(4), PEOPLE + 1)
    with pytest.raises(UserError, match="classifies 4 people at pool, the student 3 at fusion"):
        distilled("dare", stranger)
    assert distilled("dare", stranger, soft_targets=False, features="relation").pairs


def test_every_other_method_is_refused_as_a_student() -> None:
    for name in set(METHODS) - set(STUDENTS):
        with pytest.raises(ValueError, match="has no objective to distil into"):
            Distilled(method(name), "a.ckpt", identities=PEOPLE)


def test_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="nothing is learned"):
        Distilled(method("classifier").train(), None, soft_targets=False)
    itself = Distilled(method("classifier").train(), None)
    with pytest.raises(UserError, match="pool cannot learn from itself"):
        itself.learn_from(None, SIZE)
    with pytest.raises(RuntimeError, match="learn_from"):
        itself.losses(BATCH)


def test_defaults_equal_the_yaml() -> None:
    config = OmegaConf.to_container(OmegaConf.load(conf_dir() / "model" / "distilled.yaml"))
    assert isinstance(config, dict) and config.pop("_target_") == "reid_lab.model.Distilled"
    assert config.pop("defaults") and config.pop("teacher") == "???"
    parameters = inspect.signature(Distilled).parameters.items()
    assert config == {n: p.default for n, p in parameters if n not in ("student", "teacher")}


def test_what_the_student_logs_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, float] = {}
    monkeypatch.setattr(Distilled, "log", lambda _, name, value, **__: logged.update({name: value}))
    distilled().student.log("train/lr", 0.5)  # type: ignore[union-attr, operator]
    assert logged == {"train/lr": 0.5}


# --- whole runs, on the miniature people ---

STEPS = ("trainer.log_every_n_steps=1", "callbacks.checkpoint.every_n_train_steps=1")
STEPS = (*STEPS, "backbone=small", "dataset.batch_size=8")
SAME = ("dataset.transforms.enlarge=1", "dataset.transforms.flip=0", "dataset.transforms.erase=0")


@pytest.fixture
def teacher(composed: Compose, tmp_path: Path) -> Path:
    """A checkpoint of a classifier of the eight people, as a run leaves it."""
    cfg = composed("model=classifier", "backbone=small", "backbone.width=6")
    return saved(build_model(cfg, 8), tmp_path / "teacher.ckpt")


def saved(model: ReidModule, path: Path, **more: Any) -> Path:
    kept = {**model.hparams, **more}
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": kept}, path)
    return path


def student_of(composed: Compose, teacher: Path, *overrides: str, run: str = "run") -> DictConfig:
    options = ("model=distilled", f"model.teacher={teacher}", "backbone.width=4", *overrides)
    return composed(*STEPS, *options, "model.student.iterations=4", run=run)


def fitted(cfg: DictConfig) -> dict[str, Any]:
    """Train without evaluation; the last checkpoint."""
    cfg.callbacks = {"checkpoint": cfg.callbacks.checkpoint}
    cfg.trainer.limit_val_batches = 0.0
    data, trainer = build_data(cfg), build_trainer(cfg)
    torch.manual_seed(0)
    path = Path(cfg.run_dir) / "checkpoints" / "last.ckpt"
    resumed = path if cfg.ckpt_path == "last" else None
    trainer.fit(build_model(cfg, data.identities), data, ckpt_path=resumed, weights_only=True)
    return dict(torch.load(path, weights_only=True))


@pytest.mark.system
@pytest.mark.parametrize("features", ["null", "hint"])
def test_a_checkpoint_is_the_student_s(
    composed: Compose, teacher: Path, tmp_path: Path, features: str
) -> None:
    cfg = student_of(composed, teacher, f"model.features={features}")
    state = fitted(cfg)
    path = Path(cfg.run_dir) / "checkpoints" / "last.ckpt"
    teacher.unlink()
    model = load_model(path)
    assert type(model) is Classifier
    assert not any(name.startswith("student") for name in state["state_dict"])
    assert set(state["added"]) == ({"projections.pool.weight"} if features == "hint" else set())
    assert state["hyper_parameters"]["distilled"]["temperature"] == 3.0
    assert fingerprint(path) == fingerprint_of(
        model.state_dict(), state["hyper_parameters"]["model"]
    )
    cfg.task, cfg.ckpt_path = "test", str(path)  # the teacher is gone
    check(cfg)
    tested = build_model(cfg, 8)
    build_trainer(cfg).test(tested, build_data(cfg), ckpt_path=path, weights_only=True)
    ours = model.state_dict()
    assert all(torch.equal(ours[n], v) for n, v in tested.student.state_dict().items())  # type: ignore[union-attr, operator]


@pytest.mark.system
@pytest.mark.parametrize(
    "options",
    [("model.features=hint",), ("model.cache=cache", *SAME)],
    ids=["projected hints", "cached"],
)
def test_resumed_equals_uninterrupted(
    composed: Compose,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = fitted(student_of(composed, teacher, *options, run="whole"))
    half = student_of(composed, teacher, *options, run="half")
    half.trainer.max_steps = 2
    fitted(half)
    resumed = fitted(student_of(composed, teacher, *options, "ckpt_path=last", run="half"))
    for part in ("state_dict", "added"):
        assert all(torch.equal(resumed[part][name], v) for name, v in whole[part].items())
    assert whole["global_step"] == resumed["global_step"] == 4


def test_cached_outputs_equal_computed_ones(
    composed: Compose, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    plain = fitted(student_of(composed, teacher, *SAME, run="plain"))
    held = (f"model.cache={cache}", "dataset.cache=device")  # read where they are held
    kept = fitted(student_of(composed, teacher, *SAME, *held, run="kept"))
    for name, value in plain["state_dict"].items():
        torch.testing.assert_close(kept["state_dict"][name], value, atol=1e-5, rtol=1e-4)
    (path,) = cache.iterdir()
    assert path.name.startswith(fingerprint(teacher)[:16])
    data = build_data(student_of(composed, teacher, *SAME))
    outputs = torch.load(path, weights_only=True)
    assert set(outputs) == {"exits/pool", "logits/pool"}
    assert outputs["logits/pool"].shape == (len(data.train_split), 8)
    # the next run reads the file and does not run the teacher
    monkeypatch.setattr(Teacher, "outputs", None)
    again = fitted(student_of(composed, teacher, *SAME, f"model.cache={cache}", run="again"))
    assert all(torch.equal(again["state_dict"][n], v) for n, v in kept["state_dict"].items())


@pytest.mark.parametrize("shared", [True, False])
def test_all_processes_compute_the_teachers_outputs_if_one_lacks_them(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """This one, the first of another machine, has them: to wait for it alone would be for ever."""
    split = read_layout(people, "mini").train.take(torch.arange(4).numpy())
    model = distilled(cache=str(tmp_path))
    cache = model.cache
    assert cache is not None
    cache.fill(split, [(BATCH["image"], BATCH["index"])], lambda rows: rows)
    cache.save(split)
    path = cache.path(split)
    done: list[str] = []

    def barrier() -> None:
        done.append("barrier")
        if not shared:
            path.unlink()

    batch = {"image": BATCH["image"][:, None], "index": BATCH["index"]}
    trainer: Any = SimpleNamespace(
        datamodule=SimpleNamespace(train_split=split, train_images_loader=lambda: [batch]),
        strategy=SimpleNamespace(
            reduce_boolean_decision=lambda ok: False, batch_to_device=dict, barrier=barrier
        ),
        precision_plugin=SimpleNamespace(forward_context=nullcontext),
        **{"world_size": 2, "is_global_zero": False, "local_rank": 0, "precision": "32-true"},
    )
    model._trainer = trainer
    monkeypatch.setattr(model, "gather", lambda *rows: done.append("gather") or list(rows))
    monkeypatch.setattr(Cache, "save", lambda self, split: done.append("save"))
    model.on_fit_start()
    assert done == ["gather"] * 3 + ["barrier"] + ["save"] * (not shared)
    assert len(model._taught(model.outputs(BATCH["image"]), BATCH).logits["pool"]) == 4


def test_a_cache_is_of_one_teacher_one_size_one_precision_and_these_images(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = read_layout(people, "mini").train
    same = Teacher(method("classifier").train(), SIZE, "again.ckpt", "f" * 64)
    other = Teacher(method("classifier").train(), SIZE, "a.ckpt", "e" * 64)
    resized = Teacher(method("classifier").train(), (32, 32), "a.ckpt", "f" * 64)
    path = Cache(tmp_path, taught_by(method("jlml").train()), ["pool"], SIZE).path(split)
    assert Cache(tmp_path, same, ["pool"], SIZE).path(split) == path
    others = [
        Cache(tmp_path, other, ["pool"], SIZE).path(split),
        Cache(tmp_path, same, ["global"], SIZE).path(split),
        Cache(tmp_path, same, ["pool"], (32, 32)).path(split),
        Cache(tmp_path, same, ["pool"], SIZE).path(split.take(split.pids > 1)),
        Cache(tmp_path, resized, ["pool"], SIZE).path(split),
    ]
    half = Cache(tmp_path, same, ["pool"], SIZE)
    half.precision = "bf16-mixed"
    others.append(half.path(split))
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: f"not {before}")
    others.append(Cache(tmp_path, same, ["pool"], SIZE).path(split))
    assert len({path, *others}) == 8


@pytest.mark.system
def test_outputs_of_another_precision_are_not_taken(
    composed: Compose, teacher: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "kept"
    for precision in ("32-true", "bf16-mixed", "32-true"):
        given = (*SAME, f"model.cache={cache}", f"trainer.precision={precision}")
        fitted(student_of(composed, teacher, *given))
    first, second = (torch.load(path, weights_only=True) for path in cache.iterdir())
    assert not torch.equal(first["logits/pool"], second["logits/pool"])


@pytest.mark.system
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.teacher=/no/last.ckpt", "/no/last.ckpt does not exist: give a run's checkpoints"),
        ("model.cache=/tmp/none", "enlarge=1 flip=0 erase=0"),
        ("model.exits={pool: fusion}", "no exit of the teacher is called fusion; it has pool"),
        ("model.student.identities=9", "classifies 8 people at pool, the student 9"),
        ("model.temperature=0", "a number > 0"),
        ("model.student.lr=fast", "model.student.lr"),
    ],
)
def test_told_before_the_first_batch(
    composed: Compose, teacher: Path, override: str, message: str
) -> None:
    cfg = student_of(composed, teacher, override)
    with pytest.raises(UserError, match=message):
        run(cfg)
    assert not Path(cfg.run_dir, "logs").exists()


def test_another_normalisation(composed: Compose, tmp_path: Path) -> None:
    model = build_model(composed("model=classifier", "backbone=small"), 8)
    other = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    path = saved(model, tmp_path / "a.ckpt", normalise=other)
    with pytest.raises(UserError, match=r"normalised by .*0\.5.*here they"):
        load_teacher(str(path))


def test_the_data_s_people_reach_nested_configs(composed: Compose) -> None:
    cfg = composed("model=distilled", "model.teacher=null", "backbone=small", "task=test")
    model = build_model(cfg, 8)
    assert isinstance(model, Distilled) and model.identities == 8
    assert model.student.classifier.out_features == 8  # type: ignore[union-attr]
    assert model.hparams["model"]["identities"] == 8
