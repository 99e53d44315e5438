"""Every experiment of a paper against the numbers that the paper prints, written here once more.

DaRe: Wang et al., CVPR 2018. PLA: Li et al. HAN and JLML: Li, Zhu and Gong. "Distillation": Ruiz et
al. Bag of tricks: Luo et al., CVPRW 2019. OSNet: Zhou et al., ICCV 2019. Where a paper has no
number, the comment states what is taken instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from reid_lab.config.build import build_model
from reid_lab.config.choices import conf_dir
from reid_lab.model import ReidModule
from tests.conftest import Compose
from tests.methods import PEOPLE, shrink
from tests.recipes import RECIPES

pytestmark = pytest.mark.recipe

# images to train on: PLA, table 1 (CUHK03: detected boxes); MSMT17 as released
TRAIN = {"market": 12_936, "duke": 16_522, "cuhk03": 7_365, "msmt17": 32_621}
# the distillation paper holds out 1,294 of Market-1501 for validation (section 4.3)
TRAIN_DISTILLATION = {"market": 11_642, "duke": 16_522}


@dataclass(frozen=True)
class Transform:
    """What an image goes through on its way into the network, and how many views are tested."""

    height: int
    width: int
    enlarge: float = 1.0
    flip: float = 0.0
    erase: float = 0.0
    views: int = 1
    patch: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """A paper's training.

    Args:
        steps: batches of the whole training.
        rates: optimiser step -> learning rate.
        betas: optimiser step -> beta1 (Adam).
        batch: images, or (P, K).
        keys: any other key of the config -> its value.
    """

    optimiser: type[torch.optim.Optimizer]
    steps: int
    rates: dict[int, float]
    batch: int | tuple[int, int]
    transform: Transform
    betas: dict[int, float] = field(default_factory=dict)
    momentum: float = 0.0
    weight_decay: float = 0.0
    amsgrad: bool = False
    keys: dict[str, Any] = field(default_factory=dict)

    def having(self, **keys: Any) -> Recipe:
        """This recipe with other keys; `a__b` is a.b."""
        return replace(
            self, keys={**self.keys, **{k.replace("__", "."): v for k, v in keys.items()}}
        )


# DaRe, section 5: resized to 256x128, enlarged by 1.125, cropped, flipped; random erasing (RE) as
# in table 1's "+RE" rows, with the chance of 0.5 that PLA's section 4.2 names; five crops and flips
TRINET_IMAGE = Transform(256, 128, enlarge=1.125, flip=0.5, erase=0.5, views=10)


def trinet(t0: int, t1: int, batch: tuple[int, int]) -> Recipe:
    """Adam; equation 4 of DaRe, equation 10 of PLA: alpha_0 = 3e-4, beta1 0.9, then 0.5."""
    half = (t0 + t1) // 2
    return Recipe(
        torch.optim.Adam,
        steps=t1,
        rates={0: 3e-4, t0: 3e-4, half: 3e-4 * 0.001**0.5, t1: 3e-7},
        betas={0: 0.9, t0: 0.9, t0 + 1: 0.5, t1: 0.5},
        batch=batch,
        transform=TRINET_IMAGE,
    )


# DaRe, section 5: 18 people x 4 images, t0 = 30,000, t1 = 60,000; section 3: soft margin, layers of
# 1,024 ("1204", a slip: see `Head`) and 128 units
DARE = trinet(30_000, 60_000, (18, 4)).having(
    loss___target_="reid_lab.loss.BatchHardTriplet",
    loss__margin=None,
    model__hidden=1024,
    model__dim=128,
)


def pla(epoch: int) -> Recipe:
    """Section 4.2: P = 16, K = 8; e0 = 150, e1 = 300 epochs; 2,048 dimensions, 512 by PCA.

    Our reading: the last stage has stride 1; batch norm follows the 1x1 convolutions
    (experiments/pla_head).
    """
    return trinet(150 * epoch, 300 * epoch, (16, 8)).having(
        model__dim=2048,
        model__objective="both",
        model__pool="max",
        model__head="bn",
        callbacks__ranking__pca=512,
        backbone__last_stride=1,
        backbone__depth=50,
        backbone__weights="imagenet",
    )


PLA = pla(102)  # ceil(12,936 / 128), Market-1501
# PLA, algorithm 1 and equation 9
SEARCH = {
    "callbacks.progressive.explore_epochs": 20,
    "callbacks.progressive.exploit_epochs": 300,
    "callbacks.progressive.rounds": 3_000 // 300,
    "callbacks.progressive.expected_drop": 0.15,
    "callbacks.progressive.triplet_weight": [0, 2],
    "callbacks.progressive.margin": [-0.1, 0.3],
    "callbacks.progressive.k": [1, None],  # K = 8 and P = 16 of the batches
    "callbacks.progressive.p": [1, None],
}


def sgd(
    lr: float, steps: int, falls: tuple[int, ...], batch: int, image: Transform, decay: float = 0.0
) -> Recipe:
    """SGD with momentum 0.9, as all papers that take it; the rate falls to a tenth at each step."""
    rates = {0: lr, steps - 1: lr * 0.1 ** sum(step < steps for step in falls)}
    for number, step in enumerate(step for step in falls if step < steps):
        rates |= {step - 1: lr * 0.1**number, step: lr * 0.1 ** (number + 1)}
    return Recipe(torch.optim.SGD, steps, rates, batch, image, momentum=0.9, weight_decay=decay)


def han(dataset: str) -> Recipe:
    """Section 4: 160x64, no augmentation, 300 epochs, falls at 100, 200, 250."""
    epoch = TRAIN[dataset] // 32
    falls = (100 * epoch, 200 * epoch, 250 * epoch)
    return sgd(3e-2, 300 * epoch, falls, 32, Transform(160, 64), decay=5e-4)


HAN = {"model.dim": 1024, "model.objective": "cross_entropy", "model.unit": "depthwise"}


def jlml(steps: int, fall: int) -> Recipe:
    """Table 4; 224x224, m = 4, lambda = 5e-4 (section 2.2), 512 + 512 dimensions.

    There is no weight decay in the paper: it is Caffe's customary 5e-4.
    """
    falls = tuple(range(fall, steps + 1, fall))
    return sgd(0.01, steps, falls, 32, Transform(224, 224), decay=5e-4).having(
        model__parts=4,
        model__dim=1024,
        model__loss="multi",
        model__shared_stem=True,
        model__global_sparsity=5e-4,
        model__local_sparsity=5e-4,
    )


def distillation(
    lr: float, epochs: int, dataset: str, alpha: float, batch: int = 32, size: int = 128
) -> Recipe:
    """Section 4.3: a tenth of the rate every 20,000 steps; images are flipped; no weight decay."""
    steps = epochs * (TRAIN_DISTILLATION[dataset] // batch)
    image = Transform(size, size, flip=0.5)
    falls = tuple(range(20_000, steps, 20_000))
    return sgd(lr, steps, falls, batch, image).having(backbone__alpha=alpha)


def resnet50(lr: float, batch: int) -> Recipe:
    """Distillation, section 4.3: 15,000 iterations at 224x224, from ImageNet's weights."""
    return sgd(lr, 15_000, (), batch, Transform(224, 224, flip=0.5)).having(
        backbone__depth=50, backbone__weights="imagenet", backbone__last_stride=2
    )


def bag_of_tricks(epoch: int) -> Recipe:
    """Sections 2 and 3: Adam, 120 epochs of P = 16, K = 4; warm-up from 3.5e-5 in 10 epochs.

    Images are padded by 10 pixels and cropped, for which ours are enlarged as DaRe's.
    """
    rates = {0: 3.5e-5, 5 * epoch: 1.925e-4, 10 * epoch: 3.5e-4, 40 * epoch - 1: 3.5e-4}
    rates |= {40 * epoch: 3.5e-5, 70 * epoch: 3.5e-6, 120 * epoch - 1: 3.5e-6}
    return Recipe(
        torch.optim.Adam,
        steps=120 * epoch,
        rates=rates,
        batch=(16, 4),
        transform=Transform(256, 128, enlarge=1.125, flip=0.5, erase=0.5),
        weight_decay=5e-4,
        keys={
            "backbone.depth": 50,
            "backbone.last_stride": 1,
            "backbone.weights": "imagenet",
            "loss.margin": 0.3,
            "model.smoothing": 0.1,
            "model.centre": 5e-4,
            "model.exits": None,
            "callbacks.ranking.metric": "cosine",
        },
    )


# OSNet, section 4.1: batches of 64, weight decay 5e-4, label smoothing; its image size and 512
# dimensions. From ImageNet: a tenth of the rate every 60 epochs of 150, the head alone for 10
OSNET_EPOCH = TRAIN["market"] // 64
OSNET = {"backbone.width": 1.0, "backbone.norm": "batch", "model.fc": 512, "model.smoothing": 0.1}


def osnet_from_imagenet() -> Recipe:
    first, second = 60 * OSNET_EPOCH, 120 * OSNET_EPOCH
    rates = {0: 1.5e-3, first - 1: 1.5e-3, first: 1.5e-4, second - 1: 1.5e-4, second: 1.5e-5}
    return Recipe(
        torch.optim.Adam,
        steps=150 * OSNET_EPOCH,
        rates={**rates, 150 * OSNET_EPOCH - 1: 1.5e-5},
        betas={0: 0.9},
        batch=64,
        transform=Transform(256, 128, flip=0.5, erase=0.5),
        weight_decay=5e-4,
        amsgrad=True,
        keys={**OSNET, "model.frozen": 10, "model.epoch": OSNET_EPOCH},
    )


# SGD, a tenth of the rate at 150, 225 and 300 epochs of 350; a pasted patch (Market-1501, p = 0.5)
OSNET_SCRATCH = sgd(
    0.065,
    350 * OSNET_EPOCH,
    (150 * OSNET_EPOCH, 225 * OSNET_EPOCH, 300 * OSNET_EPOCH),
    64,
    Transform(256, 128, enlarge=1.125, flip=0.5, patch=0.5),
    decay=5e-4,
).having(**{key.replace(".", "__"): value for key, value in OSNET.items()}, model__frozen=0)

# Distillation, sections 4.3 and 5: best at T = 3; lambda is 1e-4, 1e-3 or 1e-2
PUPIL = {"model.temperature": 3, "model.student_weight": 1e-3, "model.soft_targets": True}
PUPIL |= {"model.scale_by_t2": False, "model.features": None}

# pattern of the experiment's name -> the recipe; the first that fits counts
PAPERS: dict[str, Recipe] = {
    "osnet_market_scratch": OSNET_SCRATCH,
    "osnet_market": osnet_from_imagenet(),
    "dare_market": DARE.having(backbone__depth=50, backbone__weights="imagenet"),
    "dare_cuhk03": DARE.having(backbone__depth=50, backbone__weights="imagenet"),
    "se_resnets_market": DARE.having(  # section 5.3.1
        model__backbones__resnet18__depth=18,
        model__backbones__resnet34__depth=34,
        model__backbones__resnet50__depth=50,
    ),
    # without the search: lambda = 1, no margin, the hardest triplets (section 3.2), or k = 8, 1
    "pla_market_fixed": PLA.having(
        model__triplet_weight=1, model__margin=0, model__k=1, model__p=1
    ),
    "pla_market_holistic": PLA.having(model__k=[8, 1], model__p=1),
    "pla_market": replace(PLA, keys=PLA.keys | SEARCH),
    "pla_duke": replace(pla(130), keys=PLA.keys | SEARCH),
    "pla_cuhk03": replace(pla(58), keys=PLA.keys | SEARCH),
    "han_*market": replace(han("market"), keys=HAN),
    "han_*duke": replace(han("duke"), keys=HAN),
    "han_*cuhk03": replace(han("cuhk03"), keys=HAN),
    "han_*msmt17": replace(han("msmt17"), keys=HAN),
    # HAN's table 7 has both; how they were trained is our reading: by HAN's recipe
    "scratch_market": han("market"),
    "scratch_cuhk03": han("cuhk03"),
    "bot_market": bag_of_tricks(epoch=203),  # ceil(12,936 / 64)
    "jlml_pretrain_imagenet": jlml(300_000, 100_000),
    "jlml_*": jlml(50_000, 20_000),
    "mobilenet025_market": distillation(0.01, 29, "market", alpha=0.25),
    "mobilenet075_market": distillation(0.01, 39, "market", alpha=0.75),
    "mobilenet05_market": distillation(0.01, 39, "market", alpha=0.5),
    "mobilenet_market": distillation(0.01, 39, "market", alpha=1),
    "mobilenet_duke": distillation(0.02, 39, "duke", alpha=1),
    "mobilenet05_duke": distillation(0.005, 39, "duke", alpha=0.5, batch=16),
    "resnet50_market": resnet50(0.001, 16),
    "resnet50_duke": resnet50(0.01, 32),
    "distill_market": replace(
        distillation(0.02, 39, "market", alpha=0.25), keys={"backbone.alpha": 0.25, **PUPIL}
    ),
    # on a network that the paper does not have, from weights that can be fetched
    "distill_mobilenetv2_market": replace(
        distillation(0.02, 39, "market", alpha=1), keys={"backbone.weights": "imagenet", **PUPIL}
    ),
    "distill_duke": replace(
        distillation(0.02, 39, "duke", alpha=0.25), keys={"backbone.alpha": 0.25, **PUPIL}
    ),
}
# distillation, section 4.3: PCA to 200 for KISSME, XQDA with all eigenvalues above 1; LOMO's images
LOMO = {
    "model.retinex": "deviations",
    "model.xqda_solver": "eigen",
    "model.kissme_pca": 200,
    "model.kissme_clip": False,
    "model.xqda_dim": None,
    "model.regulariser": 1e-3,
}
# no paper's: a size for CPUs, synthetic people, your own, or methods that no paper pairs
OWN = ("*synthetic*", "*_cpu", "*demo", "distill_han", "distill_dare_self", "finetune")


def is_own(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in OWN)


PUBLISHED = [name for name in RECIPES if not is_own(name)]
TRAINED = [name for name in PUBLISHED if not name.startswith("lomo")]


def recipe_of(name: str) -> Recipe:
    return next(recipe for pattern, recipe in PAPERS.items() if fnmatch(name, pattern))


def at_own_size(composed: Compose, name: str) -> DictConfig:
    return composed(*RECIPES[name], small=False)


def differing(cfg: DictConfig, keys: dict[str, Any]) -> dict[str, Any]:
    """The keys of a config whose value differs, with that value."""
    found = {key: OmegaConf.select(cfg, key, default="missing") for key in keys}
    found = {k: list(v) if OmegaConf.is_list(v) else v for k, v in found.items()}
    return {key: value for key, value in found.items() if value != keys[key]}


@pytest.mark.parametrize("name", TRAINED)
def test_the_config_has_the_papers_numbers(composed: Compose, name: str) -> None:
    cfg, recipe = at_own_size(composed, name), recipe_of(name)
    t = cfg.dataset.transforms
    found = Transform(t.height, t.width, t.enlarge, t.flip, t.erase, t.test_views, t.patch)
    assert found == recipe.transform
    assert (t.brightness, t.contrast, t.saturation, t.hue) == (0,) * 4
    if isinstance(recipe.batch, int):
        assert cfg.dataset.batch_size == recipe.batch
    else:
        assert (cfg.dataset.p, cfg.dataset.k) == recipe.batch and cfg.dataset.batch_size is None
    searched = "callbacks.progressive.rounds" in recipe.keys
    assert cfg.trainer.max_steps == (-1 if searched else recipe.steps)
    assert not differing(cfg, recipe.keys)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("lomo")])
def test_the_classical_baseline(composed: Compose, name: str) -> None:
    cfg = at_own_size(composed, name)
    t = cfg.dataset.transforms
    assert Transform(t.height, t.width, t.enlarge, t.flip, t.erase, t.test_views) == Transform(
        128, 48
    )
    assert not differing(cfg, LOMO)


def test_sizes_of_han_are_in_their_names(composed: Compose) -> None:
    for name in PUBLISHED:
        for size in ("small", "medium", "large"):
            if name.startswith(f"han_{size}"):
                assert at_own_size(composed, name).model.size == size


def built(cfg: DictConfig) -> tuple[ReidModule, torch.optim.Optimizer]:
    """The method of a config on tiny networks, and its optimiser."""
    cfg.task = "test"  # no teacher is loaded
    if cfg.get("backbone"):
        cfg.backbone = {"_target_": "reid_lab.backbone.SmallResNet", "width": 4}
    shrink(cfg.model)
    model = build_model(cfg, PEOPLE)
    optimiser = model.configure_optimizers()
    assert isinstance(optimiser, torch.optim.Optimizer)
    return model, optimiser


def groups_at(
    model: ReidModule, optimiser: torch.optim.Optimizer, step: int
) -> list[dict[str, Any]]:
    """The optimiser's groups as the batch of this step finds them."""
    model.trainer = SimpleNamespace(  # type: ignore[assignment]
        optimizers=[optimiser],
        global_step=step,
        progress_bar_callback=None,
        _logger_connector=SimpleNamespace(should_update_logs=False),
    )
    student = getattr(model, "student", model)
    model.log = student.log = lambda *_: None  # type: ignore[method-assign]
    model.on_train_batch_start({}, step)
    return optimiser.param_groups


@pytest.mark.parametrize("name", TRAINED)
def test_the_optimiser_has_the_papers_numbers(composed: Compose, name: str) -> None:
    recipe = recipe_of(name)
    model, optimiser = built(at_own_size(composed, name))
    assert type(optimiser) is recipe.optimiser
    held = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    for step in sorted({*recipe.rates, *recipe.betas}):
        group = groups_at(model, optimiser, step)[0]
        if step in recipe.rates:
            assert group["lr"] == pytest.approx(recipe.rates[step]), step
        if step in recipe.betas:
            assert group["betas"] == (recipe.betas[step], 0.999), step
        assert group["weight_decay"] == recipe.weight_decay
        assert group.get("momentum", 0.0) == recipe.momentum
        assert group.get("amsgrad", False) == recipe.amsgrad
        assert not group.get("nesterov") and not group["maximize"]


@pytest.mark.parametrize("name", [n for n in TRAINED if n.startswith("han")][:1])
def test_regions_of_han_learn_at_a_hundredth(composed: Compose, name: str) -> None:
    """Not in the paper: see `HAN`."""
    model, optimiser = built(at_own_size(composed, name))
    for step in (0, recipe_of(name).steps - 1):
        fast, slow = groups_at(model, optimiser, step)
        assert slow["lr"] == pytest.approx(fast["lr"] / 100)


def test_figure_8_has_section_4_3s_temperatures_and_lambdas() -> None:
    """1 to 5, then every 5 up to 30."""
    node = OmegaConf.load(conf_dir() / "sweep" / "distill_temperature.yaml")
    axes = {key: str(values).split(",") for key, values in node.hydra.sweeper.params.items()}
    temperatures = [*range(1, 6), *range(10, 31, 5)]
    assert axes["model.temperature"] == [str(each) for each in temperatures]
    assert [float(each) for each in axes["model.student_weight"]] == [1e-4, 1e-3, 1e-2]


def test_every_experiment_is_a_papers_or_known_as_our_own() -> None:
    unknown = [n for n in TRAINED if not any(fnmatch(n, pattern) for pattern in PAPERS)]
    assert not unknown, "add a row to PAPERS, or a pattern to OWN"
    used = {next(p for p in PAPERS if fnmatch(n, p)) for n in TRAINED}
    assert used == set(PAPERS), "a row that no experiment has"


@pytest.mark.parametrize("name", [n for n in RECIPES if is_own(n)])
def test_our_own_experiments_learn(composed: Compose, name: str) -> None:
    """Rates that fall in the end, and no wild ones."""
    cfg = at_own_size(composed, name)
    if name.startswith("lomo") or name == "finetune":
        return  # no rate; set by callbacks.schedule: see test_finetune.py
    steps = OmegaConf.select(cfg, "model.iterations") or cfg.model.student.iterations
    model, optimiser = built(cfg)
    at = (*(steps * tenth // 10 for tenth in range(10)), steps - 1)
    rates = [groups_at(model, optimiser, step)[0]["lr"] for step in at]
    peak = rates.index(max(rates))  # behind a warm-up, if there is one
    assert 1e-4 <= rates[peak] <= 0.1 and at[peak] < steps // 2
    assert peak == 0 or OmegaConf.select(cfg, "model.warmup")
    assert rates[peak:] == sorted(rates[peak:], reverse=True) and rates[-1] < rates[peak]
