"""Engines that run one file of an export: onnxruntime, OpenVINO, TorchScript or LiteRT."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from zipfile import ZipFile

import numpy as np

from reid_lab.files.strict_json import MOST_BYTES
from reid_lab.optional import load
from reid_lab.runtime.manifest import FileFormat

FACTS = "reid_lab"  # key of the manifest's facts in a file
FACTS_FILE = "reid_lab.json"  # file in the ZIP archive at the end of a `.tflite` file


class Engine(Protocol):
    """A network that is ready to run.

    Attributes:
        facts: key -> text, as written by the export.
        shapes: input -> its axes, for inputs whose shape is in the file; text stands for any size.
    """

    facts: Mapping[str, str]
    shapes: Mapping[str, Sequence[Any]]

    def run(self, names: Sequence[str], given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run on the inputs `given`, images along axis 0; return the outputs `names`."""


class OnnxEngine:
    """An `.onnx` file in onnxruntime.

    Args:
        threads: threads per operator; 0 takes all cores.
        providers: execution providers; the first available one is used.
    """

    def __init__(self, path: Path, threads: int, providers: Sequence[str]) -> None:
        onnxruntime = load("onnxruntime", path.name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # fatal: errors are raised
        self.session = onnxruntime.InferenceSession(str(path), options, providers=[*providers])
        self.facts: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.shapes: Mapping[str, Sequence[Any]] = {
            given.name: given.shape for given in self.session.get_inputs()
        }

    def run(self, names: Sequence[str], given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = self.session.run(list(names), dict(given))
        return found


class OpenvinoEngine:
    """An `.xml` file, with its weights in a `.bin` beside it, in OpenVINO on the CPU.

    Operations that are not INT8 run in float32, even if the processor is faster in bfloat16.

    Args:
        threads: 0 takes all cores.
    """

    def __init__(self, path: Path, threads: int, _: Sequence[str]) -> None:
        openvino = load("openvino", path.name)
        network = openvino.Core().read_model(str(path), str(path.with_suffix(".bin")))
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        settings |= {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
        with keep_signal_stack():
            compiled = openvino.compile_model(network, "CPU", settings)
        rows = network.get_rt_info(FACTS).value if network.has_rt_info(FACTS) else {}
        self.facts: Mapping[str, str] = {key: str(value) for key, value in rows.items()}
        self.shapes: Mapping[str, Sequence[Any]] = {
            port.any_name: [_length(axis) for axis in port.partial_shape] for port in network.inputs
        }
        self._outputs = {name: port for port in compiled.outputs for name in port.names}
        self._request = compiled.create_infer_request()
        self._one = threading.Lock()  # a request runs one batch at a time

    def run(self, names: Sequence[str], given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with self._one:
            found = self._request.infer(dict(given), share_outputs=False)
            return [found[self._outputs[name]] for name in names]


class SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """Restore the thread's alternate signal stack afterwards.

    OpenVINO's CPU plugin sets a stack for each network and restores the previous one when the
    network is freed, in any order: a freed stack may remain set, and the next signal kills the
    process.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc, before = ctypes.CDLL(None), SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


class TorchscriptEngine:
    """A `.pt` file in libtorch. It can run any code: open only files that you trust.

    Args:
        threads: torch's threads in this process; 0 leaves the setting unchanged.
    """

    def __init__(self, path: Path, threads: int, _: Sequence[str]) -> None:
        self.torch = load("torch", path.name)
        kept = {FACTS: ""}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises torch.export, which this is beside
            self.module = self.torch.jit.load(str(path), "cpu", _extra_files=kept)
        if threads:
            self.torch.set_num_threads(threads)
        self.facts: Mapping[str, str] = json.loads(kept[FACTS])
        self.shapes: Mapping[str, Sequence[Any]] = {}
        self._inputs, self._outputs = (json.loads(self.facts[k]) for k in ("inputs", "outputs"))

    def run(self, names: Sequence[str], given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with self.torch.inference_mode():
            rows = self.module(*(self.torch.from_numpy(given[name]) for name in self._inputs))
        found = dict(zip(self._outputs, rows, strict=True))
        return [found[name].numpy() for name in names]


class TfliteEngine:
    """A `.tflite` file in LiteRT on the CPU, one image after the other.

    A TFLite graph has the fixed shapes of one image: LiteRT cannot resize it if a reshape has fixed
    shapes, too.

    Args:
        threads: 0 takes all cores.
    """

    def __init__(self, path: Path, threads: int, _: Sequence[str]) -> None:
        litert = load("ai_edge_litert.interpreter", path.name)
        with ZipFile(path) as archive:
            if archive.getinfo(FACTS_FILE).file_size > MOST_BYTES:
                raise ValueError(f"{FACTS_FILE} has more than {MOST_BYTES} bytes")
            self.facts: Mapping[str, str] = json.loads(archive.read(FACTS_FILE))
        inputs, outputs = (json.loads(self.facts[k]) for k in ("inputs", "outputs"))
        # litert-torch's names
        self._inputs = {name: f"args_{i}" for i, name in enumerate(inputs)}
        self._outputs = {name: f"output_{i}" for i, name in enumerate(outputs)}
        network = litert.Interpreter(str(path), num_threads=threads or os.cpu_count())
        self._run = network.get_signature_runner()
        there = self._run.get_input_details()
        self.shapes: Mapping[str, Sequence[Any]] = {
            name: there[own]["shape"].tolist() for name, own in self._inputs.items()
        }
        self._one = threading.Lock()  # an interpreter runs one image at a time

    def run(self, names: Sequence[str], given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        images = range(len(next(iter(given.values()))))
        with self._one:
            found = [
                self._run(**{own: given[name][i : i + 1] for name, own in self._inputs.items()})
                for i in images
            ]
        return [np.concatenate([rows[self._outputs[name]] for rows in found]) for name in names]


def _length(axis: Any) -> Any:
    return axis.get_length() if axis.is_static else str(axis)


ENGINES: dict[FileFormat, Callable[[Path, int, Sequence[str]], Engine]] = {
    "onnx": OnnxEngine,
    "openvino": OpenvinoEngine,
    "torchscript": TorchscriptEngine,
    "tflite": TfliteEngine,
}
