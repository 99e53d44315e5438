"""Fixtures of these tests; those of the routes need FastAPI."""

from __future__ import annotations

from importlib.util import find_spec

from tests.serve.files import opened  # noqa: F401

if find_spec("fastapi"):
    from tests.serve.clients import client, make  # noqa: F401
