"""Unpack a bundle where there is no network, install what is in it, and go on with the studies.

python start.py [--to DIR] [--install-to DIR] -- --minutes 9 --out DIR

Needs Python with pip, and nothing else. Run it again for the next slice: what is unpacked stays.
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
    parser.add_argument("--install-to", type=Path, help="a folder; the running Python's own")
    parser.add_argument(
        "study", nargs="*", help="after --: arguments of python -m experiments.full"
    )
    args = parser.parse_args()
    to = args.to.resolve()
    about = json.loads((HERE / "parts.json").read_text(encoding="utf-8"))
    done = to / "done.json"
    if not (done.is_file() and json.loads(done.read_text()) == about["parts"]):
        if missing := [name for name in about["parts"] if not (HERE / name).is_file()]:
            print(f"still missing in {HERE}: {', '.join(missing)}", file=sys.stderr)
            return 2
        unpack(about["parts"], to)
        install(to, args.install_to)
        done.write_text(json.dumps(about["parts"]))
    paths = [str(to), *([str(args.install_to.resolve())] if args.install_to else [])]
    path = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "REID_LAB_COMMIT": about["commit"]}
    words = [f"dataset.root={to / 'data'}", *about["overrides"], *args.study]
    words += [f"--weights={name}={to / path}" for name, path in about["weights"].items()]
    command = [sys.executable, "-m", "experiments.full", *words]
    return subprocess.run(command, env=environment, check=False).returncode


def unpack(parts: dict[str, dict[str, object]], to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BufferedReader(Joined(parts)), mode="r|") as tar:
        tar.extractall(to, filter="data")


class Joined(io.RawIOBase):
    """The parts as one file to read, each checked before a byte of it is used."""

    def __init__(self, parts: dict[str, dict[str, object]]) -> None:
        self.chunks, self.left = self._checked(parts), memoryview(b"")

    def _checked(self, parts: dict[str, dict[str, object]]) -> Iterator[bytes]:
        for name, about in parts.items():
            data = (HERE / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != about["sha256"]:
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
    wheels = [str(path) for path in sorted((to / "wheels").glob("*.whl"))]
    words = ["install", "--no-index", "--no-deps", "--quiet"]
    where = ["--target", str(target), "--upgrade"] if target else []
    subprocess.run([sys.executable, "-m", "pip", *words, *where, *wheels], check=True)


if __name__ == "__main__":
    sys.exit(main())
