"""Everything that an offline machine lacks, in parts, with a script that unpacks and starts."""

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
UNNEEDED = ("wandb", "faiss-cpu", "botorch")  # by the studies, but for pla_search's botorch
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
        overrides: of the runs; `dataset.root` among them says which data set to pack.
        part_mib: size of a part, in MiB.
        python: of the other machine, such as 3.12; it is Linux on x86-64.
        have: packages that it has, each with what it needs itself.

    Raises:
        UserError: no data set is given, or a package cannot be downloaded.
    """
    root = data_root(overrides)
    rest = [word for word in overrides if not word.startswith("dataset.root=")]
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part.*"):
        old.unlink()
    with TemporaryDirectory(dir=out) as folder:
        wheels = collect_wheels(Path(folder), python, have)
        writer = PartWriter(out, part_mib * MIB)
        with tarfile.open(fileobj=writer, mode="w|") as tar:  # type: ignore[call-overload]
            for wheel in wheels:
                tar.add(wheel, f"wheels/{wheel.name}")
            tar.add(ROOT / "experiments", "experiments", filter=_without_caches)
            for study, path in weights.items():
                tar.add(path, f"weights/{study}{path.suffix}")
            tar.add(root, "data")
        parts = writer.end()
    given = {study: f"weights/{study}{path.suffix}" for study, path in weights.items()}
    about = {"commit": commit(), "overrides": rest, "weights": given, "parts": parts}
    write_text(out / PARTS, json.dumps(about, indent=1) + "\n")
    shutil.copyfile(START, out / START.name)
    size = sum(part["bytes"] for part in parts.values()) / MIB
    print(
        f"{out}: {len(parts)} parts, {size:.0f} MiB, {len(wheels)} wheels; there: python start.py"
    )


def data_root(overrides: Sequence[str]) -> Path:
    given = [word.partition("=")[2] for word in overrides if word.startswith("dataset.root=")]
    if not given or not Path(given[-1]).expanduser().is_dir():
        raise UserError("give dataset.root=DIR, a folder that exists: the data set to pack")
    return Path(given[-1]).expanduser()


class PartWriter:
    """A file to write to, cut into `part.000`, `part.001`, ... of `size` bytes."""

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
        """Write what is left; part -> bytes and SHA-256."""
        if self.pending:
            self._put(len(self.pending))
        return self.parts

    def _put(self, size: int) -> None:
        name, data = f"part.{len(self.parts):03}", bytes(self.pending[:size])
        del self.pending[:size]
        write_bytes(self.folder / name, data)
        self.parts[name] = {"bytes": size, "sha256": hashlib.sha256(data).hexdigest()}


def collect_wheels(folder: Path, python: str, have: Sequence[str]) -> list[Path]:
    """This package's wheel and those of all that it needs, but for what the machine has."""
    ours = folder / "reid_lab"
    _pip("wheel", "--no-deps", "--wheel-dir", str(ours), str(ROOT), what="reid_lab")
    found = list(ours.glob("*.whl"))
    seen = {canonicalize_name("reid-lab"), *map(canonicalize_name, UNNEEDED), *closure(have)}
    for wheel in found:  # which grows as it goes
        for need in needs(wheel, python):
            name = canonicalize_name(need.name)
            if name not in seen:
                seen.add(name)
                found.append(download(need, folder / name, python))
    return found


def closure(names: Iterable[str]) -> set[str]:
    """The packages and what they need, as far as they are installed here."""
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
    """What a wheel requires on the other machine."""
    there = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    there |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    with ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    return (need for need in map(Requirement, lines) if _applies(need, there))


def download(need: Requirement, folder: Path, python: str) -> Path:
    """A wheel for the other machine; one is made where there is only source without extensions."""
    words = ["--no-deps", "--dest", str(folder), "--only-binary=:all:", "--python-version", python]
    words += [word for platform in PLATFORMS for word in ("--platform", platform)]
    wanted = f"{need.name}{need.specifier}"
    try:
        _pip("download", *words, *_constraint(), wanted, what=wanted)
    except UserError:
        words = ["--no-deps", "--wheel-dir", str(folder)]
        _pip("wheel", *words, *_constraint(), wanted, what=wanted)
    (wheel,) = folder.glob("*.whl")
    if "-none-any" not in wheel.name and "manylinux" not in wheel.name:  # made for this machine
        raise UserError(
            f"{wanted}: no wheel for Python {python} on Linux; install it there (--have)"
        )
    return wheel


def _constraint() -> list[str]:
    path = ROOT / "constraints.txt"
    return ["--constraint", str(path)] if path.is_file() else []


def _pip(*words: str, what: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{what}: pip {words[0]} failed:\n{done.stderr.strip()[-1500:]}")


def _applies(need: Requirement, environment: dict[str, str]) -> bool:
    return need.marker is None or need.marker.evaluate(environment)


def _without_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in info.name else info
