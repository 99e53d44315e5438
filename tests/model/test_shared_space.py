"""`model.shared_space=true`: queries of every exit meet the gallery's embeddings of one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from reid_lab.backbone import SmallResNet
from reid_lab.callbacks import RankingEvaluation
from reid_lab.checkpoint import construct, load_model
from reid_lab.classical import HsvHistogram
from reid_lab.dataset.loading import ROLES
from reid_lab.dataset.transforms import Transforms
from reid_lab.errors import UserError
from reid_lab.loss import BatchHardTriplet, GeneralisedBatchHard, batch_hard
from reid_lab.loss.distillation import regression
from reid_lab.model import DaRe
from reid_lab.protocol import MARKET1501
from reid_lab.retrieval import Evaluation
from tests.methods import batch, config, method, save, to_train
from tests.retrieval.people import crowd, naive

SHARED = "model.shared_space=true"
STAGES = ("stage1", "stage2", "stage3", "stage4")


def shared() -> DaRe:
    model = to_train("dare", SHARED)
    assert isinstance(model, DaRe)
    return model


def test_losses_are_towards_the_fusion() -> None:
    """Beside those of DaRe, whose embeddings and fusion stay what they are."""
    model, given = shared(), batch()
    for layer in model.towards.values():
        torch.nn.init.normal_(layer.weight)
    outputs = model.outputs(given["image"])
    losses = model.objective(outputs, given)
    ends = ("_shared", "_regression")
    assert list(losses) == [*STAGES, "fusion", *(f"{s}{end}" for s in STAGES for end in ends)]
    fusion, pids = outputs.exits["fusion"].detach().numpy(), given["pid"].tolist()
    of_exits = model(given["image"])
    for stage in STAGES:
        rows = of_exits[stage].detach().numpy()
        far = np.linalg.norm(rows[:, None].astype(float) - fusion, axis=2)  # anchors are rows
        same = np.array(pids)[:, None] == pids
        gaps = np.where(same, far, -np.inf).max(1) - np.where(same, np.inf, far).min(1)
        wanted = np.logaddexp(0, gaps).mean()
        assert losses[f"{stage}_shared"].item() == pytest.approx(wanted, rel=1e-4)
        pulled = losses[f"{stage}_regression"].item()
        assert pulled == pytest.approx(far.diagonal().mean(), rel=1e-4)
        own = batch_hard(outputs.exits[stage], given["pid"])
        assert losses[stage].item() == pytest.approx(own.item())
    torch.testing.assert_close(of_exits["fusion"], outputs.exits["fusion"])


def test_what_each_loss_trains() -> None:
    model, given = shared(), batch()
    losses = model.objective(model.outputs(given["image"]), given)
    parts = [model.fusion.weights, model.heads["stage2"][-1].weight, model.towards["stage2"].weight]
    kept: Any = {"retain_graph": True, "allow_unused": True}
    trained = {
        name: [g is not None for g in torch.autograd.grad(losses[name], parts, **kept)]
        for name in ("fusion", "stage2", "stage2_shared", "stage2_regression")
    }
    assert trained == {
        "fusion": [True, True, False],
        "stage2": [False, True, False],
        "stage2_shared": [False, False, True],
        "stage2_regression": [False, False, True],
    }


def test_at_the_start_exits_are_the_stages_embeddings() -> None:
    given = batch()
    model = DaRe(SmallResNet(4), BatchHardTriplet(), hidden=16, dim=8, shared_space=True)
    model.eval()  # running statistics are not moved between the two passes
    found, own = model(given["image"]), model.outputs(given["image"]).exits
    assert list(found) == list(own)
    for name in found:
        torch.testing.assert_close(found[name], own[name])


def test_without_deep_supervision_there_is_nothing_to_share() -> None:
    with pytest.raises(UserError, match="shared_space=true .*deep_supervision=false"):
        method("dare", SHARED, "model.deep_supervision=false")


def test_checkpoints_of_both_kinds(tmp_path: Path) -> None:
    assert load_model(save(method("dare", SHARED), tmp_path / "a")).shared_exit == "fusion"
    model = method("dare")
    del model.hparams["model"]["shared_space"]  # as older versions wrote it
    old = load_model(save(model, tmp_path / "b"))
    assert old.shared_exit is None
    assert construct({"_target_": "reid_lab.loss.BatchHardTriplet"}).margin is None


def test_targets_of_triplets() -> None:
    torch.manual_seed(0)
    anchors, targets = torch.randn(12, 5), torch.randn(12, 5)
    pids = torch.arange(12) // 3
    far = torch.cdist(anchors.double(), targets.double())
    for k, p in ((1, 1), (3, 2)):
        found = GeneralisedBatchHard(k, p)(anchors, pids, targets)
        gaps = []
        for i, row in enumerate(far):
            positives, negatives = row[pids == pids[i]].sort()[0], row[pids != pids[i]].sort()[0]
            gaps.append(float(positives[-k] - negatives[p - 1]))
        assert found.item() == pytest.approx(np.log1p(np.exp(gaps)).mean(), rel=1e-5)
    one = BatchHardTriplet()(anchors, pids, targets)
    assert torch.allclose(one, GeneralisedBatchHard()(anchors, pids, targets))
    assert BatchHardTriplet()(anchors, pids, anchors) == BatchHardTriplet()(anchors, pids)


def test_regression_is_the_distance_and_moves_the_student_only() -> None:
    student, teacher = torch.zeros(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    loss = regression(student, teacher * torch.tensor([3.0, 4.0]))
    loss.backward()
    assert loss.item() == pytest.approx(5) and student.grad is not None and teacher.grad is None


def ranked(model: DaRe, exits: dict[str, torch.Tensor], q: Any, g: Any) -> Evaluation:
    """The evaluation of a test whose queries come before the gallery."""
    # a reference is there in tests only
    ranking = RankingEvaluation(references={"hsv": HsvHistogram(2, (2, 2, 2))})
    ranking.mul_adds = dict.fromkeys(exits, 1)
    images = SimpleNamespace(of=[*range(len(q) + len(g))])
    pids, camids = torch.cat([q.pids, g.pids]), torch.cat([q.camids, g.camids])
    names = np.array([f"{i}.jpg" for i in images.of], dtype=object)

    def take(rows: np.ndarray) -> Any:
        split = SimpleNamespace(pids=pids[rows].numpy(), camids=camids[rows].numpy(), boxes=None)
        split.tracks, split.path = np.arange(len(rows)), lambda i: names[rows][i]
        return _Sized(split, len(rows))

    role = [ROLES.index("query")] * len(q) + [ROLES.index("gallery")] * len(g)
    trainer: Any = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.datamodule = SimpleNamespace(
        eval_split=lambda part: SimpleNamespace(take=take),
        transforms=Transforms(64, 32),
        benchmark=SimpleNamespace(protocol=MARKET1501),
    )
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    batch = {"index": torch.tensor(images.of), "role": torch.tensor(role)}
    ranking.on_validation_batch_end(trainer, model, {"exits": exits}, batch)
    ranking.on_validation_epoch_end(trainer, model)
    assert ranking.evaluation is not None
    return ranking.evaluation


class _Sized:
    """A split of so many images."""

    def __init__(self, split: Any, count: int) -> None:
        self.__dict__.update(vars(split))
        self.count = count

    def __len__(self) -> int:
        return self.count


@pytest.mark.parametrize("overrides", [(), (SHARED,)], ids=["own", "shared"])
def test_ranks_are_those_of_numpy(overrides: tuple[str, ...]) -> None:
    """Queries of exit s against the fusion's gallery; without the option, against that of s."""
    model: Any = method("dare", *overrides)
    _, _, q, g = crowd()
    exits = {}
    for seed, name in enumerate(model.exit_names):
        query, gallery, *_ = crowd(seed)
        exits[name] = torch.cat([query, gallery])
    evaluation = ranked(model, exits, q, g)
    of_gallery = set()
    for name, rows in exits.items():
        gallery = exits["fusion" if overrides else name][len(q) :].numpy().astype(float)
        far = np.linalg.norm(rows[: len(q), None].numpy().astype(float) - gallery, axis=2)
        found, wanted = evaluation.rankings[name].summary(), naive(far, q, g)
        assert {key: found[key] for key in wanted} == pytest.approx(wanted)
        of_gallery.add(evaluation.embeddings.exits[name].gallery.data_ptr())
    assert len(of_gallery) == (1 if overrides else len(exits))  # one gallery in memory


def test_the_config_offers_it() -> None:
    assert config("dare").model.shared_space is False
