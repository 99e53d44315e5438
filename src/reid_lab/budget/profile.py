"""A profile: the cost of a query at each exit on this machine, in milliseconds and joules.

`reid-lab cost --profile FILE` measures one; budgets in `latency` and `energy` are planned with it.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_lab.budget.overhead import cyclic_ids, measure_overhead
from reid_lab.budget.policies import Lookup
from reid_lab.cost.account import Effort, Subject
from reid_lab.cost.currency import UNITS, Currency, ExitCosts, Floats
from reid_lab.cost.energy import Meter, find_meter, joules_per_image
from reid_lab.cost.latency import time_exits
from reid_lab.cost.machine import conditions
from reid_lab.errors import UserError
from reid_lab.files.regular import no_file
from reid_lab.output import arguments
from reid_lab.output.arguments import check_choice, check_type, check_whole, described
from reid_lab.results.rows.cost import PROFILE, ProfileRow

PROFILE_FILE = PROFILE.file
NEEDS = ("nearest", "margin")  # features of the policy `margin`, the usual one
NO_METER = float("nan")


class ProfileError(UserError):
    """A budget in milliseconds or joules without a profile that fits."""


@dataclass(frozen=True)
class Host:
    """The host that a profile is valid for: name, device, torch's threads on the CPU."""

    machine: str
    device: str
    threads: int

    @staticmethod
    def of(device: torch.device) -> Host:
        here = conditions(device)
        return Host(platform.node(), str(here["device"]), int(here["threads"]))

    def __str__(self) -> str:
        return f"{self.machine} ({self.device}, threads={self.threads})"


def measure_profile(
    subject: Subject,
    effort: Effort,
    batches: Sequence[int],
    gallery: int,
    precision: str = "",
    meter: Meter | None = None,
) -> list[ProfileRow]:
    """One row per batch size and exit.

    Every pass runs the network exit by exit and searches a gallery at each, as a stream does in
    which no query exits early; a cost is the median over the passes. What early exit adds to that
    is measured by streams, see overhead.py.

    Args:
        subject: the network and the exits that queries may take.
        effort: its `seconds` are divided among the batch sizes; streams get the same time again.
        batches: batch sizes.
        gallery: number of images that a query is compared with.
        precision: noted in the rows.
        meter: energy meter; None takes the platform's, if it has one.
    """
    if not hasattr(subject, "counted"):
        how = "give a subject, as reid_lab.profiling.measure_costs does from a checkpoint"
        raise UserError(f"subject is {described(subject)}: {how}")
    check_whole("gallery", gallery)
    device = subject.images(1).device
    lookups = {
        name: Lookup(_embeddings(gallery, counted.dim, device), cyclic_ids(gallery))
        for name, counted in subject.counted.items()
    }
    host, meter = Host.of(device), meter or find_meter(device)
    allocator = str(conditions(device)["allocator"])
    rows = []
    for batch in batches:
        images = subject.images(batch)
        share = Effort(batch, effort.repeats, effort.seconds / len(batches))
        network, matching, passes = _milliseconds(subject, lookups, images, share)
        overhead = measure_overhead(subject, lookups, network, matching, share)
        spent = _joules(subject, lookups, images, meter, share.seconds)
        for s, (name, counted) in enumerate(subject.counted.items()):
            rows.append(
                ProfileRow(
                    exit=name,
                    batch=batch,
                    network_ms=float(network[s]),
                    matching_ms=float(matching[s]),
                    network_joules=float(spent[0][s]),
                    matching_joules=float(spent[1][s]),
                    gallery=gallery,
                    mul_adds=counted.mul_adds,
                    passes=passes,
                    machine=host.machine,
                    device=host.device,
                    threads=host.threads,
                    allocator=allocator,
                    precision=precision,
                    overhead_ms=overhead,
                )
            )
    return rows


def _milliseconds(
    subject: Subject, lookups: Mapping[str, Lookup], images: Tensor, effort: Effort
) -> tuple[Floats, Floats, int]:
    """(S,) cumulative ms of the network and (S,) ms of each search per query; number of passes."""
    query = cyclic_ids(len(images))

    def exits(images: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, rows in subject.exits(images):
            if name in lookups:  # else an exit at which no query exits
                yield f"network {name}", rows
                lookups[name].features(rows, query, NEEDS)
                yield f"matching {name}", rows

    passes = time_exits(exits, images, effort.repeats, effort.seconds)
    ends = np.array([*passes.values()]).T  # (passes, 2 S)
    steps = np.diff(ends, axis=1, prepend=0.0)
    medians = 1e3 * np.median(steps, axis=0).reshape(-1, 2) / len(images)  # (S, 2)
    return np.cumsum(medians[:, 0]), medians[:, 1], len(ends)


def _joules(
    subject: Subject,
    lookups: Mapping[str, Lookup],
    images: Tensor,
    meter: Meter | None,
    seconds: float,
) -> tuple[Floats, Floats]:
    """Like `_milliseconds`, in joules; nan without a meter."""
    nothing = np.full(len(lookups), NO_METER)
    if meter is None:
        return nothing, nothing
    query, share = cyclic_ids(len(images)), seconds / (2 * len(lookups))
    network, matching = nothing.copy(), nothing.copy()
    for s, (name, lookup) in enumerate(lookups.items()):
        rows = _embeddings(len(images), lookup.gallery.shape[1], images.device)

        def search(
            _: Tensor, name: str = name, lookup: Lookup = lookup, rows: Tensor = rows
        ) -> Iterator[tuple[str, Tensor]]:
            lookup.features(rows, query, NEEDS)
            yield name, rows

        spent = [
            joules_per_image(exits, images, name, meter, share) for exits in (subject.exits, search)
        ]
        network[s], matching[s] = (NO_METER if joules is None else joules for joules in spent)
    return np.maximum.accumulate(network), matching  # a later exit never costs less


def _embeddings(count: int, dim: int, device: torch.device) -> Tensor:
    """(N, D) noise, in which a search takes as long as in real embeddings."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, dim, generator=generator).to(device)


def write_profile(path: Path, rows: Sequence[ProfileRow]) -> None:
    """Add rows to a file; rows of the same machine and setting are replaced.

    Raises:
        StoredFileError: the file exists but is not a profile.
    """
    settings = {_setting(row) for row in rows}
    kept = [row for row in PROFILE.read(path) if _setting(row) not in settings]
    PROFILE.write(path, [*kept, *rows])


def _setting(row: ProfileRow) -> tuple[object, ...]:
    return row.machine, row.device, row.threads, row.precision, row.batch, row.gallery


def profile_beside(checkpoint: Path) -> Path:
    """Path of the profile of a checkpoint's network."""
    return checkpoint.parent / PROFILE_FILE


def read_costs(
    path: Path | str,
    currency: Currency,
    mul_adds: Mapping[str, int],
    device: torch.device,
    batch: int = 1,
    gallery: int | None = None,
    precision: str | None = None,
) -> ExitCosts:
    """The costs of the exits on this machine.

    Args:
        path: path of the profile.
        currency: `latency` or `energy`.
        mul_adds: exit -> cumulative Mul-Adds, which identify the network in the profile.
        device: device of the network.
        batch: batch size.
        gallery: number of images that a query is compared with; None takes the profile's, if it
            has a single one.
        precision: precision of the measurement; None takes any.

    Raises:
        ProfileError: no profile, or one of another machine, batch size, gallery or network;
            or no meter of energy. It names the command that measures one.
        StoredFileError: the file is malformed.
    """
    path = arguments.path("path", path)
    check_choice("currency", currency, ("latency", "energy"))
    check_type("mul_adds", mul_adds, Mapping, "a dict of exits, as of count_exits")
    fix = f"measure one here: {profile_command(path, batch, gallery)}"
    if not path.is_file():
        raise ProfileError(
            f"{path} {no_file(path)}: budgets in {UNITS[currency]} (cost={currency}) need a "
            f"profile of this machine; {fix}"
        )
    here = Host.of(device)
    rows = PROFILE.read(path)
    found = [row for row in rows if Host(row.machine, row.device, row.threads) == here]
    if not found:
        hosts = ", ".join(sorted({str(Host(r.machine, r.device, r.threads)) for r in rows}))
        raise ProfileError(f"{path} was measured on {hosts or 'no machine'}, this is {here}: {fix}")
    for what, wanted in (("batch", batch), ("gallery", gallery), ("precision", precision)):
        had = sorted({getattr(row, what) for row in found})
        found = [row for row in found if wanted in (None, getattr(row, what))]
        if not found or (what == "gallery" and wanted is None and len(had) > 1):
            raise ProfileError(
                f"{path} has {what} {', '.join(map(str, had))} on this machine, "
                f"{'one' if wanted is None else wanted} is needed: {fix}"
            )
    return _costs(path, currency, mul_adds, {row.exit: row for row in found}, fix)


def _costs(
    path: Path,
    currency: Currency,
    mul_adds: Mapping[str, int],
    rows: Mapping[str, ProfileRow],
    fix: str,
) -> ExitCosts:
    other = [n for n, count in mul_adds.items() if n not in rows or rows[n].mul_adds != count]
    if other:
        raise ProfileError(
            f"{path} is of another network or image size, exit {other[0]!r} has "
            f"{mul_adds[other[0]]:,} Mul-Adds here: {fix}"
        )
    columns = ("network_ms", "matching_ms")
    if currency == "energy":
        columns = ("network_joules", "matching_joules")
    network, matching = (np.array([getattr(rows[n], c) for n in mul_adds]) for c in columns)
    if np.isnan(network + matching).any():
        raise ProfileError(
            f"{path} has no energy: this machine has no meter that can be read (NVML of a GPU, or "
            "RAPL, which on many systems only root reads); use cost=latency or cost=mul_adds"
        )
    overhead = next(iter(rows.values())).overhead_ms if currency == "latency" else 0.0
    return ExitCosts(
        currency, tuple(mul_adds), network, matching, 0.0 if np.isnan(overhead) else overhead
    )


def profile_command(path: Path, batch: int, gallery: int | None) -> str:
    """The command that measures a profile of a checkpoint's network."""
    checkpoint = path.parent / "last.ckpt"
    source = f"--checkpoint {checkpoint}" if checkpoint.is_file() else "+experiment=NAME"
    return (
        f"reid-lab cost {source} --batch-size {max(batch, 1)} --gallery {gallery or 'IMAGES'} "
        f"--profile {path}"
    )
