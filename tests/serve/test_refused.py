"""Requests that are refused: with a status of its own, and a message that says how to go on."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from reid_lab.images import pixels
from reid_lab.serve import people_file
from reid_lab.serve.guard import Limits
from reid_lab.serve.people_file import PeopleFile
from tests.serve.clients import GREEN, RED, Make, enroll, error, files
from tests.serve.network import png

MALFORMED = 1_000 if os.environ.get("REID_LAB_TORTURE") == "1" else 300


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100_000, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def saved(kind: str, mode: str, side: int, **more: Any) -> bytes:
    """A valid file of so many times as many pixels as bytes."""
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, kind, **more)
    return buffer.getvalue()


def webp(form: bytes, sides: bytes) -> bytes:
    """The start of a WebP of this variant."""
    return b"RIFF" + struct.pack("<I", 40) + b"WEBP" + form + struct.pack("<I", 10) + sides


WEBP_SIDES = {
    b"VP8X": bytes(4) + b"\xff\xff\0" * 2,  # 65,536 x 65,536
    b"VP8L": b"\x2f\xff\xff\xff\x0f",  # 16,384 x 16,384
    b"VP8 ": b"\x30\x01\0\x9d\x01\x2a\xff\x3f\xff\x3f",  # 16,383 x 16,383
}
# a canvas of 8 x 8 that holds an image of 16,384 x 16,384
LYING_WEBP = webp(b"VP8X", bytes(4) + b"\7\0\0" * 2) + webp(b"VP8L", WEBP_SIDES[b"VP8L"])[12:]
BOMBS = {
    "PNG": bomb(50_000, 50_000),
    "TIFF, deflate": saved("TIFF", "L", 4_000, compression="tiff_deflate"),
    "TIFF, LZW": saved("TIFF", "L", 4_000, compression="tiff_lzw"),
    "TIFF, group 4": saved("TIFF", "1", 8_000, compression="group4"),
    "JPEG": saved("JPEG", "L", 2_000),
    **{f"WebP, {form.decode()}": webp(form, sides) for form, sides in WEBP_SIDES.items()},
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_by_their_headers(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def decoded(*given: object, **more: object) -> None:
        raise AssertionError("the pixels are decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", decoded)
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile.load", decoded)
    monkeypatch.setattr(pixels, "simplejpeg", None)
    error(client.post("/search", files=files(BOMBS[kind])), 413, "the limit is 10,000 pixels")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (saved("GIF", "L", 4_000), "it is a GIF, which is not read"),
        (LYING_WEBP, "damaged"),
    ],
    ids=["GIF", "WebP"],
)
def test_bombs_that_are_not_decoded(client: TestClient, data: bytes, text: str) -> None:
    error(client.post("/search", files=files(data)), 422, text)


def test_a_full_disk_is_no_fault_of_the_request(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: PeopleFile, statement: str, *values: object) -> sqlite3.Cursor:
        raise sqlite3.OperationalError("database or disk is full")

    before = client.get("/people").json()
    body = {"files": files(png(*RED)), "data": {"pid": "anna"}}
    with monkeypatch.context() as patch:
        patch.setattr(PeopleFile, "change", full)
        error(client.post("/enroll", **body), 507, "disk is full), nothing was changed: free space")
    assert client.get("/people").json() == before
    assert client.post("/enroll", **body).status_code == 201


def test_a_file_that_another_process_holds(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_file, "WAIT_SECONDS", 0.05)
    client = make()
    enroll(client, ben=GREEN)
    before = client.get("/people").json()
    body = {"files": files(png(*RED)), "data": {"pid": "anna"}}
    with closing(sqlite3.connect(tmp_path / "p.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for refused in (client.post("/enroll", **body), client.delete("/people/ben")):
            error(refused, 503, "another process holds")
            assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/people").json() == before
        other.execute("ROLLBACK")
    assert client.post("/enroll", **body).status_code == 201


@pytest.mark.parametrize(
    ("images", "status", "text"),
    [
        ([png(*RED, size=(101, 100))], 413, "may have 10,000 pixels together (--max-pixels)"),
        (
            [png(*RED, size=(70, 100))] * 2,
            413,
            "x.png (image 1) cannot be read as an",
        ),
        ([b""], 422, "it is empty"),
        ([b"GIF89a" + b"\0" * 50], 422, "x.png cannot be read as an image: it is a GIF"),
        ([b"x" * 50], 422, "does not start like an image. Replace or remove it; supported: JPEG"),
        ([png(*RED)[:-20]], 422, "damaged"),
        ([png(*RED)] * 5, 413, "allowed: at most 4 (--max-images)"),
        ([b"x" * 200_000], 413, "a body may have 200,000 bytes"),
    ],
)
def test_images_that_are_refused(
    client: TestClient, images: list[bytes], status: int, text: str
) -> None:
    error(client.post("/search", files=files(*images)), status, text)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 422, "images: given (absent); allowed: a list of files of length >= 1; fix: curl"),
        ({"images": []}, 422, "images"),
        ({"images": "x"}, 422, "images"),
        ({"images": ["*"]}, 422, 'images.0: given "*"; allowed: a file as base64'),
        ({"images": [5]}, 422, "images.0: given 5; allowed: a file as base64"),
        ({"images": ["data:text/plain;base64,AAAA"]}, 422, "images.0"),
        ({"images": ["AAAA"] * 5}, 413, "images: given 5; allowed: at most 4"),
        ({"images": ["AAAA"], "boxes": [[0, 0, 1, 1]] * 5}, 413, "boxes: given 5"),
        (
            {"images": ["AAAA"], "tpo": 1},
            422,
            "tpo: given 1; allowed: one of the fields: images",
        ),
        ({"images": ["AAAA"], "tpo": 1}, 422, "fix: did you mean top?"),
        ({"images": ["AAAA"], "top": 0}, 422, "allowed: an integer >= 1 and <= 100"),
        ({"images": ["AAAA"], "top": 0}, 422, "fix: correct it, or leave it out for 5"),
        ({"images": ["AAAA"], "track": "maybe"}, 422, 'track: given "maybe"; allowed: true or'),
        ({"images": ["AAAA"], "top": 1e9}, 422, "top"),
        ({"images": ["AAAA"], "exclude_camid": "a\nb"}, 422, "without control characters"),
        ({"images": ["AAAA"], "deadline_ms": -1}, 422, "deadline_ms"),
        (
            {"images": ["AAAA"], "deadline_ms": float("nan")},
            422,
            "a finite number > 0 and <= 60000",
        ),
        (
            {"images": ["AAAA"], "boxes": [[1, 2, 3]]},
            422,
            "boxes.0: given [1, 2, 3]; allowed: a",
        ),
        ({"images": ["AAAA"], "top": 0, "track": 3}, 422, "\ntrack: given 3"),
        ({"images": ["AAAA"], "top": json.loads("[" * 900 + "]" * 900)}, 422, "top: given"),
        ({"images": ["AAAA"], "boxes": [[1, 2, 3, float("inf")]]}, 422, "boxes.0"),
        ({"images": ["AAAA", "AAAA"], "boxes": []}, 422, "allowed: one image, a frame"),
        ([], 400, "must be a JSON object"),
        ("[" * 100_000, 400, "not JSON"),
        ("{", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
    ],
)
def test_bodies_that_are_refused(client: TestClient, body: Any, status: int, text: str) -> None:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    headers = {"content-type": "application/json"}
    error(client.post("/search", content=content, headers=headers), status, text)


@pytest.mark.parametrize("pid", ["", "x" * 201, "a\nb", "\x00", ".", ".."])
def test_names_that_are_refused(client: TestClient, pid: str) -> None:
    error(client.post("/enroll", files=files(png(*RED)), data={"pid": pid}), 422, "pid")


@pytest.mark.parametrize(
    "path", ["/../etc/passwd", "/images/..%2f..%2fetc%2fpasswd", "/images/-1", "/images/1e9", "/x"]
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code in (404, 422)
    assert "error" in response.json()


# Starlette leaves the files of a form that it cannot parse to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_malformed_bodies_by_the_hundred(
    client: TestClient, record_property: Callable[[str, object], None]
) -> None:
    """Damaged forms and JSON: a message each, and the service goes on."""
    rng, good = random.Random(0), png(*RED)
    request = client.build_request("POST", "/search", files=files(good), data={"top": "3"})
    form, kind = request.read(), request.headers["content-type"]
    text = json.dumps({"images": [base64.b64encode(good).decode()], "top": 3}).encode()
    seen, bad = set(), 0
    for number in range(MALFORMED):
        body = bytearray(form if number % 2 else text)
        for _ in range(rng.randint(1, 8)):
            place = rng.randrange(len(body))
            body[place : place + rng.randint(0, 9)] = rng.randbytes(rng.randint(0, 9))
        headers = {"content-type": kind if number % 2 else "application/json"}
        response = client.post("/search", content=bytes(body), headers=headers)
        status = response.status_code
        seen.add(status)
        message = status == 200 or response.json()["error"]["message"]
        bad += status not in (200, 400, 422) or not message
    record_property("torture cases", ("bodies", MALFORMED, bad))
    assert not bad and {400, 422} <= seen
    assert client.post("/search", files=files(good)).status_code == 200


def test_lengths_that_lie(client: TestClient) -> None:
    headers = {"content-length": "9" * 30, "content-type": "application/json"}
    error(client.post("/search", content=b"{}", headers=headers), 413)

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    error(client.post("/search", content=endless()), 413)


def test_too_many_at_a_time(make: Make) -> None:
    client = make(limits=Limits(requests=0))
    response = client.get("/people")
    error(response, 503, "try again")
    assert response.headers["retry-after"] == "1"


def test_an_unknown_path_is_told_the_routes(client: TestClient) -> None:
    error(client.get("/serach"), 404, "there is no '/serach'; the routes are")
    error(client.get("/serach"), 404, "POST /search")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/people?foo=1", 'foo: given "1"; allowed: one of the parameters: start, limit'),
        ("/people?limt=1", "fix: did you mean limit?"),
        ("/people?limit=0", 'limit: given "0"; allowed: an integer >= 1 and <= 1000'),
        ("/people?limit=x", "leave it out for 100"),
        ("/people?start=%00", "without control characters"),
        ("/images/1e9", 'image: given "1e9"; allowed: an integer'),
        ("/images/1?image=2", "allowed: no parameter at all"),
        ("/status?x=1", "allowed: no parameter at all; fix: remove it"),
    ],
)
def test_parameters_that_are_refused(client: TestClient, path: str, text: str) -> None:
    error(client.get(path), 422, text)


def test_fields_behind_the_path_are_refused(client: TestClient) -> None:
    error(client.post("/search?top=1", files=files(png(*RED))), 422, "top: given")


def test_damaged_images_are_named(client: TestClient) -> None:
    upload = [("images", (name, b"GIF89a")) for name in ("a.png", "a.gif")]
    error(client.post("/embed", files=upload[1:]), 422, "a.gif cannot be read as an image")
    error(client.post("/embed", files=upload), 422, "a.png (image 0) cannot be read")
    damaged = {"images": [base64.b64encode(b"GIF89a").decode()]}
    error(client.post("/embed", json=damaged), 422, "image 0 cannot be read as an image: it is a")


def test_a_form_of_too_many_or_too_long_fields(client: TestClient) -> None:
    many = {f"x{i}": "1" for i in range(30)}
    error(client.post("/search", files=files(png(*RED)), data=many), 413, "Too many fields")


def test_methods_and_types(client: TestClient) -> None:
    error(client.get("/search"), 405, "allowed: POST")
    for method, path, allowed in [
        ("GET", "/search", "POST"),
        ("PUT", "/labels", "GET, HEAD, POST"),
        ("POST", "/people/anna", "DELETE"),
        ("DELETE", "/", "GET, HEAD"),
    ]:
        assert client.request(method, path).headers["allow"] == allowed
    error(client.post("/search", content=b"x", headers={"content-type": "text/plain"}), 415)


@pytest.mark.parametrize("pid", ["0", "-1"])
def test_nobody_cannot_be_added(client: TestClient, pid: str) -> None:
    found = client.post("/enroll", files=files(png(*RED)), data={"pid": pid})
    error(found, 422, "names no person")
