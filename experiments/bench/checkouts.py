"""A training step of a CPU recipe by several checkouts and precisions, in turns.

python -m experiments.bench.checkouts CHECKOUT ... [--recipe NAME] [--rounds N] [--out FILE]

Each measurement is a process of its own, which runs in its checkout.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.bench.people import write_people
from experiments.bench.recipes import PRECISIONS, STEPS
from experiments.tables import write
from reid_lab.results.provenance import machine

# of what every checkout has
MEASURE = f"""
import sys
import warnings
from pathlib import Path
from experiments.bench.recipes import config_of, measured
from reid_lab.results.provenance import commit

warnings.simplefilter("ignore")
recipe, root, precision = sys.argv[1:]
cfg = config_of(recipe, Path(root))
cfg.trainer.precision = precision
print("step_ms", commit(), measured(cfg, recipe, {STEPS}).step_ms)
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.checkouts")
    parser.add_argument("checkouts", type=Path, nargs="+", help="folders of the repository")
    parser.add_argument("--recipe", default="dare_mobilenetv2_cuhk03_cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("experiments/bench/precision.csv"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_people(Path(folder))
        write(args.out, list(rows(args.checkouts, args.recipe, folder, args.rounds)))


def rows(
    checkouts: Sequence[Path], recipe: str, people: str, rounds: int
) -> Iterator[dict[str, Any]]:
    """A row for each round, checkout and precision: median milliseconds of a step."""
    for number in range(rounds):
        for checkout in checkouts:
            for precision in PRECISIONS:
                commit, ms = step(checkout, recipe, people, precision)
                yield {
                    "recipe": recipe,
                    "commit": commit,
                    "precision": precision,
                    "round": number,
                    "step_ms": ms,
                    "machine": machine(),
                    "seed": 0,
                }


def step(checkout: Path, recipe: str, people: str, precision: str) -> tuple[str, float]:
    """The commit of a checkout, and milliseconds of a step there.

    Raises:
        subprocess.CalledProcessError: it cannot be measured.
    """
    home = checkout.resolve()
    words = [sys.executable, "-c", MEASURE, recipe, people, precision]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(home / "src"), str(home)])}
    done = subprocess.run(words, cwd=home, env=env, stdout=subprocess.PIPE, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("step_ms "))
    _, commit, ms = line.split()
    return commit, float(ms)


if __name__ == "__main__":
    main()
