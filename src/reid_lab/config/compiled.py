"""`compile=true`: the parts of a method through `torch.compile`."""

from __future__ import annotations

import torch

from reid_lab.model import ReidModule

GRAPHS = 8  # graphs of one part: training, evaluation, other batch sizes, an image alone


def compile_parts(model: ReidModule) -> None:
    """Compile each of `model.compilable` in place; names in the state dict are unchanged.

    All parts share one function of torch with a limit on the number of graphs, beyond which torch
    runs uncompiled; so the limit is raised. Graphs of earlier models, such as those of a sweep's
    earlier jobs, are dropped.
    """
    torch.compiler.reset()
    limit = GRAPHS * len(model.compilable)
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, limit)
    for part in model.compilable:
        part.compile()
