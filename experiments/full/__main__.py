"""The papers' recipes at their full size, in slices of a few minutes on any GPU.

python -m experiments.full                                    what there is, and how far it is
python -m experiments.full --minutes 9 --out DIR dataset.root=/data/cuhk03-np/detected
python -m experiments.full --collect DIR                      what came back, into experiments/full
python -m experiments.full --bundle DIR dataset.root=...      for a machine without network

A slice resumes what is part done, begins what is next, and stops in time with everything saved;
the same command goes on. Checkpoints stay under --runs; the tables that come back are in --out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.collect import read
from experiments.full.studies import STUDIES, Run, all_runs
from reid_lab.cli.command import attempt, count, positive, terminable

HERE = Path(__file__).parent
RESUME = "interrupted: the same command resumes"


def main(argv: Sequence[str] | None = None) -> int:
    """0: done, or out of time; 1: a run failed, or the user's error; 2: a wrong argument."""
    args = _parse(argv)
    return terminable(lambda: attempt(lambda: _run(args), interrupted=RESUME))


def _run(args: argparse.Namespace) -> int:
    if args.collect:
        from experiments.full.tables import collect

        collect(args.collect, args.study)
        show_accuracy(args.study)
        return 0
    if args.bundle:
        from experiments.full.bundle import bundle

        bundle(args.bundle, args.overrides, args.weights, args.part_mib, args.python, args.have)
        return 0
    found = all_runs(args.runs, args.only, args.seeds)
    if args.minutes is None:
        show(found, args)
        return 0
    return work(found, args)


def work(found: Sequence[Run], args: argparse.Namespace) -> int:
    from experiments.full.slices import Options, go_on
    from experiments.full.tables import gather

    where = Options(args.runs, args.weights, args.overrides)
    try:
        failed = go_on(found, where, args.minutes)
    finally:  # what is there comes back, also when it was interrupted
        gather(found, args.out, args.max_files, args.max_mib)
    for run in failed:
        print(f"failed: {run.name}; see {run.folder / 'output.txt'}", file=sys.stderr)
    return int(bool(failed))


def show(found: Sequence[Run], args: argparse.Namespace) -> None:
    """A row a run: state, arithmetic, memory, minutes used and expected."""
    from experiments.full.estimate import estimate, remaining

    table = Table(title="full-size studies on CUHK03, detected boxes, new protocol")
    for column in ("run", "state", "PFLOP", "GB", "GPU minutes used", "to come", "published"):
        words = column in ("run", "state")
        table.add_column(column, justify="left" if words else "right", no_wrap=words)
    expected = {run.study.name: estimate(run.study, args.overrides) for run in found}
    for run in found:
        its = expected[run.study.name]
        left = 0.0 if run.state == "done" else remaining(run, its)
        size = (f"{its.flops / 1e15:,.0f}", f"{its.bytes_ / 1e9:.1f}")
        times = (f"{run.minutes:.1f}", f"{left:.0f}")
        table.add_row(run.name, run.state, *size, *times, run.study.published)
    Console().print(table)
    print("Expected on an H100: see experiments/full/README.md for what that assumes.")
    show_accuracy(args.study)


def show_accuracy(study: Path) -> None:
    """Rank-1 / mAP of what is filed under the study's folder."""
    from experiments.full.tables import accuracy

    published = {study.name: study.published for study in STUDIES}
    for name, found in accuracy(read(study / "results.csv")).items():
        print(f"{name}: Rank-1 / mAP {found}; published {published.get(name) or '-'}")


def _weights(word: str) -> tuple[str, Path]:
    name, equals, path = word.partition("=")
    if not equals or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{word}: STUDY=FILE, a file that exists")
    return name, Path(path)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    return [int(name) for name in _names(text)]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m experiments.full",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help="of every run, such as dataset.root=...")
    parser.add_argument("--runs", type=Path, default=Path("runs/full"), help="%(default)s")
    parser.add_argument("--only", type=_names, default=[], help="studies: a,b")
    parser.add_argument("--seeds", type=_numbers, help="of each study: 0,1; all of its own")
    parser.add_argument(
        "--weights",
        action="append",
        type=_weights,
        default=[],
        metavar="STUDY=FILE",
        help="pre-trained weights that a study starts from; again for another",
    )
    parser.add_argument("--minutes", type=positive, help="run for so long")
    parser.add_argument("--out", type=Path, default=Path("runs/full_tables"), help="%(default)s")
    parser.add_argument("--max-files", type=count, default=8, help="in --out, %(default)s")
    parser.add_argument("--max-mib", type=positive, default=16, help="of a file, %(default)s")
    parser.add_argument("--collect", type=Path, metavar="DIR", help="what --out left")
    parser.add_argument("--study", type=Path, default=HERE, help="where it is collected")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="pack for an offline machine")
    parser.add_argument("--part-mib", type=count, default=60, help="of a part, %(default)s")
    parser.add_argument("--python", default="3.12", help="of that machine, %(default)s")
    parser.add_argument("--have", type=_names, default=[], help="packages that it has: a,b,c")
    args = parser.parse_intermixed_args(argv)
    args.weights = dict(args.weights)
    return args


if __name__ == "__main__":
    sys.exit(main())
