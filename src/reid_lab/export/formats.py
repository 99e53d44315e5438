"""A network in several formats: accuracies and costs as rows of the tables."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from reid_lab.cost.account import UNKNOWN, matching
from reid_lab.cost.machine import device_name
from reid_lab.cost.memory import measure_memory
from reid_lab.dataset import ReidDataModule
from reid_lab.export.timed import Timed, Timing, in_process
from reid_lab.files.atomic import write_text
from reid_lab.model import ReidModule
from reid_lab.results import CONFIG, RESULTS, Results, Summary, results_of
from reid_lab.results.provenance import provenance
from reid_lab.results.rows.accuracy import ExitRow
from reid_lab.results.rows.cost import CostRow
from reid_lab.runtime.manifest import Manifest

ROUNDS = 3  # the formats are timed in turns, so that other load on the machine affects all
# of an export, whose tensors are not seen; its weights are in `file_bytes`
UNSEEN = {"weight_bytes": UNKNOWN, "peak_memory_bytes": UNKNOWN}
SCORES = "scores"  # one folder per format, which `reid-lab frontier` reads as it does a run's


@dataclass
class Format:
    """A network in one format.

    Args:
        name: `pytorch`, `onnx`, `openvino int8`, ...
        path: the checkpoint, or the export's folder.
        manifest: manifest of an export; None for a checkpoint.
        difference: exit -> largest difference from PyTorch, absolute and relative.
        exits: accuracies per exit, if a data set is given.
        more: more entries of its manifest.
    """

    name: str
    path: Path
    manifest: Manifest | None = None
    difference: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    exits: list[ExitRow] = field(default_factory=list)
    cost: list[CostRow] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def file_format(self) -> str:
        return self.manifest.file_format if self.manifest else "pytorch"

    @property
    def precision(self) -> str:
        return self.manifest.precision if self.manifest else "float32"


@dataclass(frozen=True)
class TimingPlan:
    """How a format is timed.

    Args:
        batch: batch size for the throughput.
        repeats: passes of one image and of a batch in each round.
        seconds: time limit for all rounds of a format.
        threads: threads of the network.
    """

    batch: int
    repeats: int
    seconds: float
    threads: int


def add_costs(
    formats: Sequence[Format], method: ReidModule, manifest: Manifest, plan: TimingPlan
) -> None:
    """Time the formats in turns; each gets one row per exit.

    Raises:
        UserError: a format cannot be run.
    """
    from reid_lab.export.files import sizes_of  # takes onnx

    timed = {f.name: Timed() for f in formats}
    for _ in range(ROUNDS):
        for f in formats:
            timing = Timing(
                "export" if f.manifest else "pytorch",
                str(f.path),
                manifest.preprocessing.image,
                manifest.names,
                plan.batch,
                plan.repeats,
                plan.seconds / ROUNDS,
                plan.threads,
            )
            timed[f.name].add(in_process(timing))
    counted = _counted(method, manifest)
    for f in formats:
        sizes: Mapping[str, float] = sizes_of(f.path, f.manifest) if f.manifest else {}
        f.cost = [
            CostRow(
                **counted[e.name] | ({} if f.manifest is None else UNSEEN),
                **matching(e.dim, None),
                **_times(timed[f.name], e.name, plan),
                exit=e.name,
                kind="exit",
                mul_adds=e.mul_adds,
                format=f.file_format,
                precision=f.precision,
                file_bytes=sizes.get(e.name, UNKNOWN),
                process_bytes=timed[f.name].memory,
            )
            for e in manifest.exits
        ]


def _counted(method: ReidModule, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Exit -> parameters, bytes of weights and peak memory of one image, in PyTorch."""
    size = manifest.preprocessing.image
    images = method.prepared(torch.zeros(1, *size, 3, dtype=torch.uint8))
    found = measure_memory(method.exits, images, method)
    return {name: asdict(memory) for name, memory in found.items()}


def _times(timed: Timed, exit: str, plan: TimingPlan) -> dict[str, Any]:
    single, several = torch.tensor(timed.single[exit]), torch.tensor(timed.several[exit])
    p50, p95 = (1e3 * single.quantile(torch.tensor([0.5, 0.95]))).tolist()
    return {
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "images_per_second": plan.batch / float(several.median()),
        "repeats": len(single),
        "batch_repeats": len(several),
        "joules_per_image": UNKNOWN,
        "batch": plan.batch,
        "views": 1,
        "per": "view",
        "device": device_name(torch.device("cpu")),
        "threads": plan.threads,
        "allocator": timed.allocator,
    }


def write_scores(
    folder: Path, formats: Sequence[Format], checkpoint: Path, data: ReidDataModule, config: str
) -> None:
    """Write the results of each format like those of a test of the checkpoint, for the frontier.

    Args:
        folder: folder of the export; results are written to `scores/NAME/results/`.
        config: config of the test, as YAML.
    """
    counts: dict[str, Any] = {"name": data.benchmark.name, **data.benchmark.counts()}
    run = Summary.read(results_of(checkpoint.parent.parent)).name or checkpoint.stem
    for f in formats:
        room = folder / SCORES / f.name.replace(" ", "-") / RESULTS
        room.mkdir(parents=True)
        write_text(room / CONFIG, config)
        Results(exits=f.exits, cost=f.cost).write(room)
        Summary(
            name=f"{run} {f.name}",
            task="test",
            **provenance() | {"command": shlex.join(["reid-lab", *sys.argv[1:]])},
            dataset=counts,
            mul_adds={e.name: e.mul_adds for e in f.exits},
            protocol=asdict(data.benchmark.protocol),
        ).write(room)
