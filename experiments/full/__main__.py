"""The papers' recipes at their full size, in slices of a few minutes on any GPU.

python -m experiments.full                                    list the runs and their state
python -m experiments.full --minutes 9 --out DIR dataset.root=/data/cuhk03-np/detected
python -m experiments.full --collect DIR                      copy tables into experiments/full
python -m experiments.full --bundle DIR dataset.root=...      pack for a machine without network

A slice resumes unfinished runs and starts the next ones; when its minutes are over, it saves and
stops. The same command continues. Checkpoints stay under --runs, tables in --out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.full.studies import STUDIES, StudyRun, all_runs
from experiments.tables import read
from reid_lab.cli.command import attempt, count, positive
from reid_lab.interrupt import raising_on_signals

HERE = Path(__file__).parent
RESUME = "interrupted: the same command resumes"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done or out of time, 1 a failed run or an error, 2 a wrong argument."""
    args = _parse(argv)
    with raising_on_signals():
        return attempt(lambda: _run(args), interrupted=RESUME)


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
    done = () if args.again else {row["run"] for row in read(args.study / "results.csv")}
    runs = all_runs(args.runs, args.only, args.seeds, done)
    if args.minutes is None:
        show(runs, args)
        return 0
    return work(runs, args)


def work(runs: Sequence[StudyRun], args: argparse.Namespace) -> int:
    """Run one slice and write its tables."""
    from experiments.full.slices import Options, run_slice
    from experiments.full.tables import gather

    options = Options(args.runs, args.weights, args.overrides)
    try:
        failed = run_slice(runs, options, args.minutes, args.jobs)
    finally:  # also after an interruption
        gather(runs, args.out, args.max_files, args.max_mib)
    for run in failed:
        print(f"failed: {run.name}; see {run.folder / 'output.txt'}", file=sys.stderr)
    return int(bool(failed))


def show(runs: Sequence[StudyRun], args: argparse.Namespace) -> None:
    """Print a row per run: state, arithmetic, memory, minutes used and expected."""
    from experiments.full.estimate import estimate, remaining

    table = Table(title="full-size studies on CUHK03, detected boxes, new protocol")
    for column in ("run", "state", "PFLOP", "GB", "GPU minutes used", "expected", "published"):
        text = column in ("run", "state")
        table.add_column(column, justify="left" if text else "right", no_wrap=text)
    earlier: dict[str, list[float]] = {}  # seconds of the attempts elsewhere
    for row in read(args.study / "slices.csv"):
        earlier.setdefault(row["run"], []).append(float(row["seconds"]))
    estimates = {run.study.name: estimate(run.study, args.overrides) for run in runs}
    for run in runs:
        expected = estimates[run.study.name]
        left = 0.0 if run.state == "done" else remaining(run, expected)
        size = (f"{expected.flops / 1e15:,.0f}", f"{expected.bytes_ / 1e9:.1f}")
        used = run.minutes or sum(earlier.get(run.name, [])) / 60
        times = (f"{used:.1f}", f"{left:.0f}")
        table.add_row(run.name, run.state, *size, *times, run.study.published)
    Console().print(table)
    print("Expected on an H100; experiments/full/README.md lists the assumptions.")
    show_accuracy(args.study)


def show_accuracy(study: Path) -> None:
    """Print Rank-1 / mAP of the results in the study's folder."""
    from experiments.full.tables import accuracy

    published = {study.name: study.published for study in STUDIES}
    for name, result in accuracy(read(study / "results.csv")).items():
        print(f"{name}: Rank-1 / mAP {result}; published {published.get(name) or '-'}")


def _weights(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{text}: expected STUDY=FILE with an existing file")
    return name, Path(path)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in _names(text)]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m experiments.full",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides", nargs="*", help="config overrides of every run, such as dataset.root=..."
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/full"), help="folder of the runs, %(default)s"
    )
    parser.add_argument("--only", type=_names, default=[], help="studies to run: a,b")
    parser.add_argument("--seeds", type=_numbers, help="seeds: 0,1; by default those of each study")
    parser.add_argument(
        "--weights",
        action="append",
        type=_weights,
        default=[],
        metavar="STUDY=FILE",
        help="pre-trained weights of a study; may be repeated",
    )
    parser.add_argument("--minutes", type=positive, help="run a slice of this length")
    parser.add_argument(
        "--again", action="store_true", help="also the runs whose results are in --study"
    )
    parser.add_argument(
        "--jobs", type=count, default=1, help="runs at a time on the GPU, %(default)s"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/full_tables"),
        help="folder of the tables, %(default)s",
    )
    parser.add_argument(
        "--max-files", type=count, default=8, help="most files in --out, %(default)s"
    )
    parser.add_argument(
        "--max-mib", type=positive, default=16, help="largest file in --out, %(default)s"
    )
    parser.add_argument("--collect", type=Path, metavar="DIR", help="a folder that --out wrote")
    parser.add_argument("--study", type=Path, default=HERE, help="folder that --collect writes to")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="pack for an offline machine")
    parser.add_argument("--part-mib", type=count, default=60, help="size of a part, %(default)s")
    parser.add_argument(
        "--python", default="3.12", help="Python version of that machine, %(default)s"
    )
    parser.add_argument(
        "--have", type=_names, default=[], help="packages installed on that machine: a,b,c"
    )
    args = parser.parse_intermixed_args(argv)
    args.weights = dict(args.weights)
    return args


if __name__ == "__main__":
    sys.exit(main())
