"""`reid-lab serve`: open everything, then listen."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from reid_lab.errors import UserError, first
from reid_lab.files.folders import locked
from reid_lab.files.outputs import check_writable
from reid_lab.images.pixels import ImageError, read_pixels
from reid_lab.runtime.model import Model
from reid_lab.serve.admission import Admission
from reid_lab.serve.app import build_app, thumbnail
from reid_lab.serve.frontier import read_frontier
from reid_lab.serve.galleries import open_galleries
from reid_lab.serve.guard import Limits
from reid_lab.serve.in_force import InForce, Serving
from reid_lab.serve.metrics import Metrics
from reid_lab.serve.people import People
from reid_lab.serve.scheduler import Scheduler, Target
from reid_lab.serve.service import Service
from reid_lab.serve.upgrade import Galleries, Upgrader, finish_interrupted

KEY_VARIABLE = "REID_LAB_API_KEY"  # environment variable of the key
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; running requests are answered first.

    Raises:
        UserError: not an export, people or a run of another network, an unusable address, or a file
            of people that another service uses.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if args.host not in LOCAL and not key:
        raise UserError(
            f"--host {args.host} is reached from other machines: set the environment variable "
            f"{KEY_VARIABLE}, which requests must have as X-API-Key"
        )
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # malformed forms are answered
    model = Model(args.model, args.threads)
    with only_service_of(args.people):
        model.open_whole()
        _serve_people(args, model, key)
    return 0


@contextmanager
def only_service_of(people: Path) -> Iterator[None]:
    """Lock a file of people, since a service does not see the writes of another one.

    Raises:
        UserError: another service holds it, or it cannot be written to.
    """
    busy = UserError(f"{people} is used by another service: stop it, or give another --people")
    if people.is_dir():
        raise UserError(f"{people} is not a file of people (a folder): give another --people")
    check_writable(people)
    people.parent.mkdir(parents=True, exist_ok=True)
    with locked(people.with_name(f"{people.name}.lock"), busy):
        yield


def _serve_people(args: argparse.Namespace, model: Model, key: str) -> None:
    frontier = read_frontier(args.run, model.manifest, args.policy) if args.run else ()
    people = open_people(args.people, model, args.gallery, args.metric)
    listening = listening_at(args.host, args.port)
    target = Target(args.budget_ms, args.mul_adds, args.mean_ms, args.policy)
    scheduler = Scheduler(model, people, target, args.batch_size)
    in_force = InForce(Serving(model, people, scheduler, frontier))
    between_ms = float(scheduler.costs.ms[-1])  # until it is measured
    admission = Admission(args.max_wait_ms, args.batch_size, between_ms)
    limits = Limits(
        args.max_mib << 20, args.max_pixels, args.max_images, args.max_seconds, args.max_requests
    )
    metrics = Metrics(in_force, admission)
    service = Service(in_force, upgrader_of(args, in_force, target), admission, limits, metrics)
    hosts = frozenset() if args.host in ("0.0.0.0", "::") and not args.allow_host else LOCAL
    _describe(service, listening)
    serve(service, listening, key, hosts and hosts | {args.host.lower(), *args.allow_host})


def upgrader_of(args: argparse.Namespace, in_force: InForce, target: Target) -> Upgrader:
    """An upgrader to the later content of the folders of the command line."""

    def read(metric: str) -> tuple[Model, Galleries]:
        model = Model(args.model, args.threads)
        model.open_whole()
        return model, open_galleries(args.gallery, model.manifest, metric)

    def start(model: Model, people: People) -> Serving:
        try:
            frontier = read_frontier(args.run, model.manifest, args.policy) if args.run else ()
        except UserError:  # --run is of the old model: the page shows no accuracies
            frontier = ()
        return Serving(model, people, Scheduler(model, people, target, args.batch_size), frontier)

    def added(people: People, galleries: Galleries) -> int:
        return people.add_gallery(galleries, _thumbnail_of)

    return Upgrader(in_force, read, start, added)


def serve(
    service: Service, listening: socket.socket, key: str = "", hosts: frozenset[str] = LOCAL
) -> None:
    """Answer requests until Ctrl-C or SIGTERM; then finish running ones and close everything."""
    config = uvicorn.Config(
        build_app(service, key, hosts), log_level="warning", access_log=False, lifespan="off"
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        service.upgrader.close()
        service.in_force.now.scheduler.close()
        service.people.close()
        listening.close()


def open_people(
    path: Path, model: Model, folders: Sequence[Path], metric: str | None = None
) -> People:
    """Open a file of people, and add the images of galleries that it lacks.

    Args:
        folders: galleries of the same images, one for each exit.
        metric: metric of a new file; None takes the galleries' metric, or euclidean.

    Raises:
        UserError: galleries of other exits, metrics or images than those of the file.
    """
    manifest, new = model.manifest, not path.exists()
    galleries = open_galleries(folders, manifest, metric)
    wanted = next((g.card.metric for g in galleries.values()), metric)
    finished = finish_interrupted(path, model, galleries, wanted or "euclidean")
    if finished is not None:
        print(f"{path}: {finished:,} images moved to this model; the upgrade was interrupted")
    people = People.open(path, manifest, wanted or "euclidean", list(galleries))
    try:
        if wanted and people.metric != wanted:
            raise UserError(f"{path} is of the metric {people.metric}, not {wanted}")
        if galleries:
            _add_galleries(people, galleries, folders)
        elif new:
            others = sorted(p.name for p in path.parent.glob(f"*{path.suffix}") if p != path)
            beside = f"; beside it: {', '.join(first(others))}" if others else ""
            print(f"{path}: a new file, without people{beside}")
    except BaseException:
        people.close()
        raise
    return people


def _add_galleries(people: People, galleries: Galleries, folders: Sequence[Path]) -> None:
    if list(people.exits) != list(galleries):
        raise UserError(
            f"{people.path} has the exits {', '.join(people.exits)}, the galleries are of "
            f"{', '.join(galleries)}: give one gallery for each, or another --people"
        )
    added = people.add_gallery(galleries, _thumbnail_of)
    print(f"{people.path}: {added:,} images added from {', '.join(map(str, folders))}")


def _thumbnail_of(path: str) -> bytes:
    """The thumbnail of a file; empty if it cannot be read, as on another machine."""
    try:
        return thumbnail(read_pixels(Path(path)))
    except ImageError:
        return b""


def listening_at(host: str, port: int) -> socket.socket:
    """A listening socket, so that an address in use is an error before anything runs.

    Raises:
        UserError: the address cannot be used.
    """
    found = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if sys.platform != "win32":  # there it would share the port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(1_024)  # who connects before the service runs waits
    except OSError as error:
        if found is not None:
            found.close()
        raise UserError(
            f"cannot listen at {host}:{port} ({error.strerror or error}): give another --host or "
            "--port"
        ) from error
    return found


def _describe(service: Service, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    people, images = service.people.count()
    print(f"{people:,} people, {images:,} images, metric {service.people.metric}")
    scheduler = service.in_force.now.scheduler
    costs = scheduler.costs
    print("exit         Mul-Adds     ms")
    for name, mul_adds, ms in zip(costs.exits, costs.mul_adds, costs.ms, strict=True):
        service.people.threshold(name, 0.01)  # before the first query waits for it
        print(f"{name:<12} {mul_adds:8.3g} {ms:6.2f}")
    if (planned := scheduler.planned_ms) is not None:
        print(_gain(planned, scheduler.whole_ms))
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}", flush=True)


def _gain(planned_ms: float, whole_ms: float) -> str:
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
