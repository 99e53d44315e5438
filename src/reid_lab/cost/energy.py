"""Energy from the platform's meters: NVIDIA's NVML, or RAPL of Intel and AMD on Linux."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from reid_lab.cost.latency import Exits, wait_for

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"

Meter = Callable[[], float]  # joules since some time in the past


def find_meter(device: torch.device) -> Meter | None:
    """The energy meter of a device, idle power included; None if it has none.

    For a GPU it covers the board, for a CPU its packages without memory.
    """
    if device.type == "cuda":
        return nvml_meter(str(torch.cuda.get_device_properties(device).uuid))
    return rapl_meter() if device.type == "cpu" else None


@torch.inference_mode()
def joules_per_image(
    exits: Exits, images: Tensor, last: str, meter: Meter, seconds: float
) -> float | None:
    """Energy per image of passes up to exit `last`, over `seconds`; None without readings."""
    for name, _ in exits(images):  # warm
        if name == last:
            break
    wait_for(images.device)
    deadline = perf_counter() + seconds
    before, count = meter(), 0
    while not count or perf_counter() < deadline:
        for name, _ in exits(images):
            if name == last:
                break
        wait_for(images.device)
        count += len(images)
    spent = meter() - before
    return spent / count if spent > 0 else None


def rapl_meter(root: Path = POWERCAP) -> Meter | None:
    """A meter of all processor packages; None unless all counters can be read."""
    # intel-rapl:0:0 is a part of intel-rapl:0, and psys holds the packages again
    zones = [
        zone
        for zone in sorted(root.glob("intel-rapl:*"))
        if zone.name.count(":") == 1 and _text(zone / "name").startswith("package")
    ]
    counters = [_Counter(zone) for zone in zones if _text(zone / "energy_uj")]
    if not counters or len(counters) < len(zones):
        return None
    return lambda: sum(counter() for counter in counters)


class _Counter:
    """Joules of one zone since the counter was created; register overflows are corrected."""

    def __init__(self, zone: Path) -> None:
        self.path = zone / "energy_uj"
        self.range = int(_text(zone / "max_energy_range_uj") or 0)
        self.last, self.total = int(_text(self.path)), 0

    def __call__(self) -> float:
        now = int(self.path.read_text())
        self.total += now - self.last if now >= self.last else now - self.last + self.range
        self.last = now
        return self.total / 1e6


def _text(path: Path) -> str:
    """Content of a file; empty if it cannot be read: on many systems only root may read energy."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def nvml_meter(uuid: str, library: Any = None) -> Meter | None:
    """Meter of the GPU with this UUID; None without NVML or for GPUs before Volta."""
    try:
        nvml = library or ctypes.CDLL(NVML)
        handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        failed = nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(
            name.encode(), ctypes.byref(handle)
        )
    except (OSError, AttributeError):
        return None

    def read() -> int:
        result: int = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return result

    def joules() -> float:
        read()
        return millijoules.value / 1e3

    return None if failed or read() else joules
