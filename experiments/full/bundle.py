"""Pack wheels, code, data and weights for a machine without a network, in parts."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reid_lab.errors import UserError
from reid_lab.files.atomic import write_bytes, write_text
from reid_lab.results.provenance import commit

ROOT = Path(__file__).parents[2]
START = Path(__file__).with_name("start.py")
UNNEEDED = ("wandb", "faiss-cpu", "botorch")  # only pla_search needs botorch
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")
MIB = 2**20
PARTS = "parts.json"


def bundle(
    out: Path,
    overrides: Sequence[str],
    weights: Mapping[str, Path],
    part_mib: int,
    python: str,
    have: Sequence[str],
) -> None:
    """Write the parts of a tar (wheels, experiments, data, weights), their digests, and `start.py`.

    Args:
        overrides: config overrides of the runs; `dataset.root` is the data set to pack.
        part_mib: size of a part, in MiB.
        python: Python version of the other machine, such as 3.12; it runs Linux on x86-64.
        have: packages installed there; their dependencies are assumed to be installed, too.

    Raises:
        UserError: no data set is given, or a package cannot be downloaded.
    """
    root = data_root(overrides)
    others = [item for item in overrides if not item.startswith("dataset.root=")]
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part.*"):
        old.unlink()
    files = list(dict.fromkeys(weights.values()))  # several studies may have the same
    names = {path: f"weights/{number}{path.suffix}" for number, path in enumerate(files)}
    with TemporaryDirectory(dir=out) as folder:
        wheels = collect_wheels(Path(folder), python, have)
        writer = PartWriter(out, part_mib * MIB)
        with tarfile.open(fileobj=writer, mode="w|gz") as tar:  # type: ignore[call-overload]
            for wheel in wheels:
                tar.add(wheel, f"wheels/{wheel.name}")
            tar.add(ROOT / "experiments", "experiments", filter=_without_caches)
            for path in files:
                tar.add(path, names[path])
            tar.add(root, "data")
        parts = writer.end()
    packed = {study: names[path] for study, path in weights.items()}
    manifest = {"commit": commit(), "overrides": others, "weights": packed, "parts": parts}
    write_text(out / PARTS, json.dumps(manifest, indent=1) + "\n")
    shutil.copyfile(START, out / START.name)
    size = sum(int(part["bytes"]) for part in parts.values()) / MIB
    print(f"{out}: {len(parts)} parts, {size:.0f} MiB, {len(wheels)} wheels")
    print(f"On the other machine run: python {START.name}")


def data_root(overrides: Sequence[str]) -> Path:
    """The folder of the last `dataset.root=` among the overrides."""
    roots = [item.partition("=")[2] for item in overrides if item.startswith("dataset.root=")]
    if not roots or not Path(roots[-1]).expanduser().is_dir():
        raise UserError("give dataset.root=DIR with an existing folder: the data set to pack")
    return Path(roots[-1]).expanduser()


class PartWriter:
    """A writable file that is split into `part.000`, `part.001`, ... of `size` bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.pending = bytearray()
        self.parts: dict[str, dict[str, str | int]] = {}

    def write(self, data: bytes) -> int:
        self.pending += data
        while len(self.pending) >= self.size:
            self._put(self.size)
        return len(data)

    def end(self) -> dict[str, dict[str, str | int]]:
        """Write the last part; returns the size and SHA-256 of each part."""
        if self.pending:
            self._put(len(self.pending))
        return self.parts

    def _put(self, size: int) -> None:
        name, data = f"part.{len(self.parts):03}", bytes(self.pending[:size])
        del self.pending[:size]
        write_bytes(self.folder / name, data)
        self.parts[name] = {"bytes": size, "sha256": hashlib.sha256(data).hexdigest()}


def collect_wheels(folder: Path, python: str, have: Sequence[str]) -> list[Path]:
    """Wheels of this package and its dependencies, without those that the machine has."""
    ours = folder / "reid_lab"
    _pip("wheel", "--no-deps", "--wheel-dir", str(ours), str(ROOT), what="reid_lab")
    wheels = list(ours.glob("*.whl"))
    seen = {canonicalize_name("reid-lab"), *map(canonicalize_name, UNNEEDED), *closure(have)}
    for wheel in wheels:  # the list grows in the loop
        for need in needs(wheel, python):
            name = canonicalize_name(need.name)
            if name not in seen:
                seen.add(name)
                wheels.append(download(need, folder / name, python))
    return wheels


def closure(names: Iterable[str]) -> set[str]:
    """The packages and their dependencies, as far as they are installed here."""
    seen: set[str] = set()
    queue = [canonicalize_name(name) for name in names]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        needed = map(Requirement, lines)
        queue += [canonicalize_name(r.name) for r in needed if _applies(r, {"extra": ""})]
    return seen


def needs(wheel: Path, python: str) -> Iterator[Requirement]:
    """Dependencies of a wheel on the other machine."""
    there = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    there |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    with ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    return (need for need in map(Requirement, lines) if _applies(need, there))


def download(need: Requirement, folder: Path, python: str) -> Path:
    """A wheel for the other machine, built here if only pure Python source is available."""
    args = ["--no-deps", "--dest", str(folder), "--only-binary=:all:", "--python-version", python]
    args += [arg for platform in PLATFORMS for arg in ("--platform", platform)]
    wanted = f"{need.name}{need.specifier}"
    try:
        _pip("download", *args, *_constraint(), wanted, what=wanted)
    except UserError:
        args = ["--no-deps", "--wheel-dir", str(folder)]
        _pip("wheel", *args, *_constraint(), wanted, what=wanted)
    (wheel,) = folder.glob("*.whl")
    if "-none-any" not in wheel.name and "manylinux" not in wheel.name:  # built for this machine
        raise UserError(
            f"{wanted}: no wheel for Python {python} on Linux; "
            "install it on that machine and add it to --have"
        )
    return wheel


def _constraint() -> list[str]:
    path = ROOT / "constraints.txt"
    return ["--constraint", str(path)] if path.is_file() else []


def _pip(*args: str, what: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *args]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise UserError(f"{what}: pip {args[0]} failed:\n{finished.stderr.strip()[-1500:]}")


def _applies(need: Requirement, environment: dict[str, str]) -> bool:
    return need.marker is None or need.marker.evaluate(environment)


def _without_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in info.name else info
