"""Every error as {"error": {"status": ..., "message": ...}}."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match as Matched

from reid_lab.errors import UserError
from reid_lab.serve.admission import BusyError
from reid_lab.serve.guard import RequestError, error_body
from reid_lab.serve.people_file import LockedError, UnwritableError
from reid_lab.serve.problems import explained, parameters_of, unknown

RETRY_SECONDS = 5  # when another process holds the file of people


def respond(status: int, message: str, **headers: str) -> Response:
    return Response(error_body(status, message), status, headers, "application/json")


async def known_parameters(request: Request) -> None:
    """Raises:
    RequestError: the address has a parameter that the route does not take.
    """
    if not request.query_params:
        return
    route = request.scope["route"]
    fields = {
        name: field
        for name, field in parameters_of(route.endpoint).items()
        if name not in request.path_params
    }
    for name, value in request.query_params.multi_items():
        if name not in fields:
            raise RequestError(422, unknown(name, value, fields, "parameter").line)


def add_errors(app: FastAPI) -> None:
    """Answer the errors of all routes."""

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return respond(error.status, error.message)

    @app.exception_handler(UserError)
    async def wrong(request: Request, error: UserError) -> Response:
        if isinstance(error, LockedError):
            return respond(503, str(error), **{"retry-after": str(RETRY_SECONDS)})
        return respond(507 if isinstance(error, UnwritableError) else 422, str(error))

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:
        return respond(503, str(error), **{"retry-after": str(max(1, math.ceil(error.seconds)))})

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        given = {**request.query_params, **request.path_params}
        fields = parameters_of(request.scope["route"].endpoint)
        # the first of `loc` is where the parameter stands
        errors: list[dict[str, Any]] = [{**part, "loc": part["loc"][1:]} for part in error.errors()]
        return respond(422, explained(errors, given, fields, "parameter"))

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:200]
        if error.status_code == 404:
            routes = ", ".join(f"{method} {route.path_format}" for route, method in operations(app))
            message = f"there is no {path!r}; the routes are {routes}; /docs describes them"
            return respond(404, message)
        if error.status_code == 405:
            allowed = ", ".join(_methods_at(app, request))
            message = f"{request.method} {path!r} is not answered; allowed: {allowed}"
            return respond(405, message, allow=allowed)
        return respond(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return respond(500, f"internal error ({type(error).__name__}); the service's log has it")


def operations(app: FastAPI) -> Iterator[tuple[APIRoute, str]]:
    """The routes and their methods."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            yield from ((route, method) for method in sorted(route.methods or ()))


def _methods_at(app: FastAPI, request: Request) -> list[str]:
    """Methods allowed at the path of a request; HEAD is answered wherever GET is."""
    found = {
        method
        for route, method in operations(app)
        if route.matches(request.scope)[0] is not Matched.NONE
    }
    return sorted(found | ({"HEAD"} if "GET" in found else set()))
