"""Make golden.npz again: embeddings of other toolboxes' networks with drawn weights.

Each network gets weights drawn key by key (`drawn.py`) and embeds four drawn images. The file keeps
the names and shapes of its tensors and the embeddings, so that the tests need no other toolbox.

    git clone https://github.com/KaiyangZhou/deep-person-reid    # commit f8cd150
    git clone https://github.com/JDAI-CV/fast-reid               # commit c9bc3ce
    pip install --target libs yacs termcolor tabulate
    PYTHONPATH=.:libs:fast-reid \\
        python tests/backbone/weights/make_golden.py deep-person-reid fast-reid
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.backbone.weights.drawn import drawn_images, drawn_weights

GOLDEN = Path(__file__).with_name("golden.npz")
SMALL, HACNN = (64, 32), (160, 64)
TORCHREID = {  # our name -> its module and function, the number of classes, the image
    "osnet_x1_0": ("osnet", "osnet_x1_0", 751, SMALL),
    "osnet_x0_75": ("osnet", "osnet_x0_75", 751, SMALL),
    "osnet_x0_5": ("osnet", "osnet_x0_5", 751, SMALL),
    "osnet_x0_25": ("osnet", "osnet_x0_25", 751, SMALL),
    "osnet_ibn_x1_0": ("osnet", "osnet_ibn_x1_0", 702, SMALL),
    "osnet_ain_x0_25": ("osnet_ain", "osnet_ain_x0_25", 1041, SMALL),
    "resnet50": ("resnet", "resnet50", 751, SMALL),
    "resnet50_fc512": ("resnet", "resnet50_fc512", 751, SMALL),
    "resnet50_ibn_a": ("resnet_ibn_a", "resnet50_ibn_a", 751, SMALL),
    "mobilenetv2_x1_0": ("mobilenetv2", "mobilenetv2_x1_0", 751, SMALL),
    "hacnn": ("hacnn", "HACNN", 751, HACNN),
}
FASTREID = {  # our name -> with IBN, embedding dim, pooling, the image
    "fastreid_r50": (False, 0, "GlobalAvgPool", SMALL),
    "fastreid_r50_ibn": (True, 0, "GlobalAvgPool", SMALL),
    "fastreid_r50_dim": (False, 256, "GeneralizedMeanPoolingP", SMALL),
}


def main(torchreid: Path, fastreid: Path) -> None:
    content: dict[str, np.ndarray] = {}
    shapes: dict[str, dict[str, list[int]]] = {}
    networks: dict[str, tuple[nn.Module, tuple[int, int]]] = {}
    for name, (module, function, classes, size) in TORCHREID.items():
        networks[f"torchreid_{name}"] = (_torchreid(torchreid, module, function, classes), size)
    for name, (ibn, dim, pool, size) in FASTREID.items():
        networks[name] = (_fastreid(fastreid, ibn, dim, pool), size)
    for name, (network, size) in networks.items():
        own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        network.load_state_dict(drawn_weights(own))
        with torch.no_grad():
            content[name] = network.eval()(drawn_images(*size)).numpy()
        shapes[name] = {key: list(shape) for key, shape in own.items()}
        print(name, content[name].shape, np.abs(content[name]).max())
    np.savez_compressed(GOLDEN, shapes=np.array(json.dumps(shapes)), **content)


def _torchreid(root: Path, module: str, function: str, classes: int) -> nn.Module:
    loaded = _module(f"torchreid_{module}", root / "torchreid" / "models" / f"{module}.py")
    options: dict[str, Any] = {"num_classes": classes, "loss": "softmax"}
    options |= {"use_gpu": False} if function == "HACNN" else {"pretrained": False}
    result: nn.Module = getattr(loaded, function)(**options)
    return result


def _fastreid(root: Path, ibn: bool, dim: int, pool: str) -> nn.Module:
    """Its backbone and head, as its configs bagtricks_R50 and sbs_R50 build them."""
    for name in ("fastreid", "fastreid.modeling", "fastreid.modeling.heads"):
        package = types.ModuleType(name)  # their own import far more than is needed
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules.setdefault(name, package)
    from fastreid.modeling.backbones.resnet import Bottleneck, ResNet
    from fastreid.modeling.heads.embedding_head import EmbeddingHead

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = ResNet(
                1, "BN", ibn, False, False, Bottleneck, [3, 4, 6, 3], [0, 0, 0, 0]
            )
            self.heads = EmbeddingHead(
                feat_dim=2048,
                embedding_dim=dim,
                num_classes=751,
                neck_feat="after",
                pool_type=pool,
                cls_type="Linear",
                scale=1,
                margin=0,
                with_bnneck=True,
                norm_type="BN",
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.heads(self.backbone(x))
            return result

    return Network()


def _module(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
