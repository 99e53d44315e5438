"""Times and memory of one format in a separate process, so that formats share no threads.

python -m reid_lab.export.timed '{"kind": "export", "path": "exported", ...}'

It imports only what the format needs: torch for PyTorch and TorchScript.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np

from reid_lab.cost.allocator import allocator_name, keep_blocks
from reid_lab.errors import UserError

WARM_UP = 3  # passes that are not counted: TorchScript specialises in the first two
STATUS = Path("/proc/self/status")  # Linux
Pass = Callable[[np.ndarray, str], object]  # pixels (N, H, W, 3), exit


@dataclass(frozen=True)
class Timing:
    """The subject and length of a timing.

    Args:
        kind: a checkpoint in `pytorch`, or an `export`.
        path: the checkpoint, or the export's folder.
        image: (height, width).
        exits: names of the exits.
        batch: batch size for the throughput.
        repeats: most passes of one image and of a batch, each to each exit.
        seconds: time limit for both together; one pass of each is always run.
        threads: threads of the network.
    """

    kind: Literal["pytorch", "export"]
    path: str
    image: tuple[int, int]
    exits: tuple[str, ...]
    batch: int
    repeats: int
    seconds: float
    threads: int


@dataclass
class Timed:
    """Exit -> seconds of each pass, of one image (`single`) and of a batch (`several`).

    `memory`: peak bytes of the process up to the end of the single passes; nan if the platform does
    not report them. `allocator`: allocator of the process.
    """

    single: dict[str, list[float]] = field(default_factory=dict)
    several: dict[str, list[float]] = field(default_factory=dict)
    memory: float = math.nan
    allocator: str = ""

    def add(self, other: Timed) -> None:
        """Add the passes of another round; memory is the maximum."""
        for ours, theirs in ((self.single, other.single), (self.several, other.several)):
            for exit, seconds in theirs.items():
                ours.setdefault(exit, []).extend(seconds)
        self.memory = float(np.fmax(self.memory, other.memory))
        self.allocator = other.allocator


def in_process(timing: Timing) -> Timed:
    """Run a timing in a new process.

    Raises:
        UserError: the process failed.
    """
    words = [sys.executable, "-m", "reid_lab.export.timed", json.dumps(asdict(timing))]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        last = next(iter(done.stderr.strip().splitlines()[-1:]), f"status {done.returncode}")
        raise UserError(f"{timing.path} cannot be timed: {last}")
    return Timed(**json.loads(done.stdout.splitlines()[-1]))


def measured(timing: Timing) -> Timed:
    """Run a timing in this process: first single images, then batches; all exits in turns."""
    keep_blocks()
    one_pass = _torchs(timing) if timing.kind == "pytorch" else _exported(timing)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (timing.batch, *timing.image, 3), np.uint8)
    single = _passes(one_pass, timing, pixels[:1])
    memory = peak_bytes()
    return Timed(single, _passes(one_pass, timing, pixels), memory, allocator_name())


def _passes(one_pass: Pass, timing: Timing, pixels: np.ndarray) -> dict[str, list[float]]:
    for _ in range(WARM_UP):
        _pass(one_pass, timing.exits, pixels)
    deadline = perf_counter() + timing.seconds / 2
    passes = [_pass(one_pass, timing.exits, pixels)]
    while len(passes) < timing.repeats and perf_counter() < deadline:
        passes.append(_pass(one_pass, timing.exits, pixels))
    return {exit: [one[i] for one in passes] for i, exit in enumerate(timing.exits)}


def _pass(one_pass: Pass, exits: Sequence[str], pixels: np.ndarray) -> list[float]:
    """Seconds to each exit, each from the pixels."""
    taken = []
    for exit in exits:
        start = perf_counter()
        one_pass(pixels, exit)
        taken.append(perf_counter() - start)
    return taken


def _exported(timing: Timing) -> Pass:
    from reid_lab.runtime.model import Model

    model = Model(timing.path, timing.threads)
    return lambda pixels, exit: model.embed(pixels, [exit])


def _torchs(timing: Timing) -> Pass:
    import torch

    from reid_lab.checkpoint import load_model

    torch.set_num_threads(timing.threads)
    method = load_model(timing.path)

    def one_pass(pixels: np.ndarray, exit: str) -> object:
        with torch.inference_mode():
            images = method.prepared(torch.from_numpy(pixels))
            return next(rows for name, rows in method.exits(images) if name == exit)

    return one_pass


def peak_bytes() -> float:
    """Peak memory of this process; nan if the platform does not report it.

    `getrusage` is not used: on Linux its peak is the parent's at first.
    """
    if not STATUS.is_file():
        return math.nan
    peaks = [line.split() for line in STATUS.read_text().splitlines() if "VmHWM" in line]
    return float(peaks[0][1]) * 1024 if peaks else math.nan


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(asdict(measured(Timing(**given)))))
