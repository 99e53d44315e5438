"""Unpack and install a bundle on a machine without a network, and run a slice of the studies.

python start.py [--to DIR] [--install-to DIR] -- --minutes 9 --out DIR

Needs only Python and pip. Run it again for the next slice; it unpacks and installs only once.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=HERE / "unpacked", help="%(default)s")
    parser.add_argument(
        "--install-to", type=Path, help="folder for packages; default: that of this Python"
    )
    parser.add_argument(
        "study", nargs="*", help="after --: arguments of python -m experiments.full"
    )
    args = parser.parse_args()
    to = args.to.resolve()
    manifest = json.loads((HERE / "parts.json").read_text(encoding="utf-8"))
    done = to / "done.json"
    if not (done.is_file() and json.loads(done.read_text()) == manifest["parts"]):
        if missing := [name for name in manifest["parts"] if not (HERE / name).is_file()]:
            print(f"still missing in {HERE}: {', '.join(missing)}", file=sys.stderr)
            return 2
        unpack(manifest["parts"], to)
        install(to, args.install_to)
        done.write_text(json.dumps(manifest["parts"]))
    paths = [str(to), *([str(args.install_to.resolve())] if args.install_to else [])]
    path = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "REID_LAB_COMMIT": manifest["commit"]}
    study = [f"dataset.root={to / 'data'}", *manifest["overrides"], *args.study]
    study += [f"--weights={name}={to / path}" for name, path in manifest["weights"].items()]
    command = [sys.executable, "-m", "experiments.full", *study]
    return subprocess.run(command, env=environment, check=False).returncode


def unpack(parts: dict[str, dict[str, object]], to: Path) -> None:
    """Extract the tar that the parts make up."""
    to.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BufferedReader(JoinedParts(parts)), mode="r|gz") as tar:
        tar.extractall(to, filter="data")


class JoinedParts(io.RawIOBase):
    """The parts as one readable file; the SHA-256 of a part is checked before it is read."""

    def __init__(self, parts: dict[str, dict[str, object]]) -> None:
        self.chunks, self.left = self._checked(parts), memoryview(b"")

    def _checked(self, parts: dict[str, dict[str, object]]) -> Iterator[bytes]:
        for name, expected in parts.items():
            data = (HERE / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != expected["sha256"]:
                sys.exit(f"{HERE / name} is damaged: copy it again")
            yield data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self.left:
            self.left = memoryview(next(self.chunks, b""))
        size = min(len(buffer), len(self.left))
        buffer[:size], self.left = self.left[:size], self.left[size:]
        return size


def install(to: Path, target: Path | None) -> None:
    """Install the unpacked wheels with pip."""
    wheels = [str(path) for path in sorted((to / "wheels").glob("*.whl"))]
    options = ["--no-index", "--no-deps", "--quiet"]
    options += ["--target", str(target), "--upgrade"] if target else []
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *wheels], check=True)


if __name__ == "__main__":
    sys.exit(main())
