"""The conditions of a measurement: device, threads, allocator."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from reid_lab.cost.allocator import allocator_name
from reid_lab.errors import UserError, first_line, with_options

CPU_INFO = Path("/proc/cpuinfo")


def find_device(name: str | torch.device) -> torch.device:
    """The device of that name; `auto` takes a GPU if there is one.

    Raises:
        UserError: no device has that name, or it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if not isinstance(name, (str, torch.device)):
            raise RuntimeError
        torch.device(name)
    except RuntimeError:
        fix = "try cpu, cuda (cuda:1 is the second GPU) or auto"
        unknown = UserError(f"device={name!r}: {fix}")
        raise with_options(unknown, f"--device {name}: {fix}") from None
    try:
        found = torch.zeros(1, device=name)
        found.cpu()  # fails on meta
        return found.device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise UserError(f"device {str(name)!r} cannot be used ({reason}): try cpu") from error


def conditions(device: torch.device) -> dict[str, str | int]:
    """The device's name, torch's threads on the CPU, the CPU's allocator."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "allocator": allocator_name(),
    }


def device_name(device: torch.device) -> str:
    """The vendor's name of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
