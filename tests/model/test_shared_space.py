"""`model.shared_space=true`: queries of every exit meet the gallery's embeddings of one."""

from __future__ import annotations

import warnings
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
from reid_lab.classical.ridge import ridge
from reid_lab.config.make import make
from reid_lab.dataset.loading import ROLES
from reid_lab.dataset.transforms import Transforms
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import DaRe
from reid_lab.protocol import MARKET1501
from reid_lab.retrieval import Evaluation
from reid_lab.run.run import run
from tests.conftest import TINY, Compose
from tests.methods import batch, config, method, save, to_train
from tests.retrieval.people import crowd, naive

SHARED = "model.shared_space=true"
STAGES = ("stage1", "stage2", "stage3", "stage4")


def test_losses_are_those_without_it() -> None:
    given = batch()
    plain, model = to_train("dare"), to_train("dare", SHARED)
    assert list(model.losses(given)) == list(plain.losses(given)) == [*STAGES, "fusion"]
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained == [n for n, _ in plain.named_parameters()]


def test_exits_are_taken_to_the_fusion(tmp_path: Path) -> None:
    """By what each stage and those before it know of it."""
    torch.manual_seed(0)
    model: Any = method("dare", SHARED).eval()
    images, pids = torch.randn(40, 1, 3, 64, 32), torch.arange(40) // 4
    with torch.no_grad():
        own = model.embed_unshared(images)
        model.share_space(own, pids)
        found = model.embed(images)
    assert model.space_is_fitted
    torch.testing.assert_close(found["fusion"], own["fusion"])
    for count, name in enumerate(STAGES, 1):
        rows = torch.cat([own[stage] for stage in STAGES[:count]], 1)
        matrix, shift = ridge(rows, own["fusion"], pids)
        torch.testing.assert_close(found[name], rows @ matrix.T + shift, atol=1e-4, rtol=1e-4)
    again: Any = load_model(save(model, tmp_path / "a"))
    with torch.no_grad():
        torch.testing.assert_close(again.eval().embed(images), found)


def test_at_the_start_exits_are_the_stages_embeddings() -> None:
    given = batch()
    model = DaRe(SmallResNet(4), BatchHardTriplet(), hidden=16, dim=8, shared_space=True)
    model.eval()  # running statistics are not moved between the two passes
    assert not model.space_is_fitted
    found, own = model(given["image"]), model.outputs(given["image"]).exits
    assert list(found) == list(own)
    for name in found:
        torch.testing.assert_close(found[name], own[name])


def test_checkpoints_of_both_kinds(tmp_path: Path) -> None:
    assert load_model(save(method("dare", SHARED), tmp_path / "a")).shared_exit == "fusion"
    model = method("dare")
    del model.hparams["model"]["shared_space"]  # as older versions wrote it
    old = load_model(save(model, tmp_path / "b"))
    assert old.shared_exit is None
    assert construct({"_target_": "reid_lab.loss.BatchHardTriplet"}).margin is None


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
        validated="test",
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


@pytest.mark.filterwarnings("ignore:verification:UserWarning")
def test_a_run_fits_before_its_last_checkpoint(
    composed: Compose,
) -> None:
    few = ("callbacks.cost=null", "callbacks.throughput=null", "callbacks.checkpoint.save_top_k=-1")
    given = (*TINY, *few, SHARED, "dataset=folder", "model.iterations=4")
    cfg = composed(
        *given, "callbacks.checkpoint.every_n_train_steps=3", "trainer.val_check_interval=4"
    )
    run(cfg)
    folder = Path(cfg.run_dir) / "checkpoints"
    early, last = (
        load_model(path) for path in (min(folder.glob("*step=3*")), folder / "last.ckpt")
    )
    assert not early.space_is_fitted and last.space_is_fitted
    data = make(cfg, "dataset")
    with torch.no_grad():
        parts = [
            (b["index"], last.embed_unshared(data.on_after_batch_transfer(b, 0)["image"]))
            for b in data.train_images_loader()
        ]
    pids = torch.from_numpy(data.train_split.pids)[torch.cat([index for index, _ in parts])]
    own = {name: torch.cat([exits[name] for _, exits in parts]) for name in last.exit_names}
    matrix, _ = ridge(torch.cat([own["stage1"], own["stage2"]], 1), own["fusion"], pids)
    torch.testing.assert_close(last.towards["stage2"].weight, matrix, atol=1e-3, rtol=1e-2)
    unfitted = min(folder.glob("*step=3*")).rename(folder / "unfitted.ckpt")
    test = composed(*given, "task=test", f"ckpt_path={unfitted}", run="again")
    with pytest.warns(UserWarning, match="early exits are not fitted"):
        run(test)


@pytest.mark.filterwarnings("ignore:verification:UserWarning")
def test_maps_of_earlier_weights_are_told(composed: Compose) -> None:
    """Between a validation, which fits them, and the next one the training goes on."""
    few = ("callbacks.cost=null", "callbacks.throughput=null", "callbacks.checkpoint.save_top_k=-1")
    given = (*TINY, *few, SHARED, "dataset=folder", "model.iterations=4")
    given = (*given, "callbacks.checkpoint.every_n_train_steps=3", "trainer.val_check_interval=2")
    cfg = composed(*given)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "early exits")
        run(cfg)
    (path,) = (Path(cfg.run_dir) / "checkpoints").glob("*step=3*")
    between = path.rename(path.parent / "between.ckpt")
    with pytest.warns(UserWarning, match="fitted at step 2 of the training, and this .* step 3"):
        run(composed(*given, "task=test", f"ckpt_path={between}", run="again"))


def test_the_config_offers_it() -> None:
    assert config("dare").model.shared_space is False
