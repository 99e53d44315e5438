"""The routes of the service."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, PlainTextResponse
from PIL import Image
from pydantic import BaseModel
from starlette.background import BackgroundTask

from reid_lab import __version__
from reid_lab.serve.answers import (
    ComparedAnswer,
    EmbedAnswer,
    EmbeddedAnswer,
    EnrollAnswer,
    ErrorAnswer,
    FoundAnswer,
    KeptLabel,
    LabelAnswer,
    LabelsAnswer,
    PeopleAnswer,
    PersonAnswer,
    RemovedAnswer,
    SearchAnswer,
    VerifyAnswer,
)
from reid_lab.serve.api_page import api_page
from reid_lab.serve.bodies import (
    EmbedBody,
    EnrollBody,
    ImagesBody,
    LabelBody,
    SearchBody,
    Text,
    VerifyBody,
    read_body,
    schema_of,
)
from reid_lab.serve.duplicates import duplicates
from reid_lab.serve.faults import add_errors, known_parameters
from reid_lab.serve.guard import Guard, RequestError
from reid_lab.serve.in_force import Serving
from reid_lab.serve.model_routes import add_model
from reid_lab.serve.people import NewImage, People, ReplacedError, names_person
from reid_lab.serve.scheduler import Embedded
from reid_lab.serve.service import Service, rate_of, verdict
from reid_lab.serve.threads import in_thread
from reid_lab.vectors.pooling import pool, spread

PAGE = Path(__file__).with_name("page.html")
THUMBNAIL, QUALITY = 384, 90  # height in pixels, JPEG quality; a new model embeds it again
POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
DISTANCES = 4_000_000  # between queries and images that a request holds at once: 16 MB
BODIES: dict[str, type[ImagesBody]] = {
    "/embed": EmbedBody,
    "/search": SearchBody,
    "/verify": VerifyBody,
    "/enroll": EnrollBody,
    "/labels": LabelBody,
}
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request is refused"},
    "5XX": {
        "model": ErrorAnswer,
        "description": "Try again later (503), a full or read-only disk (507), or a fault (500)",
    },
}
_REFERENCE = {"schema": {"$ref": f"#/components/schemas/{ErrorAnswer.__name__}"}}
# errors are JSON where the answer is not: a `model` would be described in the answer's own type
FILE_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": said["description"], "content": {"application/json": _REFERENCE}}
    for status, said in ERRORS.items()
}


class JpegResponse(Response):
    media_type = "image/jpeg"


def build_app(service: Service, key: str = "", hosts: frozenset[str] = frozenset()) -> Guard:
    """The ASGI application.

    Args:
        key: API key that requests must send as `X-API-Key`; empty: no key.
        hosts: host names under which the service is reached; empty: any.
    """
    app = FastAPI(
        title="reid-lab",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(known_parameters)],
        responses=ERRORS,
    )
    add_errors(app)
    _add_queries(app, service)
    _add_people(app, service)
    _add_labels(app, service)
    _add_pages(app, service)
    add_model(app, service)

    return Guard(app, service.limits, service.metrics, service.admission, key, hosts)


def _post(app: FastAPI, path: str, kind: type[BaseModel], status: int = 200) -> Callable[..., Any]:
    """Add a route with its body from `BODIES` and this kind of answer."""
    extra = {"requestBody": schema_of(BODIES[path])}
    return app.post(path, status_code=status, response_model=kind, openapi_extra=extra)


def _add_queries(app: FastAPI, service: Service) -> None:
    limits = service.limits

    @_post(app, "/embed", EmbedAnswer)
    async def embed(request: Request) -> Response:
        """Embeddings of images or boxes: of one exit each, or of every one."""
        body = await read_body(request, EmbedBody, limits)
        with service.in_force.use() as serving:
            _, found = await service.embed(serving, body, request, body.deadline_ms, body.every)
            return await _encoded(
                lambda: EmbedAnswer(results=[_embedded(e) for e in found]), serving, found
            )

    @_post(app, "/search", SearchAnswer)
    async def search(request: Request) -> Response:
        """The nearest people of each image, box, or track, and whether the person is known."""
        body = await read_body(request, SearchBody, limits)
        exclude = body.exclude_camid or None
        ms, track = body.deadline_ms, body.track
        with service.in_force.use() as serving:
            _, found = await service.embed(serving, body, request, ms, False, exclude, track)
            people = serving.people
            return await _encoded(
                lambda: SearchAnswer(results=_searched(people, body, found)), serving, found
            )

    @_post(app, "/verify", VerifyAnswer)
    async def verify(request: Request) -> Response:
        """Whether each image is of one person (accepted), and who is near (verdict)."""
        body = await read_body(request, VerifyBody, limits)
        with service.in_force.use() as serving:
            people = serving.people
            if not people.knows(body.pid):
                raise _unknown_person(body.pid)
            _, found = await service.embed(serving, body, request, body.deadline_ms)
            return await _encoded(
                lambda: VerifyAnswer(results=_verified(people, body, found)), serving, found
            )


async def _encoded(
    answer: Callable[[], BaseModel], serving: Serving, found: Sequence[Embedded]
) -> Response:
    """Compute and encode an answer off the event loop.

    Its time is reported to the scheduler, which reserves as much of a deadline for sending.
    """
    content = await in_thread(lambda: answer().model_dump_json())

    async def sent() -> None:
        serving.scheduler.sent(found)

    return Response(content, media_type="application/json", background=BackgroundTask(sent))


def _unknown_person(pid: str) -> RequestError:
    return RequestError(404, f"unknown person {pid[:200]!r}: GET /people lists those who are known")


def _searched(people: People, body: SearchBody, found: Sequence[Embedded]) -> list[FoundAnswer]:
    results, exclude = [], body.exclude_camid or None
    spread = None
    if body.track and found:
        pooled, spread = _pooled(found, people.metric)
        found = [pooled]
    together = max(1, DISTANCES // max(1, len(people)))
    for start in range(0, len(found), together):
        part = found[start : start + together]
        rows = [e.embeddings[e.exit] for e in part]
        all_compared = people.compare_each([e.exit for e in part], rows, exclude)
        for embedded, compared in zip(part, all_compared, strict=True):
            said = verdict(people, embedded.exit, compared, body.false_accept_rate)
            matches = people.search(compared, body.top)
            results.append(FoundAnswer(**_spent(embedded), **said, spread=spread, matches=matches))
    return results


def _verified(people: People, body: VerifyBody, found: Sequence[Embedded]) -> list[ComparedAnswer]:
    results, rate = [], body.false_accept_rate
    for embedded in found:
        exit, row = embedded.exit, embedded.embeddings[embedded.exit]
        distance = people.distance(exit, row, body.pid)
        threshold = people.threshold(exit, rate, pairs=True)
        below = None if threshold is None else threshold.distance
        results.append(
            ComparedAnswer(
                **_spent(embedded),
                **verdict(people, exit, people.compare(exit, row), rate),
                distance=distance,
                accepted=None if below is None or distance is None else distance < below,
                pair_threshold=below,
                pair_false_accept_rate=rate_of(threshold),
            )
        )
    return results


def _pooled(found: Sequence[Embedded], metric: str) -> tuple[Embedded, float]:
    """One answer for a track, and the mean distance of its images to their mean.

    The mean embedding is that of the last exit that all images have reached; under cosine, of
    embeddings of length 1.
    """
    exit = min(found, key=lambda e: len(e.embeddings)).exit
    rows = np.stack([e.embeddings[exit] for e in found])
    (mean,) = pool(rows, np.zeros(len(rows), np.int64), 1, metric)
    spent, late = sum(e.mul_adds for e in found), max(e.late_ms for e in found)
    ms = max(e.ms for e in found)
    return Embedded({exit: mean}, exit, spent, ms, late), spread(rows, mean, metric)


def _spent(embedded: Embedded) -> dict[str, Any]:
    names = ("exit", "mul_adds", "ms", "late_ms")
    return {name: getattr(embedded, name) for name in names}


def _embedded(embedded: Embedded) -> EmbeddedAnswer:
    rows = {name: row.tolist() for name, row in embedded.embeddings.items()}
    return EmbeddedAnswer(**_spent(embedded), embeddings=rows)


def _add_people(app: FastAPI, service: Service) -> None:
    @_post(app, "/enroll", EnrollAnswer, 201)
    async def enroll(request: Request) -> EnrollAnswer:
        """Add images of a person; they are on the disk when this answers."""
        body = await read_body(request, EnrollBody, service.limits)
        if not body.queries:
            raise RequestError(422, "there are no boxes to add")
        if not names_person(body.pid):
            raise RequestError(
                422, f"pid {body.pid!r} names no person (-1 is junk, 0 a distractor)"
            )
        while True:
            with service.in_force.use() as serving, suppress(ReplacedError):
                crops, found = await service.embed(serving, body, request, every=True)
                return await in_thread(_enrolled, serving.people, body, crops, found)

    @app.get("/people")
    def listed(
        start: Annotated[Text, Query(description="only people whose names are behind this")] = "",
        limit: Annotated[int, Query(ge=1, le=1_000, description="people in an answer")] = 100,
    ) -> PeopleAnswer:
        """People in the order of their names, with their number of images."""
        found = service.people.listed(start, limit)
        return PeopleAnswer(
            people=[PersonAnswer(pid=p, images=n, image=image) for p, n, image in found],
            next=found[-1][0] if len(found) == limit else None,
        )

    @app.delete("/people/{pid:path}")
    def remove(pid: Annotated[str, InPath(description="the person's name")]) -> RemovedAnswer:
        """Remove a person: images, embeddings and labels are overwritten on the disk."""
        pid = service.people.spelling(pid)
        removed = service.people.remove(pid)
        if not removed:
            raise _unknown_person(pid)
        return RemovedAnswer(pid=pid, removed=removed)

    @app.get("/images/{image}", response_class=JpegResponse, responses=FILE_ERRORS)
    def image_file(image: Annotated[int, InPath(description="its number")]) -> Response:
        """The JPEG thumbnail of an image."""
        data = service.people.thumbnail(image) if 0 < image < 2**63 else None
        if data is None:
            raise RequestError(404, f"image {image} has no thumbnail")
        return JpegResponse(data)


def _enrolled(
    people: People, body: EnrollBody, crops: Sequence[np.ndarray], found: Sequence[Embedded]
) -> EnrollAnswer:
    rows = {name: np.stack([e.embeddings[name] for e in found]) for name in people.exits}
    images = [NewImage(body.camid, "", thumbnail(crop)) for crop in crops]
    ids = people.add(body.pid, images, rows)
    copies = duplicates(people.rows, people.exits[-1], ids)
    return EnrollAnswer(pid=people.spelling(body.pid), images=ids, duplicates=copies)


def thumbnail(crop: np.ndarray) -> bytes:
    """JPEG of pixels (H, W, 3), at most `THUMBNAIL` high."""
    image = Image.fromarray(np.ascontiguousarray(crop))
    image.thumbnail((2 * THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _add_labels(app: FastAPI, service: Service) -> None:
    @_post(app, "/labels", LabelAnswer, 201)
    async def label(request: Request) -> LabelAnswer:
        """Keep what a user said of a match, with the image."""
        body = await read_body(request, LabelBody, service.limits)
        if body.queries != 1:
            raise RequestError(422, "a label is of one image, or of one box")
        with service.in_force.use() as serving:
            (crop,), (found,) = await service.embed(serving, body, request, every=True)
            return LabelAnswer(label=await in_thread(kept, serving.people, body, crop, found))

    def kept(people: People, body: LabelBody, crop: np.ndarray, found: Embedded) -> int:
        distance = people.distance(found.exit, found.embeddings[found.exit], body.pid)
        if distance is None:
            raise _unknown_person(body.pid)
        return people.label(body.pid, body.correct, found.exit, distance, thumbnail(crop))

    @app.get("/labels")
    def labels() -> LabelsAnswer:
        """All labels: what was confirmed and rejected, with distances."""
        kept = [
            KeptLabel(label=i, pid=pid, correct=right, exit=exit, distance=far, time=when)
            for i, pid, right, exit, far, when in service.people.labels()
        ]
        return LabelsAnswer(labels=kept)


def _add_pages(app: FastAPI, service: Service) -> None:
    page = PAGE.read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, responses=FILE_ERRORS)
    def home() -> HTMLResponse:
        """The page for people."""
        return HTMLResponse(page, headers={"content-security-policy": POLICY})

    @app.get("/docs", response_class=HTMLResponse, responses=FILE_ERRORS)
    def docs() -> HTMLResponse:
        """This list."""
        return HTMLResponse(api_page(app, BODIES), headers={"content-security-policy": POLICY})

    @app.get("/metrics", response_class=PlainTextResponse, responses=FILE_ERRORS)
    def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
