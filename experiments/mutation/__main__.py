"""Change the code in many places, one at a time, and count the changes that a test notices.

python -m experiments.mutation                 draw, and run what has not run yet
python -m experiments.mutation --limit 50      the next 50
python -m experiments.mutation --again         the survivors, on the code and tests of now
"""

from __future__ import annotations

import argparse
import csv
import importlib
import io
import math
import os
import platform
import random
import re
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from experiments.mutation.sites import Site, mutated, sites
from reid_lab.files.atomic import write_text

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).parent
NAMES = tuple(field.name for field in fields(Site))
COLUMNS = ("package", *NAMES, "commit", "outcome", "test", "seconds", "reason")
# package -> its tests; a network's and a loss's effect shows in the methods that use it
TESTS = {
    "loss": ("tests/loss", "tests/model"),
    "model": ("tests/model", "tests/config/test_recipes.py"),
    "backbone": ("tests/backbone", "tests/model", "tests/budget/test_mul_adds.py"),
    "retrieval": ("tests/retrieval",),
    "budget": ("tests/budget",),
}
# a mutant that takes longer hangs, and counts as killed: seconds of the processor, which do not
# depend on what else runs, and of the clock
CPU_SECONDS, SECONDS = 600, 3600
KILLED = ("killed", "timeout")
EQUIVALENT = "equivalent"  # an outcome that is typed in, with its reason
Row = dict[str, str]


# what the tests import and no mutant changes: loaded once, before a fork for each mutant
LOADED = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "hydra", "scipy", "faiss")
LOADED += ("matplotlib", "hypothesis", "pydantic", "onnxruntime", "torch.utils.flop_counter")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=400, help="mutants, evenly over the packages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="run so many of them, then stop")
    parser.add_argument("--again", action="store_true", help="run the survivors on HEAD")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of mutants.csv")
    args = parser.parse_args(words)
    file = args.out / "mutants.csv"
    head = git("rev-parse", "--short", "HEAD").decode().strip()
    if args.again or not file.exists():
        check_unchanged(head)
    if not file.exists():
        save(file, drawn(head, args.count, args.seed))
    rows = load(file)
    if args.again:
        waiting = [row for row in rows if row["outcome"] == "survived"]
    else:
        waiting = [row for row in rows if not row["outcome"]]
    for name in LOADED if waiting else ():
        importlib.import_module(name)
    for row in waiting[: args.limit]:
        commit = head if args.again else row["commit"]
        with tempfile.TemporaryDirectory() as folder:
            row.update(outcome_of(row, commit, Path(folder)))
        save(file, rows)
        print(f"{row['outcome']:9} {row['file']}:{row['line']} {row['before']} -> {row['after']}")
    print(summary(rows))
    return 0


def git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True).stdout


def unpack(commit: str, folder: Path) -> None:
    """The tree of a commit."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as archive:
        archive.extractall(folder, filter="data")


def drawn(commit: str, count: int, seed: int) -> list[Row]:
    """As many mutants of each package, in random order: a part of them is a sample."""
    generator = random.Random(seed)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        unpack(commit, Path(folder))
        for package in TESTS:
            found = of_package(Path(folder), package)
            for site in generator.sample(found, count // len(TESTS)):
                row = dict.fromkeys(COLUMNS, "")
                row |= {name: str(getattr(site, name)) for name in NAMES}
                rows.append({**row, "package": package, "commit": commit})
    generator.shuffle(rows)
    return rows


def of_package(tree: Path, package: str) -> list[Site]:
    files = sorted((tree / "src" / "reid_lab" / package).rglob("*.py"))
    return [site for path in files for site in sites(path, tree)]


def outcome_of(row: Row, commit: str, tree: Path) -> Row:
    """Run a mutant's tests in a tree of its own."""
    unpack(commit, tree)
    path = tree / row["file"]
    same = [s for s in sites(path, tree) if s.key == key(row)] if path.exists() else []
    if not same:
        return {"outcome": "gone", "commit": commit}
    changed = mutated(path.read_bytes(), same[0])
    path.write_bytes(changed)
    compile(changed, str(path), "exec")
    return {**tested(tree, tests_of(row, tree)), "commit": commit}


def tested(tree: Path, tests: Sequence[str]) -> Row:
    """What the tests make of a tree, the first that fails, and how long it took.

    In a fork of this process, which has imported what takes long and does not change.
    """
    start = time.monotonic()
    output = tree / "mutation.log"
    child = os.fork()
    if not child:
        os._exit(run_tests(tree, tests, output))
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() - start > SECONDS:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    noticed = re.search(r"^(?:FAILED|ERROR) (\S+)", output.read_text(), re.MULTILINE)
    outcome = {0: "survived", 1: "killed"}.get(min(os.waitstatus_to_exitcode(ended[1]), 1))
    return {
        "outcome": outcome or "timeout",  # ended by a signal
        "test": noticed[1] if noticed else "",
        "seconds": f"{time.monotonic() - start:.1f}",
    }


def run_tests(tree: Path, tests: Sequence[str], output: Path) -> int:
    """pytest's exit status, on the packages of `tree` instead of those that are imported here."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    os.chdir(tree)
    paths = [str(tree / "src"), str(tree)]
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS="1")
    sys.path[:0] = paths
    for name in [n for n in sys.modules if n.split(".")[0] in ("reid_lab", "experiments")]:
        del sys.modules[name]
    with output.open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        options = ["-n0", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
        status = int(pytest.main([*options, *tests]))
        sys.stdout.flush()
    return status


def check_unchanged(commit: str) -> None:
    """Whether all tests pass where nothing is changed.

    Raises:
        SystemExit: one does not.
    """
    for tests in TESTS.values():
        with tempfile.TemporaryDirectory() as folder:
            unpack(commit, Path(folder))
            found = tested(Path(folder), tests)
        if found["outcome"] != "survived":
            raise SystemExit(f"{commit}: {found['test']} fails without any change: fix it first")


def key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in ("file", "where", "kind", "before", "after", "nth"))


def tests_of(row: Row, tree: Path) -> list[str]:
    """The package's, those of the module first."""
    stem = Path(row["file"]).stem
    folders = [name for name in TESTS[row["package"]] if (tree / name).exists()]
    first = [f"{folder}/test_{stem}.py" for folder in folders]
    return [name for name in first if (tree / name).exists()] + folders


@dataclass(frozen=True)
class Share:
    """Killed of those that are not equivalent, with Wilson's 95% interval."""

    killed: int
    total: int

    @property
    def interval(self) -> tuple[float, float]:
        z, n = 1.96, max(self.total, 1)
        p = self.killed / n
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)

    def __str__(self) -> str:
        low, high = self.interval
        share = self.killed / max(self.total, 1)
        return f"{self.killed}/{self.total} = {share:.1%} ({low:.1%} to {high:.1%})"


def share(rows: Iterable[Row]) -> Share:
    ran = [row["outcome"] for row in rows if row["outcome"] in (*KILLED, "survived")]
    return Share(sum(outcome in KILLED for outcome in ran), len(ran))


def summary(rows: Sequence[Row]) -> str:
    """The share of each package and of all, and the survivors."""
    lines = [f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"]
    lines += [f"{p:10} {share(row for row in rows if row['package'] == p)}" for p in TESTS]
    lines += [f"{'all':10} {share(rows)}"]
    counts = Counter(row["outcome"] or "waiting" for row in rows)
    lines += [f"{name}: {counts[name]}" for name in (EQUIVALENT, "gone", "waiting")]
    for row in rows:
        if row["outcome"] == "survived":
            place = f"{row['file']}:{row['line']} {row['where']}"
            lines.append(f"  {place}: {row['before']} -> {row['after']}")
    return "\n".join(lines)


def load(file: Path) -> list[Row]:
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def save(file: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())


if __name__ == "__main__":
    sys.exit(main())
