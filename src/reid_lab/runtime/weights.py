"""List the files from which an ONNX file reads weights, before onnxruntime opens it.

Older releases of onnxruntime follow any path. To avoid a dependency on onnx, the few fields are
parsed here, by their numbers in onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator

# message -> field -> the message in it, for those that lead to a tensor's external data
MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
DEEPEST = 100  # depth of nested messages, the limit of protobuf
FIXED = {1: 8, 5: 4}  # wire type -> bytes


def weight_files(data: bytes) -> set[str]:
    """The locations that an ONNX model names, relative to its own folder.

    Raises:
        ValueError: the bytes are not a protobuf message.
    """
    found = {_location(entry) for entry in _messages(memoryview(data), "model", DEEPEST)}
    return found - {""}


def _messages(data: memoryview, kind: str, depth: int) -> Iterator[memoryview]:
    """All `entry` messages (a key and a value) below."""
    if not depth:
        raise ValueError("messages are nested too deeply")
    for number, value in _fields(data):
        inner = MESSAGES[kind].get(number)
        if inner == "entry":
            yield value
        elif inner is not None:
            yield from _messages(value, inner, depth - 1)


def _location(entry: memoryview) -> str:
    """The value of a `location` entry; empty for other entries."""
    found = {number: bytes(value).decode() for number, value in _fields(entry)}
    return found.get(2, "") if found.get(1) == "location" else ""


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and value of the fields of a message that hold bytes."""
    offset = 0
    while offset < len(data):
        key, offset = _varint(data, offset)
        wire = key & 7
        if wire == 0:
            _, offset = _varint(data, offset)
            continue
        size = FIXED.get(wire)
        if wire == 2:
            size, offset = _varint(data, offset)
        if size is None or offset + size > len(data):
            raise ValueError("not a protobuf message")
        if wire == 2:
            yield key >> 3, data[offset : offset + size]
        offset += size


def _varint(data: memoryview, offset: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(data):
            break
        byte, offset = data[offset], offset + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
    raise ValueError("not a protobuf message")
