"""`reid-lab serve`: an HTTP service that finds people, with early exit under load."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers, batch_size, count, positive

EXAMPLES = """\
The API key is read from the environment: REID_LAB_API_KEY. Without one, the service listens to
this machine only.

examples:
  reid-lab serve --model exported/ --people people.sqlite
  reid-lab serve --model exported/ --people people.sqlite --gallery stage2/ fusion/ --budget-ms 20
  curl -F images=@someone.jpg -F pid=anna http://127.0.0.1:8000/enroll
  curl -F images=@query.jpg http://127.0.0.1:8000/search
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "serve",
        help="find people over HTTP, with early exit under load",
        description="Serve search, verification and enrolment over HTTP: onnxruntime, no torch.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--model", type=Path, required=True, help="what reid-lab export wrote")
    parser.add_argument(
        "--people", type=Path, required=True, help="file of the known people; made if missing"
    )
    parser.add_argument(
        "--gallery",
        type=Path,
        nargs="+",
        default=[],
        help="galleries of the same images to add, one for each exit at which queries may exit",
    )
    parser.add_argument(
        "--run", type=Path, help="tested run of the checkpoint: the page shows its frontier"
    )
    parser.add_argument("--metric", choices=("euclidean", "cosine"), help="of a new file")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--budget-ms", type=positive, help="time of a query from arrival to answer; exits early"
    )
    target.add_argument("--mul-adds", type=float, help="mean Mul-Adds of a query; exits early")
    parser.add_argument(
        "--policy", choices=("margin", "distance"), default="margin", help="%(default)s"
    )
    parser.add_argument("--batch-size", type=batch_size, default=32, help="%(default)s")
    parser.add_argument("--threads", type=int, default=0, help="0 takes all cores")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at, %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="%(default)s; 0 takes a free one")
    parser.add_argument(
        "--allow-host", nargs="+", default=[], help="other names under which it is reached"
    )
    parser.add_argument("--max-mib", type=count, default=16, help="of a request, %(default)s")
    parser.add_argument("--max-images", type=count, default=64, help="of a request, %(default)s")
    parser.add_argument(
        "--max-pixels", type=count, default=16_000_000, help="of a request, %(default)s"
    )
    parser.add_argument(
        "--max-wait-ms",
        type=positive,
        default=2000.0,
        help="a request whose answer would take longer is refused by 503, %(default)s",
    )
    parser.add_argument("--max-seconds", type=positive, default=30.0, help="%(default)s")
    parser.add_argument("--max-requests", type=count, default=64, help="at a time, %(default)s")
    parser.set_defaults(command=Command(work, check, interrupted="stopped"))


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not 0 <= args.threads <= 1024:
        parser.error("--threads is 0 to 1024")
    if not 0 <= args.port <= 65535:
        parser.error("--port is 0 to 65535")


def work(args: argparse.Namespace) -> int:
    from reid_lab.optional import load

    for package in ("fastapi", "uvicorn", "prometheus_client"):
        load(package, "reid-lab serve")
    from reid_lab.serve.command import run

    return run(args)
