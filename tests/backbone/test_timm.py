"""Networks of timm: cut, they compute what timm computes; what cannot be cut is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reid_lab.backbone import TimmCNN, TimmViT, WeightsError
from reid_lab.backbone.timm_networks import Renormalise
from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.errors import UserError

pytestmark = pytest.mark.recipe

CNNS = [
    *("resnet18", "resnetv2_50", "mobilenetv2_100", "mobilenetv3_small_050", "lcnet_050"),
    *("efficientnet_b0", "efficientnet_lite0", "convnext_atto", "regnety_002", "ghostnet_100"),
    *("repvgg_a0", "densenet121", "mobileone_s0", "xception41", "mobilevit_xxs", "repvit_m0_9"),
    *("dla34", "nf_regnet_b0", "inception_v3", "edgenext_xx_small", "vgg11", "pvt_v2_b0"),
]
# timm names an activation inside a block, where the whole block is kept; convolutions do not pad
WITHIN = {"xception41", "inception_v3"}
VITS = [
    ("vit_tiny_patch16_224", "class"),
    ("vit_tiny_patch16_224", "mean"),
    ("deit3_small_patch16_224", "class"),  # its class token has no position
    ("vit_wee_patch16_reg1_gap_256", "mean"),  # a register; its norm is behind the mean
]
SIZE = (64, 32)


def pair(cls: type, name: str, **options: Any) -> tuple[Any, Any]:
    """Our cut network and timm's, with the same weights, in eval mode."""
    torch.manual_seed(0)
    ours = cls(name, **options).eval()
    torch.manual_seed(0)
    sized = {"img_size": SIZE} if cls is TimmViT else {}
    return ours, timm.create_model(name, **sized).eval()


def seen(network: Any, images: Tensor) -> Tensor:
    """Images as a network of timm takes them."""
    renormalise = Renormalise.of(network)
    return images if renormalise is None else renormalise(images)


@torch.no_grad()
@pytest.mark.parametrize("name", CNNS)
def test_a_cnn_computes_what_timm_computes(name: str) -> None:
    ours, theirs = pair(TimmCNN, name)
    images = torch.randn(1, 3, 128, 96)
    assert torch.equal(ours(images), theirs.forward_features(seen(theirs, images)))
    x, shapes = images, []
    for stage in ours.stages.values():
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert [shape[0] for shape in shapes] == list(ours.channels)
    named = [e for e in theirs.feature_info if e["reduction"] >= 4]
    assert len(shapes) == len(named)
    if name not in WITHIN:
        for (channels, height, _), entry in zip(shapes[:-1], named[:-1], strict=True):
            assert (channels, height) == (entry["num_chs"], 128 // entry["reduction"])


@torch.no_grad()
def test_stages_are_timms_feature_maps() -> None:
    ours, whole = pair(TimmCNN, "mobilenetv2_100")
    theirs = timm.create_model("mobilenetv2_100", features_only=True).eval()
    theirs.load_state_dict(whole.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 32)
    expected = theirs(x)[1:]
    for stage, maps in zip(list(ours.stages.values())[:-1], expected[:-1], strict=True):
        x = stage(x)
        torch.testing.assert_close(x, maps)
    last = nn.Sequential(*list(ours.stages["stage4"])[:-2])  # without conv_head and its norm
    torch.testing.assert_close(last(x), expected[-1])


@torch.no_grad()
@pytest.mark.parametrize(("name", "pool"), VITS)
def test_a_vit_computes_what_timm_computes(name: str, pool: str) -> None:
    ours, theirs = pair(TimmViT, name, pool=pool, height=SIZE[0], width=SIZE[1])
    images = torch.randn(2, 3, *SIZE)
    tokens = theirs.forward_features(seen(theirs, images))
    expected = theirs.fc_norm(theirs.pool(tokens, {"class": "token", "mean": "avg"}[pool]))
    torch.testing.assert_close(ours(images)[:, :, 0, 0], expected, atol=1e-5, rtol=1e-4)
    kept = sum(p.numel() for p in ours.parameters())
    head = sum(p.numel() for p in theirs.head.parameters())
    assert kept == sum(p.numel() for p in theirs.parameters()) - head


def test_groups_of_blocks() -> None:
    network = TimmViT("vit_tiny_patch16_224", groups=5, height=64, width=32)
    names = [[n for n, _ in stage.named_children()] for stage in network.stages.values()]
    assert [len(n) for n in names] == [3, 2, 3, 2, 3] and names[0][0] == "stem"
    assert sum(names, [])[1:] == [f"blocks_{b}" for b in range(12)]


def test_weights_decide_how_images_are_normalised() -> None:
    assert Renormalise.of(timm.create_model("resnet18")) is None
    half = Renormalise.of(timm.create_model("vit_tiny_patch16_224"))
    assert half is not None and set(half.state_dict()) == {"scale", "shift"}
    images = torch.rand(2, 3, 4, 4)
    normalised = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(half(normalised), images * 2 - 1)


def test_the_last_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(1, 3, 128, 64)
    for name in ("resnet18", "mobilenetv2_100", "convnext_atto"):
        assert TimmCNN(name).eval()(images).shape[2:] == (4, 2)
        assert TimmCNN(name, last_stride=1).eval()(images).shape[2:] == (8, 4)
    with pytest.raises(UserError, match=r"densenet121: timm cannot build it with output_stride=16"):
        TimmCNN("densenet121", last_stride=1)
    network = timm.create_model("resnet18")  # as one that takes the option and ignores it
    monkeypatch.setattr("reid_lab.backbone.timm_cnn.build", lambda *_: network)
    with pytest.raises(UserError, match=r"last_stride=1: the last stage of any is at 1/32"):
        TimmCNN("any", last_stride=1)


def test_chosen_stages() -> None:
    whole = TimmCNN("mobilenetv2_100", out_indices=[3, 4])
    assert whole.channels == (96, 1280) and whole.names == ("stage1", "stage2")
    smaller = TimmCNN("mobilenetv2_100", out_indices=[1, 3])
    assert smaller.channels == (24, 96)
    count = [sum(p.numel() for p in network.parameters()) for network in (smaller, whole)]
    assert count[0] < count[1] / 2  # what is behind the last exit is not there
    listed = r"1: blocks.1 at 1/4; 2: blocks.2 at 1/8; 3: blocks.4 at 1/16; 4: blocks.6 at 1/32"
    for indices in ([4, 3], [5], []):
        with pytest.raises(UserError, match=listed):
            TimmCNN("mobilenetv2_100", out_indices=indices)


def test_unknown_networks_and_those_that_cannot_be_cut() -> None:
    with pytest.raises(UserError, match=r"no such network; nearest: mobilenetv2_100"):
        TimmCNN("mobilenet_v2_100")
    with pytest.raises(UserError, match=r"no such network"):
        TimmCNN("hf-hub:someone/something")
    with pytest.raises(UserError, match=r"cannot be cut into stages: stage2 does not take what"):
        TimmCNN("hrnet_w18_small")
    with pytest.raises(UserError, match=r"stage1 makes \(1, 32, 32, 48\).*not maps \(1, C, h, w\)"):
        TimmCNN("mambaout_femto")
    with pytest.raises(UserError, match=r"does not take images of 128x128.*backbone=timm_vit"):
        TimmCNN("vit_tiny_patch16_224")
    with pytest.raises(UserError, match=r"is a Eva, no plain VisionTransformer"):
        TimmViT("eva02_tiny_patch14_224", height=112, width=56)
    with pytest.raises(UserError, match=r"patches of 16x16, images are 64x30: give multiples"):
        TimmViT("vit_tiny_patch16_224", height=64, width=30)
    with pytest.raises(UserError, match=r"groups=13: vit_tiny_patch16_224 has 12 blocks"):
        TimmViT("vit_tiny_patch16_224", groups=13)
    with pytest.raises(UserError, match=r"has no class token; give backbone.pool=mean"):
        TimmViT("vit_wee_patch16_reg1_gap_256")


class InPlace(nn.Module):
    """Adds one in place between its layers, which no hook sees."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.feature_info = [{"module": "two", "num_chs": 4, "reduction": 4}]
        self.pretrained_cfg = {"mean": MEAN, "std": STD}

    def forward_features(self, x: Tensor) -> Tensor:
        return self.two(self.one(x).add_(1))


def test_work_between_layers_is_never_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_lab.backbone.timm_cnn.build", lambda *_: InPlace())
    with pytest.raises(UserError, match="it computes between its layers"):
        TimmCNN("any")


def test_cutting_draws_no_numbers() -> None:
    torch.manual_seed(0)
    timm.create_model("mobilenetv2_100")
    expected = torch.rand(3)
    torch.manual_seed(0)
    TimmCNN("mobilenetv2_100")
    assert torch.equal(torch.rand(3), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["pth", "wrapped", "safetensors", "other classes", "no head"])
def test_local_weights(tmp_path: Path, kind: str) -> None:
    theirs = timm.create_model(
        "mobilenetv2_100", num_classes=7 if kind == "other classes" else 1000
    )
    state = theirs.eval().state_dict()
    if kind == "no head":
        state = {k: v for k, v in state.items() if not k.startswith("classifier")}
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if kind == "wrapped" else state, path)
    ours, images = TimmCNN("mobilenetv2_100", weights=path).eval(), torch.randn(1, 3, 64, 32)
    torch.testing.assert_close(ours(images), theirs.forward_features(images))


@torch.no_grad()
def test_positions_are_interpolated(tmp_path: Path) -> None:
    state = timm.create_model("vit_tiny_patch16_224").state_dict()
    torch.save(state, tmp_path / "vit.pth")
    ours = TimmViT("vit_tiny_patch16_224", tmp_path / "vit.pth", height=256, width=128)
    assert ours.stages["stage1"].stem.pos_embed.shape == (1, 16 * 8 + 1, 192)
    block = "blocks.11.mlp.fc2.weight"
    assert torch.equal(ours.stages["stage4"].blocks_11.mlp.fc2.weight, state[block])


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    with pytest.raises(WeightsError, match=r"of another network than mobilenetv2_100.*allowed are"):
        TimmCNN("mobilenetv2_100", weights=path)
    state = timm.create_model("mobilenetv2_100").state_dict()
    del state["bn2.weight"]
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"bn2\.weight"):
        TimmCNN("mobilenetv2_100", weights=path)
    with pytest.raises(WeightsError, match="no such file"):
        TimmCNN("mobilenetv2_100", weights=tmp_path / "none.pth")


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    fetch = r"\(no network\)\. Fetch model\.safetensors of .*timm/lcnet_050\.ra2_in1k where"
    with pytest.raises(WeightsError, match=fetch):
        TimmCNN("lcnet_050", weights="imagenet")
    with pytest.raises(WeightsError, match="timm has no weights of ghostnet_050"):
        TimmCNN("ghostnet_050", weights="imagenet")


def test_weights_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    state = timm.create_model("lcnet_050", num_classes=0).state_dict()
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    monkeypatch.setattr("reid_lab.backbone.timm_networks.fetched", {"lcnet_050": state}.get)
    ours = TimmCNN("lcnet_050", weights="imagenet")
    assert torch.equal(ours.stages["stage1"].conv_stem.weight, state["conv_stem.weight"])


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match=r"backbone=timm needs timm.*pip install timm"):
        TimmCNN("mobilenetv2_100")


def test_a_transformers_weights_in_our_own_checkpoint(tmp_path: Path) -> None:
    size = {"height": 64, "width": 32}
    first = TimmViT("test_vit", groups=2, **size)
    kept = {f"backbone.{key}": value for key, value in first.state_dict().items()}
    torch.save({"state_dict": kept}, tmp_path / "ours.ckpt")
    second = TimmViT("test_vit", tmp_path / "ours.ckpt", groups=2, **size)
    assert all(value.equal(first.state_dict()[k]) for k, value in second.state_dict().items())
