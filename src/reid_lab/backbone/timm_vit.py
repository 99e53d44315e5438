"""Vision transformers (Dosovitskiy et al., ICLR 2021) of timm, in groups of blocks."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.timm_networks import Renormalise, build, load_ours
from reid_lab.errors import UserError
from reid_lab.optional import load
from reid_lab.types import Count, Side


class TokenStem(nn.Module):
    """Images (N, 3, H, W) -> tokens (N, T, D) with their position: class, registers, patches."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.normalise = Renormalise.of(network)
        self.patch_embed = network.patch_embed
        self.cls_token, self.reg_token = network.cls_token, network.reg_token
        self.pos_embed = network.pos_embed
        self.patches_only = network.no_embed_class  # the others have no position
        self.after = nn.Sequential(network.pos_drop, network.patch_drop)
        self.norm_pre = network.norm_pre

    def forward(self, images: Tensor) -> Tensor:
        x = images if self.normalise is None else self.normalise(images)
        x = self.patch_embed(x)  # (N, patches, D)
        if self.patches_only:
            x = x + self.pos_embed
        first = [t for t in (self.cls_token, self.reg_token) if t is not None]
        x = torch.cat([*(t.expand(x.shape[0], -1, -1) for t in first), x], 1)
        if not self.patches_only:
            x = x + self.pos_embed
        tokens: Tensor = self.norm_pre(self.after(x))
        return tokens


class TimmViT(Backbone):
    """A plain vision transformer of timm; a stage is a group of its blocks and passes on tokens.

    The maps of a stage are a single pixel (N, D, 1, 1): its class token or the mean of its patches,
    behind the network's last norm, which all stages share.

    Args:
        name: name of a network in timm, with or without the tag of its weights.
        weights: `imagenet` for timm's weights of this name and tag, None for scratch, or the path
            of a state dict of timm's network or of a checkpoint of ours with this backbone.
            Position embeddings are interpolated to the image's size.
        groups: number of stages; their numbers of blocks differ by at most one.
        pool: `class` token, or `mean` of the patches.
        height, width: size of the images in pixels, multiples of the patch size.

    Raises:
        UserError: unknown network, one of another kind, or a size that does not fit.
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        name: str = "vit_small_patch16_224",
        weights: str | Path | None = None,
        groups: Count = 4,
        pool: Literal["class", "mean"] = "class",
        height: Side = 256,
        width: Side = 128,
    ) -> None:
        network = build("backbone=timm_vit", name, weights, {"img_size": (height, width)})
        _check(name, network, groups, pool, (height, width))
        blocks = [(f"blocks_{number}", block) for number, block in enumerate(network.blocks)]
        stages: dict[str, nn.Module] = {}
        for s in range(groups):
            first, stop = s * len(blocks) // groups, (s + 1) * len(blocks) // groups
            parts = [("stem", TokenStem(network))] if s == 0 else []
            stages[f"stage{s + 1}"] = nn.Sequential(OrderedDict([*parts, *blocks[first:stop]]))
        super().__init__(stages, (network.embed_dim,) * groups)
        # a norm behind the mean, or in front of it
        self.norm_last = isinstance(network.norm, nn.Identity)
        self.norm = network.fc_norm if self.norm_last else network.norm
        self.pool, self.first_patch = pool, network.num_prefix_tokens
        load_ours(self, weights)

    def maps(self, name: str, x: Tensor) -> Tensor:
        """Tokens (N, T, D) -> (N, D, 1, 1)."""
        if self.pool == "class":
            vectors = self.norm(x[:, 0])
        elif self.norm_last:
            vectors = self.norm(x[:, self.first_patch :].mean(1))
        else:
            vectors = self.norm(x)[:, self.first_patch :].mean(1)
        maps: Tensor = vectors[:, :, None, None]
        return maps


def _check(name: str, network: Any, groups: int, pool: str, size: tuple[int, int]) -> None:
    """Check that a network of timm is a plain ViT and fits the settings.

    Raises:
        UserError: they do not.
    """
    plain = load("timm.models.vision_transformer", "backbone=timm_vit").VisionTransformer
    if type(network) is not plain or network.pos_embed is None:
        raise UserError(
            f"backbone.name={name} is a {type(network).__name__}, no plain VisionTransformer with "
            "a position embedding; choose one such as vit_small_patch16_224, deit_tiny_patch16_224 "
            "or vit_small_patch14_dinov2, or backbone=timm for CNNs"
        )
    patch = tuple(network.patch_embed.patch_size)
    if size[0] % patch[0] or size[1] % patch[1]:
        raise UserError(
            f"backbone.name={name} has patches of {patch[0]}x{patch[1]}, images are {size[0]}x"
            f"{size[1]}: give multiples as dataset.transforms.height and width"
        )
    depth = len(network.blocks)
    if groups > depth:
        raise UserError(
            f"backbone.groups={groups}: {name} has {depth} blocks; allowed: 1 to {depth}"
        )
    if pool == "class" and network.cls_token is None:
        raise UserError(f"backbone.pool=class: {name} has no class token; give backbone.pool=mean")
