"""Open what a service needs, then listen."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import uvicorn

from reid_lab.errors import UserError, first, with_options
from reid_lab.files.folders import locked
from reid_lab.files.outputs import check_writable
from reid_lab.images.pixels import ImageError, read_pixels
from reid_lab.output import arguments
from reid_lab.runtime.model import Model
from reid_lab.serve.admission import Admission
from reid_lab.serve.app import build_app, thumbnail
from reid_lab.serve.frontier import ServedAccuracy, read_frontier
from reid_lab.serve.galleries import open_galleries
from reid_lab.serve.guard import Limits
from reid_lab.serve.in_force import InForce, Serving
from reid_lab.serve.metrics import Metrics
from reid_lab.serve.people import People
from reid_lab.serve.people_file import not_people
from reid_lab.serve.prices import Costs
from reid_lab.serve.scheduler import RoutingPolicy, Scheduler, Target
from reid_lab.serve.service import Service
from reid_lab.serve.upgrade import Galleries, Upgrader, finish_interrupted

KEY_VARIABLE = "REID_LAB_API_KEY"  # environment variable of the key of `reid-lab serve`
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceFolders:
    """Where a service's network comes from, also when it is upgraded.

    Attributes:
        model: folder of an export.
        galleries: galleries of the same images, one for each exit in use.
        run: run of the checkpoint, whose accuracies the page shows; or None.
        batch_size: most images in a batch.
        threads: threads of the network; 0 takes all cores.
    """

    model: Path
    galleries: tuple[Path, ...] = ()
    run: Path | None = None
    batch_size: int = 32
    threads: int = 0

    def opened(self) -> Model:
        """The network of `model`."""
        return Model(self.model, self.threads)

    def frontier(self, model: Model, policy: str) -> Sequence[ServedAccuracy]:
        """The accuracies of `run`."""
        return read_frontier(self.run, model.manifest, policy) if self.run else ()


@dataclass(frozen=True)
class OpenService:
    """A service that listens; requests wait until `answer` runs.

    Attributes:
        url: its address.
        people: number of people.
        images: number of their images.
        metric: metric of the distances.
        costs: Mul-Adds and measured milliseconds up to each exit.
        planned_ms: milliseconds of an image in full batches at the mean budget; None without one.
        whole_ms: milliseconds of an image in full batches if all take the last exit.
        answer: answers requests until Ctrl-C or SIGTERM; running ones are finished.
    """

    url: str
    people: int
    images: int
    metric: str
    costs: Costs
    planned_ms: float | None
    whole_ms: float
    answer: Callable[[], None] = field(repr=False)


@contextmanager
def open_service(
    model: Path | str,
    people: Path | str,
    *,
    galleries: Sequence[Path | str] | Path | str = (),
    run: Path | str | None = None,
    metric: str | None = None,
    target: Target | None = None,
    limits: Limits | None = None,
    max_wait_ms: float = 1000.0,
    batch_size: int = 32,
    threads: int = 0,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_hosts: Sequence[str] = (),
    key: str = "",
) -> Iterator[OpenService]:
    """Open all that a service needs, and listen; everything is closed at the end.

    >>> with open_service("exported/", "people.sqlite") as service:
    ...     print(service.url)
    ...     service.answer()

    What happens meanwhile, such as the end of an upgrade, is logged at INFO.

    Args:
        model: folder of an export.
        people: SQLite file of the known people; created if missing.
        galleries: galleries of the same images to add to the people, one for each exit in use.
        run: run of the checkpoint: the page shows the accuracies of its test.
        metric: metric of a new file of people; None takes that of the galleries, or euclidean.
        target: budget of a query; None sets none.
        limits: limits on requests; None takes the defaults.
        max_wait_ms: a request is refused if its answer is expected to take longer.
        batch_size: most images in a batch.
        threads: threads of the network; 0 takes all cores.
        host: address to listen on.
        port: port; 0 takes a free one.
        allow_hosts: other host names that requests may use.
        key: what requests must have as `X-API-Key`; empty for none, on this machine only.

    Raises:
        UserError: people or a run of another network, an unusable address, a host that other
            machines reach without a key, or a file of people that another service uses.
        ExportError: not an export.
    """
    if host not in LOCAL and not key:
        why = f"host {host} is reached from other machines"
        raise with_options(
            UserError(f"{why}: give a key, which requests must have as X-API-Key"),
            f"--{why}: set the environment variable {KEY_VARIABLE}, which requests must have as "
            "X-API-Key",
        )
    if metric is not None:
        arguments.check_choice("metric", metric, ("euclidean", "cosine"))
    arguments.check_whole("batch_size", batch_size)
    arguments.check_whole("threads", threads, 0)
    arguments.check_number("max_wait_ms", max_wait_ms, 0)
    arguments.check_number("port", port, 0, 65535)
    arguments.check_whole("port", port, 0)
    if target is not None:
        _check_target(target)
    if limits is not None:
        arguments.check_type("limits", limits, Limits, "limits, such as Limits(images=8)")
    hosts = arguments.texts("allow_hosts", allow_hosts)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # malformed forms are answered
    folders = ServiceFolders(
        arguments.path("model", model),
        tuple(arguments.paths("galleries", galleries)),
        arguments.path_or_none("run", run),
        batch_size,
        threads,
    )
    network, target = folders.opened(), target or Target()
    people = arguments.path("people", people)
    with only_service_of(people):
        network.open_whole()
        frontier = folders.frontier(network, target.policy)
        known = open_people(people, network, folders.galleries, metric)
        with ExitStack() as opened:
            opened.callback(known.close)
            listening = opened.enter_context(listening_at(host, port))
            scheduler = Scheduler(network, known, target, batch_size)
            opened.pop_all()  # `_close` does it
        in_force = InForce(Serving(network, known, scheduler, frontier))
        between_ms = float(scheduler.costs.ms[-1])  # until it is measured
        admission = Admission(max_wait_ms, batch_size, between_ms)
        service = Service(
            in_force,
            upgrader_of(folders, in_force, target),
            admission,
            limits or Limits(),
            Metrics(in_force, admission),
        )
        everywhere = host in ("0.0.0.0", "::") and not hosts
        allowed = frozenset() if everywhere else LOCAL | {host.lower(), *hosts}
        try:
            yield _described(service, listening, lambda: _answer(service, listening, key, allowed))
        finally:
            _close(service, listening)


def _check_target(target: Target) -> None:
    arguments.check_type("target", target, Target, "a budget, such as Target(ms=20)")
    names = [n for n in ("ms", "mul_adds", "mean_ms") if getattr(target, n) is not None]
    for name in names:
        arguments.check_number(name, getattr(target, name), 0)
    if len(names) > 1:
        raise UserError(f"target has {' and '.join(names)}: give one of them")
    arguments.check_choice("policy", target.policy, get_args(RoutingPolicy))


@contextmanager
def only_service_of(people: Path) -> Iterator[None]:
    """Lock a file of people, since a service does not see the writes of another one.

    Raises:
        UserError: another service holds it, or it cannot be written to.
    """
    text = f"{people} is used by another service: stop it, or give another"
    busy = with_options(UserError(f"{text} file of people"), f"{text} --people")
    if people.is_dir():
        raise not_people(people, "a folder")
    check_writable(people)
    people.parent.mkdir(parents=True, exist_ok=True)
    with locked(people.with_name(f"{people.name}.lock"), busy):
        yield


def upgrader_of(folders: ServiceFolders, in_force: InForce, target: Target) -> Upgrader:
    """An upgrader to the later content of the folders."""

    def read(metric: str) -> tuple[Model, Galleries]:
        model = folders.opened()
        model.open_whole()
        return model, open_galleries(folders.galleries, model.manifest, metric)

    def start(model: Model, people: People) -> Serving:
        try:
            frontier = folders.frontier(model, target.policy)
        except UserError:  # the run is of the old model: the page shows no accuracies
            frontier = ()
        scheduler = Scheduler(model, people, target, folders.batch_size)
        return Serving(model, people, scheduler, frontier)

    def added(people: People, galleries: Galleries) -> int:
        return people.add_gallery(galleries, _thumbnail_of)

    return Upgrader(in_force, read, start, added)


def serve(
    service: Service, listening: socket.socket, key: str = "", hosts: frozenset[str] = LOCAL
) -> None:
    """Answer requests until Ctrl-C or SIGTERM; then finish running ones and close everything."""
    try:
        _answer(service, listening, key, hosts)
    finally:
        _close(service, listening)


def _answer(service: Service, listening: socket.socket, key: str, hosts: frozenset[str]) -> None:
    config = uvicorn.Config(
        build_app(service, key, hosts), log_level="warning", access_log=False, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listening])


def _close(service: Service, listening: socket.socket) -> None:
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
        moved = "images moved to this model; the upgrade was interrupted"
        log.info("%s: %s %s", path, f"{finished:,}", moved)
    people = People.open(path, manifest, wanted or "euclidean", list(galleries))
    try:
        if wanted and people.metric != wanted:
            raise UserError(f"{path} is of the metric {people.metric}, not {wanted}")
        if galleries:
            _add_galleries(people, galleries, folders)
        elif new:
            others = sorted(p.name for p in path.parent.glob(f"*{path.suffix}") if p != path)
            beside = f"; beside it: {', '.join(first(others))}" if others else ""
            log.info("%s: a new file, without people%s", path, beside)
    except BaseException:
        people.close()
        raise
    return people


def _add_galleries(people: People, galleries: Galleries, folders: Sequence[Path]) -> None:
    if list(people.exits) != list(galleries):
        text = (
            f"{people.path} has the exits {', '.join(people.exits)}, the galleries are of "
            f"{', '.join(galleries)}: give one gallery for each, or another"
        )
        raise with_options(UserError(f"{text} file of people"), f"{text} --people")
    added = people.add_gallery(galleries, _thumbnail_of)
    origin = ", ".join(map(str, folders))
    log.info("%s: %s images added from %s", people.path, f"{added:,}", origin)


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
        text = f"cannot listen at {host}:{port} ({error.strerror or error}): give another"
        raise with_options(UserError(f"{text} host or port"), f"{text} --host or --port") from error
    return found


def _described(
    service: Service, listening: socket.socket, answer: Callable[[], None]
) -> OpenService:
    host, port = listening.getsockname()[:2]
    people, images = service.people.count()
    scheduler = service.in_force.now.scheduler
    for name in scheduler.names:
        service.people.threshold(name, 0.01)  # before the first query waits for it
    shown = f"[{host}]" if ":" in host else host
    return OpenService(
        f"http://{shown}:{port}",
        people,
        images,
        service.people.metric,
        scheduler.costs,
        scheduler.planned_ms,
        scheduler.whole_ms,
        answer,
    )
