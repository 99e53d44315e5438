"""`reid-lab serve`: an HTTP service that finds people, with early exit under load."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from reid_lab.cli.command import (
    Command,
    Parser,
    Subparsers,
    batch_size,
    count,
    mul_adds,
    positive,
    whole,
)

if TYPE_CHECKING:
    from reid_lab.serve.open import OpenService

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
    parser.add_argument(
        "--model", type=Path, required=True, help="folder that reid-lab export wrote"
    )
    parser.add_argument(
        "--people",
        type=Path,
        required=True,
        help="SQLite file of the known people; created if missing",
    )
    parser.add_argument(
        "--gallery",
        type=Path,
        nargs="+",
        default=[],
        help="galleries of the same images to add to the people, one for each exit in use",
    )
    parser.add_argument(
        "--run", type=Path, help="run of the checkpoint: the page shows the accuracies of its test"
    )
    parser.add_argument(
        "--metric", choices=("euclidean", "cosine"), help="metric of a new --people file"
    )
    _add_scheduling(parser)
    _add_address(parser)
    _add_limits(parser)
    parser.set_defaults(command=Command(work, interrupted="stopped"))


def _add_scheduling(parser: Parser) -> None:
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--budget-ms",
        type=positive,
        help="milliseconds from a query's arrival to its answer; queries exit early to keep it",
    )
    target.add_argument(
        "--mul-adds", type=mul_adds, help="mean Mul-Adds of a query; queries exit early to keep it"
    )
    target.add_argument(
        "--mean-ms",
        type=positive,
        help="mean milliseconds of a query in the network and its search, as measured at the start "
        "in full batches; queries exit early to keep it",
    )
    parser.add_argument(
        "--policy",
        choices=("margin", "distance"),
        default="margin",
        help="confidence by which queries exit; default: %(default)s",
    )
    parser.add_argument(
        "--batch-size",
        type=batch_size,
        default=32,
        help="most images in a batch; default: %(default)s",
    )
    parser.add_argument(
        "--threads",
        type=whole(0, 1024),
        default=0,
        help="threads of the network; default: %(default)s, all cores",
    )


def _add_address(parser: Parser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default: %(default)s"
    )
    parser.add_argument(
        "--port",
        type=whole(0, 65535),
        default=8000,
        help="port; 0 takes a free one; default: %(default)s",
    )
    parser.add_argument(
        "--allow-host", nargs="+", default=[], help="other host names that requests may use"
    )


def _add_limits(parser: Parser) -> None:
    parser.add_argument(
        "--max-mib", type=count, default=16, help="most MiB of a request; default: %(default)s"
    )
    parser.add_argument(
        "--max-images",
        type=count,
        default=64,
        help="most images or boxes of a request; default: %(default)s",
    )
    parser.add_argument(
        "--max-pixels",
        type=count,
        default=16_000_000,
        help="most pixels of a request, over all its images; default: %(default)s",
    )
    parser.add_argument(
        "--max-wait-ms",
        type=positive,
        default=1000.0,
        help="refuse a request with 503 if its answer is expected to take longer, by the images "
        "in flight, and these are more than a batch; default: %(default)s",
    )
    parser.add_argument(
        "--max-seconds",
        type=positive,
        default=30.0,
        help="most seconds to receive a request, and to answer it; default: %(default)s",
    )
    parser.add_argument(
        "--max-requests",
        type=count,
        default=256,
        help="most requests at a time, whose bodies are held in memory; default: %(default)s",
    )


def work(args: argparse.Namespace) -> int:
    from reid_lab.optional import load

    for package in ("fastapi", "uvicorn", "prometheus_client"):
        load(package, "reid-lab serve")
    from reid_lab.serve.guard import Limits
    from reid_lab.serve.open import KEY_VARIABLE, open_service
    from reid_lab.serve.scheduler import Target

    with (
        printed_log(),
        open_service(
            args.model,
            args.people,
            galleries=args.gallery,
            run=args.run,
            metric=args.metric,
            target=Target(args.budget_ms, args.mul_adds, args.mean_ms, args.policy),
            limits=Limits(
                args.max_mib << 20,
                args.max_pixels,
                args.max_images,
                args.max_seconds,
                args.max_requests,
            ),
            max_wait_ms=args.max_wait_ms,
            batch_size=args.batch_size,
            threads=args.threads,
            host=args.host,
            port=args.port,
            allow_hosts=args.allow_host,
            key=os.environ.get(KEY_VARIABLE, ""),
        ) as service,
    ):
        describe(service)
        service.answer()
    return 0


@contextmanager
def printed_log() -> Iterator[None]:
    """Print what the service logs, such as the end of an upgrade."""
    log, handler = logging.getLogger("reid_lab.serve"), _Printed(logging.INFO)
    level, propagates = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagates


class _Printed(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


def describe(service: OpenService) -> None:
    """What is served, the cost of each exit, and last the address."""
    print(f"{service.people:,} people, {service.images:,} images, metric {service.metric}")
    print("exit         Mul-Adds     ms")
    costs = service.costs
    for name, operations, ms in zip(costs.exits, costs.mul_adds, costs.ms, strict=True):
        print(f"{name:<12} {operations:8.3g} {ms:6.2f}")
    if service.planned_ms is not None:
        print(gain(service.planned_ms, service.whole_ms))
    print(service.url, flush=True)


def gain(planned_ms: float, whole_ms: float) -> str:
    """What the mean budget saves on this machine."""
    saved = (
        f"an image takes {planned_ms:.2f} ms in full batches at the mean budget, "
        f"{whole_ms:.2f} ms if all take the last exit"
    )
    if planned_ms < whole_ms:
        return saved
    return (
        f"{saved}: here, early exit costs more than it saves; leave out the budget, or give the "
        "gallery of one earlier exit"
    )
