"""The cost account: memory by hand, clocks and meters that are known, the allocator."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid_lab.backbone.small import SmallResNet
from reid_lab.cost import allocator, energy, machine, memory
from reid_lab.cost.account import (
    Counted,
    Effort,
    Subject,
    account,
    network_subject,
    noise,
    reference_subject,
)
from reid_lab.cost.latency import time_exits
from reid_lab.cost.memory import measure_memory
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.errors import UserError
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import Classifier, DaRe

CPU = torch.device("cpu")


class TwoExits(nn.Module):
    """8 channels, then 16; a classifier that no exit needs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 16, 1, bias=False)
        self.classifier = nn.Linear(16, 1000)

    def exits(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self.first(images)
        x = self.norm(x)
        yield "first", x.mean((2, 3))
        x = self.second(x)
        yield "second", x.flatten(1)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("inference", [False, True])
def test_memory_is_what_a_hand_counts(n: int, inference: bool) -> None:
    module = TwoExits().eval()
    images = torch.randn(n, 3, 16, 4)
    with torch.inference_mode(inference):
        found = measure_memory(module.exits, images, module)
    pixels = 4 * n * 16 * 4  # bytes of one channel
    first, second = found["first"], found["second"]
    # images; the convolution's output beside the norm's
    assert first.peak_memory_bytes == pixels * (3 + 8 + 8)
    # images; the norm's output beside the second convolution's; the first embeddings
    assert second.peak_memory_bytes == pixels * (3 + 8 + 16) + 4 * n * 8
    assert first.parameters == 3 * 8 * 9 + 8 + 2 * 8
    assert second.parameters == first.parameters + 8 * 16
    assert first.weight_bytes == 4 * (first.parameters + 2 * 8)  # running mean and variance
    assert second.weight_bytes == first.weight_bytes + 4 * 8 * 16


def test_memory_of_what_is_thrown_away_is_given_back() -> None:
    def exits(images: Tensor) -> Iterator[tuple[str, Tensor]]:
        for _ in range(5):
            rows = torch.cat([images, images]).sum((1, 2, 3))  # 2 N, again and again
        yield "sum", rows[: len(images)]

    images = torch.randn(2, 3, 8, 8)
    found = measure_memory(exits, images, nn.Module())["sum"]
    size = 4 * images.numel()
    assert size * 3 < found.peak_memory_bytes <= size * 3 + 2 * 4 * 4
    assert (found.parameters, found.weight_bytes) == (0, 0)


class FakeAllocator:
    """A GPU's: `held` bytes now, the most since the last reset, and what each exit takes."""

    def __init__(self, held: int) -> None:
        self.held, self.peak = held, 10**9

    def exits(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, scratch, kept in (("first", 500, 100), ("second", 50, 100), ("third", 900, 0)):
            self.peak = max(self.peak, self.held + kept + scratch)
            self.held += kept
            yield name, images
        self.held -= 200  # a second pass finds what the first one found

    def reset(self, device: torch.device) -> None:
        self.peak = self.held


def test_a_gpus_memory_is_above_what_was_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(1, 3, 4, 2)
    allocator = FakeAllocator(held=10_000 + 96)  # weights and images
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocator.held)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: allocator.peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", allocator.reset)
    peaks = memory._allocated(allocator.exits, images)
    assert peaks == {"first": 96 + 600, "second": 96 + 600, "third": 96 + 200 + 900}


def tiny() -> DaRe:
    return DaRe(SmallResNet(4), BatchHardTriplet(), hidden=16, dim=8)


def test_parameters_are_those_that_take_part() -> None:
    model = tiny().eval()
    found = measure_memory(model.exits, torch.randn(1, 3, 64, 32), model)
    whole = sum(p.numel() for p in model.parameters())
    assert found["fusion"].parameters == whole
    stage1 = [model.backbone.stages["stage1"], model.heads["stage1"]]
    assert found["stage1"].parameters == sum(p.numel() for m in stage1 for p in m.parameters())
    classifier = Classifier(SmallResNet(4), identities=50).eval()
    found = measure_memory(classifier.exits, torch.randn(1, 3, 64, 32), classifier)
    kept = sum(p.numel() for n, p in classifier.named_parameters() if "classifier" not in n)
    assert [m.parameters for m in found.values()] == [kept]


class Sleeper:
    """Exits after known times; counts its passes."""

    def __init__(self, *naps: float) -> None:
        self.naps, self.passes, self.batches = naps, 0, set[int]()

    def __call__(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        self.passes += 1
        self.batches.add(len(images))
        for number, nap in enumerate(self.naps):
            time.sleep(nap)
            yield f"exit{number}", torch.zeros(len(images), 2)


class Clock:
    """Stands still but for naps."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def test_latency_is_cumulative(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("reid_lab.cost.latency.perf_counter", clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    taken = time_exits(Sleeper(1, 2), torch.zeros(1), repeats=4, seconds=1000)
    assert taken == {"exit0": [1] * 4, "exit1": [3] * 4}


@pytest.mark.parametrize(
    ("repeats", "seconds", "passes"),
    [(5, 10.0, 3 + 5), (1000, 52.0, 26), (1000, 4.0, 2 + 1), (1000, 1e-9, 1 + 1)],
)
def test_time_and_repeats_are_bounded(
    monkeypatch: pytest.MonkeyPatch, repeats: int, seconds: float, passes: int
) -> None:
    clock, sleeper = Clock(), Sleeper(2 if repeats > 5 else 0)
    monkeypatch.setattr("reid_lab.cost.latency.perf_counter", clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    time_exits(sleeper, torch.zeros(1), repeats, seconds)
    assert sleeper.passes == passes


def test_every_exit_has_a_row() -> None:
    model = tiny().train()
    counts, dims = count_exits(model, 64, 32), exit_dims(model, 64, 32)
    counted = {name: Counted(counts[name], dims[name]) for name in counts}
    rows = account(
        network_subject(model, counted, (64, 32)), Effort(2, 2, 0.1), views=2, gallery=100
    )
    assert model.training
    assert [row["exit"] for row in rows] == list(model.exit_names)
    for column in ("mul_adds", "parameters", "peak_memory_bytes", "latency_p50_ms"):
        values = [row[column] for row in rows]
        assert values == sorted(values) and values[0] > 0
    last = rows[-1]
    assert last["images_per_second"] <= rows[0]["images_per_second"]
    assert (last["embedding_bytes"], last["gallery_bytes"]) == (32, 3200)
    assert last["matching_mul_adds"] == 800
    assert last["mul_adds"] == counts["fusion"] and (last["views"], last["per"]) == (2, "view")
    assert last["threads"] == torch.get_num_threads()


def test_one_view_of_an_image_is_measured() -> None:
    sleeper = Sleeper(0.001)
    subject = Subject("reference", sleeper, torch.zeros, {"exit0": Counted(0, 2)})  # type: ignore[arg-type]
    (row,) = account(subject, Effort(4, 3, 5), views=10)
    assert sleeper.batches == {1, 4}
    assert row["images_per_second"] == pytest.approx(4 / 0.001, rel=0.5)


def test_a_reference_has_no_network() -> None:
    def features(images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        return images.float().mean((2, 3))

    subject = reference_subject("mean", features, Counted(7, 3), (16, 8), CPU)
    (row,) = account(subject, Effort(2, 1, 0.1))
    assert (row["exit"], row["kind"], row["mul_adds"]) == ("mean", "reference", 7)
    unknown = ("parameters", "peak_memory_bytes", "gallery_bytes")
    assert all(math.isnan(row[name]) for name in unknown)


def test_measuring_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    assert torch.equal(noise(2, (4, 4), CPU), noise(2, (4, 4), CPU))
    assert torch.equal(before, torch.get_rng_state())


def zones(root: Path, *found: tuple[str, str, int]) -> Path:
    for zone, name, microjoules in found:
        (root / zone).mkdir(parents=True)
        (root / zone / "name").write_text(f"{name}\n")
        (root / zone / "energy_uj").write_text(f"{microjoules}\n")
        (root / zone / "max_energy_range_uj").write_text("9000000\n")
    return root


def test_rapl_adds_the_packages_and_undoes_the_wrap(tmp_path: Path) -> None:
    packages = [("intel-rapl:0", "package-0", 8_000_000), ("intel-rapl:1", "package-1", 0)]
    parts = [("intel-rapl:0:0", "core", 5), ("intel-rapl:2", "psys", 5)]
    root = zones(tmp_path, *packages, *parts)
    meter = energy.rapl_meter(root)
    assert meter is not None and meter() == 0
    (root / "intel-rapl:0" / "energy_uj").write_text("1000000")  # past 9 J, at 1 J again
    (root / "intel-rapl:1" / "energy_uj").write_text("500000")
    (root / "intel-rapl:2" / "energy_uj").write_text("5000000")
    assert meter() == pytest.approx(2.5)
    (root / "intel-rapl:0" / "energy_uj").write_text("1250000")
    assert meter() == pytest.approx(2.75)


def test_without_all_counters_there_is_no_meter(tmp_path: Path) -> None:
    assert energy.rapl_meter(tmp_path) is None
    root = zones(tmp_path, ("intel-rapl:0", "package-0", 1), ("intel-rapl:1", "package-1", 1))
    (root / "intel-rapl:1" / "energy_uj").unlink()  # as one that only root may read
    assert energy.rapl_meter(root) is None
    assert energy.find_meter(torch.device("meta")) is None


class FakeNvml:
    """A GPU that has spent 2.5 J more whenever it is asked."""

    def __init__(self, answer: int = 0) -> None:
        self.answer, self.spent, self.asked = answer, 0, b""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:  # noqa: N802
        self.asked = uuid
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, out: Any) -> int:  # noqa: N802
        self.spent += 2500
        out._obj.value = self.spent
        return self.answer


def test_nvml_tells_joules() -> None:
    nvml = FakeNvml()
    meter = energy.nvml_meter("0123-abcd", nvml)
    assert meter is not None and nvml.asked == b"GPU-0123-abcd"
    before = meter()
    assert meter() - before == pytest.approx(2.5)
    assert energy.nvml_meter("0123", FakeNvml(answer=3)) is None  # not supported
    assert energy.nvml_meter("0123", SimpleNamespace()) is None


def test_a_gpu_is_metered_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setattr("reid_lab.cost.energy.ctypes.CDLL", {energy.NVML: nvml}.__getitem__)
    uuids = {torch.device("cuda", number): SimpleNamespace(uuid=f"0-{number}") for number in (0, 1)}
    monkeypatch.setattr(torch.cuda, "get_device_properties", uuids.__getitem__)
    meter = energy.find_meter(torch.device("cuda", 1))
    assert meter is not None and nvml.asked == b"GPU-0-1"


def test_energy_is_shared_among_the_images() -> None:
    sleeper = Sleeper(0.001, 0.001)
    reads: list[int] = []

    def meter() -> float:
        reads.append(sleeper.passes)
        return 0.5 * sleeper.passes  # J

    spent = energy.joules_per_image(sleeper, torch.zeros(4), "exit0", meter, 0.02)
    assert spent == pytest.approx(0.5 / 4)
    assert reads[1] > reads[0] + 1
    assert energy.joules_per_image(sleeper, torch.zeros(4), "exit1", lambda: 1.0, 0.001) is None


@pytest.mark.parametrize(("last", "count"), [("a", 1), ("b", 2), ("c", 3)])
def test_energy_is_of_the_exits_up_to_one_in_every_pass(last: str, count: int) -> None:
    passes: list[list[str]] = []

    def exits(images: Tensor) -> Iterator[tuple[str, Tensor]]:
        passes.append([])
        for name in ("a", "b", "c"):
            passes[-1].append(name)
            yield name, images

    energy.joules_per_image(exits, torch.zeros(1), last, lambda: float(len(passes)), 0.001)
    assert len(passes) >= 2  # the first warms up
    assert all(names == ["a", "b", "c"][:count] for names in passes)


def test_a_device_that_is_not_there_is_told() -> None:
    assert machine.find_device("cpu") == CPU
    for name in ("bogus", "cuda:77"):
        with pytest.raises(UserError, match=f"{name}.*try cpu"):
            machine.find_device(name)
    assert machine.device_name(CPU)


FAULTS = """
import ctypes, resource, sys
sys.path.insert(0, {src!r})
from reid_lab.cost.allocator import allocator_name, keep_blocks
if {keep}:
    assert keep_blocks()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size = 64 << 20  # above what glibc ever takes from its heap by itself
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, allocator_name())
"""


@pytest.mark.skipif(allocator._libc_version() is None, reason="not glibc")
@pytest.mark.skipif(allocator._preloaded() is not None, reason="another allocator")
def test_kept_blocks_are_not_fetched_again() -> None:
    def faults(keep: bool) -> tuple[int, str]:
        src = str(Path(allocator.__file__).parents[2])
        command = [sys.executable, "-c", FAULTS.format(src=src, keep=keep)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={})
        count, name = done.stdout.split(maxsplit=1)
        return int(count), name.strip()

    (kept, kept_name), (fetched, name) = faults(True), faults(False)
    assert kept < 0.4 * fetched  # one round of pages instead of five
    assert kept_name.endswith("blocks kept") and not name.endswith("kept")


class FakeLibc:
    """`mallopt` of glibc 2.36, which may refuse an option."""

    def __init__(self, refused: int | None = None) -> None:
        self.refused, self.options = refused, dict[int, int]()
        self.gnu_get_libc_version = FakeVersion()

    def mallopt(self, option: int, value: int) -> int:
        self.options[option] = value
        return int(option != self.refused)


class FakeVersion:
    restype: Any = None

    def __call__(self) -> bytes:
        return b"2.36"


@pytest.mark.parametrize("refused", [None, -4, -1])
def test_blocks_are_kept_if_glibc_takes_both_options(
    monkeypatch: pytest.MonkeyPatch, refused: int | None
) -> None:
    libc = FakeLibc(refused)
    monkeypatch.setattr("reid_lab.cost.allocator.ctypes.CDLL", lambda _: libc)
    monkeypatch.setattr(allocator, "_preloaded", lambda: None)
    monkeypatch.setattr(allocator, "_kept", [])
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    assert allocator.allocator_name() == "glibc 2.36"
    assert allocator.keep_blocks() == (refused is None)
    if refused is None:  # malloc.h: M_MMAP_MAX is -4, M_TRIM_THRESHOLD is -1
        assert libc.options == {-4: 0, -1: -1}
    assert allocator.allocator_name() == "glibc 2.36" + ", blocks kept" * (refused is None)
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    assert allocator.allocator_name() == "glibc 2.36, blocks kept"


@pytest.mark.parametrize("failure", [AttributeError, OSError, TypeError])
def test_without_glibc_nothing_is_touched(
    monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    def no_library(_: object) -> None:
        raise failure

    monkeypatch.setattr("reid_lab.cost.allocator.ctypes.CDLL", no_library)
    assert not allocator.keep_blocks()
    assert allocator.allocator_name()
