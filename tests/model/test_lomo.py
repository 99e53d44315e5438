from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from reid_lab.checkpoint import load_model
from reid_lab.classical import Lomo, PairsError
from reid_lab.classical.retinex import READINGS
from reid_lab.config.choices import conf_dir
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.dataset import ReidDataModule, Split, Transforms, read_layout
from reid_lab.dataset.transforms import normalise
from reid_lab.model import LOMO

IMAGES = torch.randint(0, 256, (2, 3, 128, 48), dtype=torch.uint8)


def split(pids: list[int], camids: list[int]) -> Split:
    names = [(f"{i}.jpg", p, c, i) for i, (p, c) in enumerate(zip(pids, camids, strict=True))]
    return Split.of(Path(), names)


PEOPLE = split([1, 1, 1, 2, 2, 2, 3, 3, 4, 4], [1, 2, 3, 1, 2, 2, 1, 3, 2, 3])


def features(people: Split = PEOPLE, seed: int = 0) -> torch.Tensor:
    """Rows (N, 26960) that resemble each other within a person."""
    rng = np.random.default_rng(seed)
    persons = rng.normal(size=(5, Lomo.dim))[people.pids % 5]
    rows = persons + 0.3 * rng.normal(size=persons.shape)
    return torch.from_numpy(rows.astype(np.float32))


def fitted(**options: object) -> LOMO:
    model = LOMO(**options)  # type: ignore[arg-type]
    model.fit(features(), PEOPLE)
    return model.eval()


def test_lomo_is_that_of_the_exact_pixels() -> None:
    exits = LOMO().eval()(normalise(IMAGES))
    assert tuple(exits) == LOMO.exit_names == ("lomo", "kissme", "xqda")
    assert torch.equal(exits["lomo"], Lomo()(IMAGES))


def test_the_metrics_are_projections_of_the_features() -> None:
    model = fitted()
    exits = model(normalise(IMAGES))
    for name in ("kissme", "xqda"):
        factor = getattr(model, name).factor
        torch.testing.assert_close(exits[name], exits["lomo"] @ factor)
        assert exits[name].abs().max() > 0


def test_the_choice_of_clipping_reaches_every_part_that_ranks() -> None:
    free, clipped = fitted(), fitted(kissme_clip=True)
    assert LOMO().stream_exits == free.stream_exits == ("lomo", "xqda")
    assert LOMO(kissme_clip=True).stream_exits == clipped.stream_exits == LOMO.exit_names
    assert clipped.exit_signs == {} and set(free.exit_signs) == {"kissme"}
    signs = free.exit_signs["kissme"]
    positive = int((signs > 0).sum())
    assert signs.tolist() == [1] * positive + [-1] * (len(signs) - positive)
    torch.testing.assert_close(free.kissme.factor[:, :positive], clipped.kissme.factor)


def test_choices_of_the_release_reach_the_model() -> None:
    free, paper = fitted(xqda_solver="svd", kissme_clip=True), fitted(kissme_clip=True)
    assert LOMO(xqda_solver="svd").stream_exits == ("lomo",)
    assert paper.exit_signs == {} and not torch.equal(free.xqda.factor, paper.xqda.factor)
    assert len(free.xqda.signs) == free.xqda.factor.shape[1]
    assert set(free.exit_signs) == ({"xqda"} if (free.xqda.signs < 0).any() else set())
    described = [LOMO(retinex=r).eval()(normalise(IMAGES))["lomo"] for r in READINGS]  # type: ignore[arg-type]
    for reading, rows in zip(READINGS, described, strict=True):
        assert torch.equal(rows, Lomo(reading)(IMAGES))
    assert not torch.equal(described[0], described[1])


def test_a_checkpoint_from_before_the_choice_ranks_as_it_did(tmp_path: Path) -> None:
    clipped, path = fitted(kissme_clip=True), tmp_path / "older.ckpt"
    weights = {k: v for k, v in clipped.state_dict().items() if not k.endswith("signs")}
    config = {"_target_": "reid_lab.model.LOMO"}  # it has no kissme_clip
    torch.save({"state_dict": weights, "hyper_parameters": {"model": config}}, path)
    older = load_model(path)
    assert older.exit_signs == {} and older.stream_exits == LOMO.exit_names
    rows = clipped(normalise(IMAGES))
    assert all(torch.equal(older(normalise(IMAGES))[name], rows[name]) for name in rows)


@pytest.mark.parametrize(("asked", "kept"), [(None, None), (1, 1), (99, None)])
def test_dimensions_of_xqda(asked: int | None, kept: int | None) -> None:
    above_one = fitted().xqda.factor.shape[1]
    assert 1 < above_one < len(PEOPLE)
    assert fitted(xqda_dim=asked).xqda.factor.shape[1] == (kept or above_one)


def test_counts_are_products_and_what_is_stated() -> None:
    model = fitted()
    kissme, xqda = (getattr(model, name).factor.numel() for name in ("kissme", "xqda"))
    lomo = Lomo().mul_adds(128, 48)
    counts = count_exits(model, 128, 48)
    assert counts == {"lomo": lomo, "kissme": lomo + kissme, "xqda": lomo + kissme + xqda}
    dims = exit_dims(model, 128, 48)
    assert dims == {"lomo": 26960, "kissme": kissme // 26960, "xqda": xqda // 26960}


def test_a_checkpoint_gives_the_metrics_back(tmp_path: Path) -> None:
    model, path = fitted(kissme_pca=3), tmp_path / "last.ckpt"
    config = {"_target_": "reid_lab.model.LOMO", "kissme_pca": 3}
    state = {"state_dict": model.state_dict(), "hyper_parameters": {"model": config}}
    torch.save(state, path)
    loaded = load_model(path)(normalise(IMAGES))
    assert all(torch.equal(loaded[name], rows) for name, rows in model(normalise(IMAGES)).items())


def test_a_state_of_other_features_is_refused() -> None:
    state = LOMO().state_dict()
    state["xqda.factor"] = state["xqda.factor"][:100]
    with pytest.raises(RuntimeError, match="size mismatch"):
        LOMO().load_state_dict(state)
    del state["xqda.factor"]
    with pytest.raises(RuntimeError, match=r"Missing key.*xqda\.factor"):
        LOMO().load_state_dict(state)


def test_distractors_and_junk_teach_nothing() -> None:
    rows, people = features(), PEOPLE
    more = split([*people.pids.tolist(), 0, -1, 0], [*people.camids.tolist(), 1, 2, 3])
    model = LOMO()
    model.fit(torch.cat([rows, torch.ones(3, Lomo.dim)]), more)
    assert torch.equal(model.xqda.factor, fitted().xqda.factor)


class Data:
    """What LOMO uses of a data module and of a trainer."""

    world_size = 1

    def __init__(self, people: Split, batches: list[dict[str, torch.Tensor]] | None = None) -> None:
        self.train_split, self.batches = people, batches
        self.datamodule = self

    def train_images_loader(self) -> list[dict[str, torch.Tensor]]:
        assert self.batches is not None
        return self.batches

    def pixels(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch.pop("pixels")


def training(data: Data) -> LOMO:
    model = LOMO()
    model._trainer = data  # type: ignore[assignment]
    return model


def test_one_camera_is_told_before_an_image_is_read() -> None:
    with pytest.raises(PairsError, match="1 camera: no two of one person are from different"):
        training(Data(split(PEOPLE.pids.tolist(), [1] * len(PEOPLE)))).setup("fit")
    training(Data(PEOPLE)).setup("fit")


def test_several_processes_are_told() -> None:
    data = Data(PEOPLE)
    data.world_size = 2
    with pytest.raises(PairsError, match="2 were given: use trainer.devices=1"):
        training(data).setup("fit")


def test_training_sees_every_image_once_in_order() -> None:
    pixels = torch.randint(0, 256, (10, 2, 3, 128, 48), dtype=torch.uint8)  # two views
    order = torch.tensor([3, 0, 4, 2, 1, 9, 8, 7, 6, 5])
    batches = [{"pixels": pixels[i], "index": i} for i in order.split(4)]
    model, rows = training(Data(PEOPLE, batches)), Lomo()(pixels.flatten(0, 1))
    model.training_step({}, 0)
    fitted = LOMO()
    fitted.fit(rows.view(10, 2, -1).mean(1), PEOPLE)
    torch.testing.assert_close(model._training_features(), rows.view(10, 2, -1).mean(1))
    for name in ("kissme", "xqda"):
        ours, expected = (rows @ getattr(m, name).factor for m in (model, fitted))
        torch.testing.assert_close(torch.cdist(ours, ours), torch.cdist(expected, expected))


def test_training_sees_what_the_device_holds(people: Path) -> None:
    found = []
    for cache in ("none", "device"):
        reader, size = partial(read_layout, name="mini"), Transforms(128, 48, enlarge=1)
        data = ReidDataModule(people, reader, size, batch_size=2, cache=cache, workers=0)  # type: ignore[arg-type]
        model = LOMO()
        model._trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
        found.append(model._training_features())
    assert torch.equal(*found) and found[0].any()


def test_mixed_precision_leaves_the_features_alone() -> None:
    model = fitted()
    plain = model(normalise(IMAGES))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(normalise(IMAGES))
    assert all(torch.equal(plain[name], mixed[name]) for name in plain)


def test_defaults_equal_the_yaml() -> None:
    config = OmegaConf.to_container(OmegaConf.load(conf_dir() / "model" / "lomo.yaml"))
    assert isinstance(config, dict) and config.pop("_target_") == "reid_lab.model.LOMO"
    assert config == {n: p.default for n, p in inspect.signature(LOMO).parameters.items()}
