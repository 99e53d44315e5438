"""Fixtures of the routes' tests, which need FastAPI."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("fastapi"):
    from tests.serve.clients import client, make  # noqa: F401
