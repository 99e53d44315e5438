"""Checks of requests before the service reads them: limits, key, host; and errors as JSON."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reid_lab.serve.admission import Admission, BusyError
from reid_lab.serve.metrics import Metrics

Scope = Mapping[str, Any]
Message = Any
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

ARRIVED = "reid_lab.arrived"  # key in a request's scope: time at which its body was there
ADMITTED = "reid_lab.admitted"  # key in the scope of a POST: what admission counts it as
OPEN = {"/", "/health"}  # without a key: they show no person
SAFE = {"GET", "OPTIONS"}
UNCOUNTED = {"/model"}  # brings no images: taken under any load
HEADERS = [  # of every response
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


@dataclass(frozen=True)
class Limits:
    """Limits on requests.

    Attributes:
        body: bytes of a request's body.
        pixels: pixels of all images of a request together.
        images: images of a request.
        seconds: time to receive a request.
        requests: requests at a time.
    """

    body: int = 16 << 20
    pixels: int = 16_000_000
    images: int = 64
    seconds: float = 30.0
    requests: int = 256


class RequestError(Exception):
    """A refused request: HTTP status, message, and when to try again (503)."""

    def __init__(self, status: int, message: str, retry_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_seconds = status, message, retry_seconds


def error_body(status: int, message: str) -> bytes:
    """The one form of all errors."""
    return json.dumps({"error": {"status": status, "message": message}}).encode()


class Guard:
    """ASGI middleware: reads a body whole and within limits before the application sees it.

    A refused request is neither decoded nor passed to the application.

    Args:
        app: the application.
        limits: limits on each request.
        metrics: counters of all requests.
        admission: admits or refuses requests with images (POST).
        key: API key, sent as the header `X-API-Key`; empty: no key is needed.
        hosts: accepted names in the Host header. Other names are refused, since a web page can
            rebind its own name to this machine (DNS rebinding).
    """

    def __init__(
        self,
        app: App,
        limits: Limits,
        metrics: Metrics,
        admission: Admission,
        key: str = "",
        hosts: frozenset[str] = frozenset(),
    ) -> None:
        self.app, self.limits, self.key, self.hosts = app, limits, key, hosts
        self.metrics, self.admission, self.running = metrics, admission, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, head = False, scope["method"] == "HEAD"
        if head:  # as GET, without the body
            scope = {**scope, "method": "GET"}

        async def sent(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            elif head:
                message = {**message, "body": b""}
            await send(message)

        self.running += 1
        try:
            self._check(scope)
            body = await asyncio.wait_for(self._body(scope, receive), self.limits.seconds)
            work = self._answer(scope, _replayed(body, receive), sent)
            await asyncio.wait_for(work, self.limits.seconds)
        except RequestError as error:
            await self._refuse(error, sent)
        except BusyError as error:
            await self._refuse(RequestError(503, str(error), error.seconds), sent)
        except asyncio.TimeoutError:
            message = f"it took more than {self.limits.seconds:g} s (--max-seconds)"
            if not started:
                await self._refuse(RequestError(408, message), sent)
        finally:
            self.running -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer.

        Raises:
            BusyError: the answer would take too long.
        """
        if scope["method"] != "POST" or scope["path"] in UNCOUNTED:
            await self._timed(scope, receive, send)
            return
        admitted = self.admission.enter()
        try:
            await self._timed({**scope, ADMITTED: admitted}, receive, send)
        finally:
            self.admission.leave(admitted)

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and count the answer by route and status."""
        start, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        timed = {**scope, ARRIVED: start}
        try:
            await self.app(timed, receive, sent)
        finally:
            path = getattr(timed.get("route"), "path", "other")  # the application notes it there
            if status:
                self.metrics.answered(path, status, time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        """Raises:
        RequestError: the request is not answered, whatever its body.
        """
        headers = {k.lower(): v.decode("latin-1") for k, v in scope["headers"]}
        host = _host(headers.get(b"host", ""))
        if self.hosts and host not in self.hosts:
            raise RequestError(
                403,
                f"unknown host {host[:100]!r}: start the service with --allow-host {host[:100]}",
            )
        if self.key and scope["path"] not in OPEN:
            given = headers.get(b"x-api-key", "").encode("latin-1")
            if not secrets.compare_digest(given, self.key.encode()):
                raise RequestError(401, "the header X-API-Key is missing or wrong")
        origin = headers.get(b"origin")
        if scope["method"] not in SAFE and origin and _host(origin.partition("://")[2]) != host:
            raise RequestError(403, "requests from pages of other sites are refused")
        if self.running > self.limits.requests:
            raise RequestError(503, f"{self.limits.requests} requests are running: try again")
        length = headers.get(b"content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > self.limits.body:
            raise self._too_large()

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise RequestError(400, "the request ended before its body")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.limits.body:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(parts)

    def _too_large(self) -> RequestError:
        allowed = f"a body may have {self.limits.body:,} bytes (--max-mib)"
        return RequestError(413, f"{allowed}: send fewer images, or smaller ones")

    async def _refuse(self, error: RequestError, send: Send) -> None:
        self.metrics.refused(error.status)
        body = error_body(error.status, error.message)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if error.status == 503:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_seconds))))
        if error.status in (408, 413):  # the rest of the body is not read
            headers.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": error.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body})


def _host(text: str) -> str:
    """The name in `name:port` or `[::1]:port`."""
    if text.startswith("["):
        return text[1:].partition("]")[0].lower()
    return text.partition(":")[0].lower()


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that replays a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()  # waits for the client to disconnect
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
