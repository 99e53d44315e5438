"""Text that a request may bring in any field is kept or compared as it is, and is nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from tests.serve.clients import GREEN, RED, files
from tests.serve.network import png

TEXTS = (
    *("<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "{{7*7}}${7*7}"),
    *("../../etc/passwd", "/etc/passwd", "..\\..\\x.png", "%2e%2e%2fetc%2fpasswd", "file:///etc"),
    *("a/b", "anna & 'bert'", "x'; DROP TABLE image; --", "%", "50%", "☃", "..."),
)
Answer = Any  # of the test client


def upload(name: str = "x.png") -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (name, png(*RED)))]


def embedded(client: TestClient, text: str) -> Answer:
    """The name of an uploaded file."""
    return client.post("/embed", files=upload(text))


def damaged(client: TestClient, text: str) -> Answer:
    """The name of a file that cannot be read, which the message repeats."""
    answer = client.post("/embed", files=[("images", (text, b"GIF89a"))])
    assert answer.status_code == 422
    return answer


def base64_text(client: TestClient, text: str) -> Answer:
    answer = client.post("/embed", json={"images": [text]})
    assert answer.status_code == 422
    return answer


def enrolled(client: TestClient, text: str) -> Answer:
    answer = client.post("/enroll", files=upload(), data={"pid": text})
    assert answer.json()["pid"] == text
    assert text in [person["pid"] for person in client.get("/people").json()["people"]]
    return answer


def of_camera(client: TestClient, text: str) -> Answer:
    answer = client.post("/enroll", files=upload(), data={"pid": "anna", "camid": text})
    (found,) = client.post("/search", files=upload()).json()["results"]
    assert text in [match["camid"] for match in found["matches"]]
    return answer


def not_of_camera(client: TestClient, text: str) -> Answer:
    of_camera(client, text)
    answer = client.post("/search", files=upload(), data={"exclude_camid": text})
    (found,) = answer.json()["results"]
    assert [match["camid"] for match in found["matches"]] == ["yard"]
    return answer


def verified(client: TestClient, text: str) -> Answer:
    unknown = client.post("/verify", files=upload(), data={"pid": text})
    assert unknown.status_code == 404
    enrolled(client, text)
    answer = client.post("/verify", files=upload(), data={"pid": text})
    assert answer.json()["results"][0]["distance"] == pytest.approx(0, abs=0.01)
    return answer


def labelled(client: TestClient, text: str) -> Answer:
    data = {"pid": text, "correct": "true"}
    assert client.post("/labels", files=upload(), data=data).status_code == 404
    enrolled(client, text)
    answer = client.post("/labels", files=upload(), data=data)
    assert [label["pid"] for label in client.get("/labels").json()["labels"]] == [text]
    return answer


def listed_behind(client: TestClient, text: str) -> Answer:
    enrolled(client, text)
    answer = client.get(f"/people?start={quote(text, safe='')}")
    assert [person["pid"] for person in answer.json()["people"]] == ["ben"] * (text < "ben")
    return answer


def removed(client: TestClient, text: str) -> Answer:
    path = f"/people/{quote(text, safe='')}"
    if unquote(text) != text:  # the test client decodes twice: see test_raw_requests
        path = f"/people/{quote(quote(text), safe='')}"
    assert client.delete(path).status_code == 404
    enrolled(client, text)
    answer = client.delete(path)
    assert answer.json() == {"pid": text, "removed": 1}
    return answer


CASES: dict[str, tuple[Callable[[TestClient, str], Answer], ...]] = {
    "post /embed images": (embedded, damaged, base64_text),
    "post /search images": (),  # read by the function that reads those of /embed
    "post /search exclude_camid": (not_of_camera,),
    "post /verify images": (),
    "post /verify pid": (verified,),
    "post /enroll images": (),
    "post /enroll pid": (enrolled,),
    "post /enroll camid": (of_camera,),
    "post /labels images": (),
    "post /labels pid": (labelled,),
    "get /people start": (listed_behind,),
    "delete /people/{pid} pid": (removed,),
}


def is_text(schema: dict[str, Any]) -> bool:
    parts = [schema, *schema.get("anyOf", ()), schema.get("items", {})]
    return any(part.get("type") == "string" for part in parts)


def text_fields(described: dict[str, Any]) -> Iterator[str]:
    """Every parameter and field of a body that is text, or a list of texts."""
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            fields = {p["name"]: p["schema"] for p in route.get("parameters", ())}
            for content in route.get("requestBody", {}).get("content", {}).values():
                fields |= content["schema"]["properties"]
            yield from (f"{method} {path} {name}" for name, s in fields.items() if is_text(s))


def test_every_text_field_has_a_case(client: TestClient) -> None:
    """A new field needs one."""
    assert {*text_fields(client.get("/openapi.json").json())} == {*CASES}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("case", [case for cases in CASES.values() for case in cases])
def test_any_text_is_only_a_text(
    client: TestClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: Callable[[TestClient, str], Answer],
    text: str,
) -> None:
    here = tmp_path / "a" / "b" / "c"  # where relative paths would begin
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    data = {"pid": "ben", "camid": "yard"}
    assert client.post("/enroll", files=files(png(*GREEN)), data=data).status_code == 201
    before = sorted(tmp_path.rglob("*"))
    answer = case(client, text)
    assert answer.status_code in (200, 201, 422)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "root:" not in answer.text
    assert sorted(tmp_path.rglob("*")) == before
    assert client.get("/status").json()["people"] >= 1  # no table was dropped
