"""`compile=true`: the parts of a method through `torch.compile`."""

from __future__ import annotations

import torch

from reid_lab.model import ReidModule

GRAPHS = 8  # of one part: training, evaluation, other batch sizes, an image alone


def compile_parts(model: ReidModule) -> None:
    """Compile each of `model.compilable` in place; names in its state dict stay as they are.

    All parts are called through one function of torch, whose limit of graphs holds for all of
    them together: it is raised, since torch runs what is beyond it uncompiled. Graphs of models
    that were compiled before, such as those of a sweep's earlier jobs, are dropped.
    """
    torch.compiler.reset()
    limit = GRAPHS * len(model.compilable)
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, limit)
    for part in model.compilable:
        part.compile()
