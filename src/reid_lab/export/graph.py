"""ONNX graphs: cut them into stages, set metadata, write files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import onnx

from reid_lab.export.trace import StepNames
from reid_lab.runtime.manifest import DATA, PIXELS

LARGEST = 2**31 - 2**20  # bytes of one protobuf; larger weights lie beside it


def whole(graph: onnx.ModelProto, plans: Sequence[StepNames]) -> onnx.ModelProto:
    """The whole graph, with only the exits as outputs."""
    return cut(graph, (PIXELS,), [plan.exit for plan in plans])


def chain(graph: onnx.ModelProto, plans: Sequence[StepNames]) -> list[onnx.ModelProto]:
    """One graph per step, which reads the outputs of the steps before it.

    Its outputs are its exit and the values that later steps read.
    """
    there = [PIXELS]
    stages = []
    for plan in plans:
        stages.append(cut(graph, there, plan.names, _first(plan.before, there)))
        there += plan.names
    read: set[str] = set()
    for plan, stage in zip(reversed(plans), reversed(stages), strict=True):
        _keep(stage.graph.output, {*read, plan.exit})
        read.update(inputs_of(stage))
    return stages


def cut(
    graph: onnx.ModelProto, there: Collection[str], wanted: Sequence[str], images: str = PIXELS
) -> onnx.ModelProto:
    """The part of a graph that computes `wanted` from the tensors `there`.

    Args:
        images: tensor with the images along axis 0, to avoid reading pixels only for their number.
    """
    made_by = {name: node for node in graph.graph.node for name in node.output}
    needed: set[str] = set()
    ahead = list(wanted)
    while ahead:
        name = ahead.pop()
        if name not in needed:
            needed.add(name)
            if name in made_by and (name in wanted or name not in there):
                node = made_by[name]
                ahead += [images] if _counts(node) else _reads(node)
    part = onnx.ModelProto()
    part.CopyFrom(graph)
    nodes = [n for n in graph.graph.node if not needed.isdisjoint(n.output)]
    own = [n for n in nodes if any(o in wanted or o not in there for o in n.output)]
    del part.graph.node[:], part.graph.input[:]
    part.graph.node.extend(own)
    for node in part.graph.node:
        if _counts(node):
            node.input[0] = images
    shapes = {v.name: v for v in (*graph.graph.input, *graph.graph.value_info, *graph.graph.output)}
    part.graph.input.extend(shapes[name] for name in there if name in needed)
    _keep(part.graph.output, set(wanted))
    _keep(part.graph.initializer, needed)
    _keep(part.graph.value_info, needed - {*there, *wanted})
    return part


def inputs_of(model: onnx.ModelProto) -> tuple[str, ...]:
    return tuple(value.name for value in model.graph.input)


def outputs_of(model: onnx.ModelProto) -> tuple[str, ...]:
    return tuple(value.name for value in model.graph.output)


def describe(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Set `metadata_props`."""
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write one file; weights beyond protobuf's limit of two gigabytes are beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = model.ByteSize() > LARGEST
    onnx.save(model, path, save_as_external_data=large, location=f"{path.name}{DATA}")


def _first(names: Sequence[str], there: Sequence[str]) -> str:
    return next((name for name in names if name in there), PIXELS)


def _counts(node: onnx.NodeProto) -> bool:
    """Whether a node reads only the number of images from the pixels."""
    ends = {a.name: a.i for a in node.attribute}
    alone = node.op_type == "Shape" and list(node.input) == [PIXELS]
    return alone and ends.get("start", 0) == 0 and ends.get("end") == 1


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The inputs of a node, including those of its inner graphs."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for one in inner.node:
                yield from _reads(one)


def _keep(values: object, names: set[str]) -> None:
    for value in [value for value in values if value.name not in names]:  # type: ignore[attr-defined]
        values.remove(value)  # type: ignore[attr-defined]
