"""Change the code in many places, one at a time, and count the changes that a test notices.

python -m experiments.mutation                 draw, and run what has not run yet
python -m experiments.mutation --limit 50      the next 50
python -m experiments.mutation --again         the survivors, on the code and tests of HEAD
python -m experiments.mutation --table fresh.csv --count 60 --seed 1    others than in mutants.csv
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import platform
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from pathlib import Path

from experiments.mutation.executed import Executed
from experiments.mutation.sites import Site, mutated, sites
from experiments.mutation.trial import KILLED, SURVIVED, TIMEOUT, Trial, load_libraries, measure
from reid_lab.files.atomic import write_text

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).parent / "mutants.csv"
NAMES = tuple(field.name for field in fields(Site))
COLUMNS = ("package", *NAMES, "first", "commit", "outcome", "test", "seconds", "reason")
CONF = "tests/config/test_conf.py::test_defaults_in_code_equal_the_yaml"
# package -> its tests; a network's and a loss's effect shows in the methods that use it
TESTS = {
    "loss": ("tests/loss", "tests/model", CONF),
    "model": ("tests/model", "tests/config/test_recipes.py", CONF),
    "backbone": ("tests/backbone", "tests/model", "tests/cost/test_mul_adds.py", CONF),
    "retrieval": ("tests/retrieval",),
    "budget": ("tests/budget",),
}
TIMES = 5  # a mutant that takes so many times what its tests take unchanged hangs: it is killed
NOTICED = (KILLED, TIMEOUT)
EQUIVALENT = "equivalent"  # an outcome that is typed in, with its reason
Row = dict[str, str]
Key = tuple[str, ...]  # of a site


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=400, help="mutants, evenly over the packages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="run so many of them, then stop")
    parser.add_argument(
        "--again", nargs="?", const="HEAD", metavar="COMMIT", help="run the survivors on a commit"
    )
    parser.add_argument("--measured", metavar="COMMIT", help="its tests are not measured again")
    parser.add_argument("--seconds", type=float, default=60, help="of a mutant's tests, unchanged")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--table", type=Path, default=TABLE, help="CSV of the mutants")
    args = parser.parse_args(words)
    file = args.table
    commit = git("rev-parse", "--short", args.again or "HEAD").decode().strip()
    if not file.exists():
        known = {key(row) for row in load(TABLE)} if TABLE.exists() else set()
        save(file, drawn(commit, args.count, args.seed, known))
    rows = load(file)
    if args.again:
        waiting = [row for row in rows if row["outcome"] == SURVIVED]
    else:
        waiting = [row for row in rows if not row["outcome"]]
    if waiting:
        load_libraries()
    again = commit if args.again else None
    for row in run(waiting[: args.limit], args.jobs, args.seconds, again, args.measured):
        save(file, rows)
        change = f"{row['before']} -> {row['after']}"
        print(row["outcome"], row["seconds"], f"{row['file']}:{row['line']}", change, flush=True)
    print(summary(rows))
    return 0


def git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True).stdout


def unpack(commit: str, folder: Path) -> None:
    """The tree of a commit."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as archive:
        archive.extractall(folder, filter="data")


def drawn(commit: str, count: int, seed: int, known: set[Key]) -> list[Row]:
    """As many mutants of each package, none of `known`, in random order: a part is a sample."""
    generator = random.Random(seed)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        unpack(commit, Path(folder))
        for package in TESTS:
            found = [s for s in of_package(Path(folder), package) if s.key not in known]
            for site in generator.sample(found, count // len(TESTS)):
                row = dict.fromkeys(COLUMNS, "")
                row |= {name: str(getattr(site, name)) for name in NAMES}
                rows.append({**row, "package": package, "commit": commit})
    generator.shuffle(rows)
    return rows


def of_package(tree: Path, package: str) -> list[Site]:
    files = sorted((tree / "src" / "reid_lab" / package).rglob("*.py"))
    return [site for path in files for site in sites(path, tree)]


class Workshop:
    """The unchanged tree of a commit, what its tests execute, and changed copies of it.

    Args:
        base: an earlier commit. What its tests execute is not measured again: they are taken by
            the mutation's place in that commit, the new ones by its place in this.
    """

    commit: str
    seconds: dict[str, float]  # of each test

    def __init__(self, commit: str, base: Workshop | None = None) -> None:
        self.base = base
        known: dict[str, float] = base.seconds if base else {}
        name = f"reid_lab-mutants-{commit}" + (f"-{base.commit}" if base else "")
        folder = Path(tempfile.gettempdir()) / name  # used again
        self.commit, self.tree, file = commit, folder / "tree", folder / "executed.json"
        if not file.exists():
            shutil.rmtree(folder, ignore_errors=True)
            unpack(commit, self.tree)
            tests = sorted({name for names in TESTS.values() for name in names})
            measure(self.tree, tests, TESTS, file, known)
        self.executed = Executed.load(file)
        self.seconds = {**known, **self.executed.seconds}

    def site(self, row: Row) -> Site | None:
        path = self.tree / row["file"]
        found = sites(path, self.tree) if path.exists() else []
        return next((site for site in found if site.key == key(row)), None)

    def tests(self, row: Row) -> list[str]:
        """The tests of a mutant, the new ones first."""
        site = self.site(row)
        if site is None:
            return []
        source = (self.tree / site.file).read_bytes()
        tests = self.executed.tests_of(site, source, TESTS[row["package"]])
        return tests + (self.base.tests(row) if self.base else [])

    def start(self, row: Row, folder: Path, seconds: float) -> Trial | Row:
        """The trial of a mutant in a new folder, or its outcome where there is nothing to run.

        Args:
            seconds: tests that take longer together are not run.
        """
        site, tests = self.site(row), self.tests(row)
        if site is None:
            return {"outcome": "gone"}
        if not tests:
            return {"outcome": SURVIVED, "test": "", "seconds": "0"}
        ends = list(accumulate(self.seconds[test] for test in tests))
        tests = tests[: max(1, sum(end <= seconds for end in ends))]
        path = Path(site.file)
        changed = mutated((self.tree / path).read_bytes(), site)
        compile(changed, site.file, "exec")
        # with the compiled files of unchanged modules, which are known by size and second
        ignored = shutil.ignore_patterns(f"{path.stem}.*.pyc", path.name, "mutation.log")
        shutil.copytree(self.tree, folder, True, ignored, os.link, dirs_exist_ok=True)
        for other in self.tree.rglob(path.name):
            shutil.copy2(other, folder / other.relative_to(self.tree))
        (folder / path).write_bytes(changed)
        took = self.executed.start + ends[len(tests) - 1]
        return Trial(folder, tests, TIMES * took)


def run(
    rows: Sequence[Row], jobs: int, seconds: float, again: str | None, measured: str | None
) -> Iterator[Row]:
    """Run mutants, some at a time; give each when it has ended.

    Args:
        seconds: see `Workshop.start`.
        again: the commit to run them on; its own if None.
        measured: the base of other commits, see `Workshop`.
    """
    base = Workshop(measured) if measured else None
    workshops = {measured: base} if base else {}
    waiting = deque(rows)
    running: list[tuple[Row, Trial, tempfile.TemporaryDirectory[str]]] = []
    while waiting or running:
        if waiting and len(running) < jobs:
            row, folder = waiting.popleft(), tempfile.TemporaryDirectory()
            commit = again or row["commit"]
            if commit not in workshops:
                workshops[commit] = Workshop(commit, base)
            trial = workshops[commit].start(row, Path(folder.name), seconds)
            if isinstance(trial, Trial):
                running.append((row, trial, folder))
                continue
            ended = trial
        else:
            time.sleep(0.02)
            row, trial, folder = running.pop(0)
            found = trial.ended()
            if found is None:
                running.append((row, trial, folder))
                continue
            ended = found
        folder.cleanup()
        note(row, ended, again)
        yield row


def note(row: Row, ended: Row, again: str | None) -> None:
    """Write an outcome into a row; what is gone in another commit stays as it was."""
    if again is None:
        row.update(ended, first=ended["outcome"])
    elif ended["outcome"] != "gone":
        row.update(ended, commit=again)


def key(row: Row) -> Key:
    return tuple(row[name] for name in ("file", "where", "kind", "before", "after", "nth"))


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


def share(rows: Iterable[Row], column: str = "outcome") -> Share:
    ran = [row[column] for row in rows if row["outcome"] != EQUIVALENT]
    killed = sum(outcome in NOTICED for outcome in ran)
    return Share(killed, killed + ran.count(SURVIVED))


def summary(rows: Sequence[Row]) -> str:
    """The share of each package and of all, and the survivors."""
    lines = [f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"]
    lines += [f"{p:10} {share(row for row in rows if row['package'] == p)}" for p in TESTS]
    lines += [f"{'all':10} {share(rows)}", f"{'first':10} {share(rows, 'first')}"]
    counts = Counter(row["outcome"] or "waiting" for row in rows)
    lines += [f"{name}: {counts[name]}" for name in (EQUIVALENT, "gone", "waiting")]
    for row in rows:
        if row["outcome"] == SURVIVED:
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
