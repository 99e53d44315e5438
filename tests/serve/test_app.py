"""The routes: what they answer."""

from __future__ import annotations

import base64
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from reid_lab.cost.currency import ExitCosts
from reid_lab.gallery.images import Labelled
from reid_lab.gallery.queries import Queries, pooled
from reid_lab.openset.thresholds import AcceptThreshold, AcceptThresholds
from reid_lab.serve.app import _pooled
from reid_lab.serve.scheduler import Embedded, Target
from tests.serve.clients import BLUE, GREEN, LIMITS, RED, Make, enroll, error, files
from tests.serve.network import Colours, Gate, png


def test_from_enrolment_to_removal(client: TestClient) -> None:
    empty = client.post("/search", files=files(png(*RED))).json()["results"][0]
    assert empty["matches"] == [] and empty["verdict"] is None
    enroll(client, anna=RED, bert=GREEN, carla=BLUE)
    found = client.post("/search", files=files(png(*RED)), data={"top": "2"}).json()
    (result,) = found["results"]
    assert [match["pid"] for match in result["matches"]] == ["anna", "bert"]
    assert result["exit"] == "late" and result["verdict"] == "known"
    assert client.get("/people").json()["people"][0] == {"pid": "anna", "images": 1, "image": 1}
    assert client.get("/images/1").content.startswith(b"\xff\xd8")
    assert client.delete("/people/anna").json() == {"pid": "anna", "removed": 1}
    error(client.delete("/people/anna"), 404, "unknown person 'anna'")
    error(client.get("/images/1"), 404)
    again = client.post("/search", files=files(png(*RED))).json()["results"][0]
    assert "anna" not in [match["pid"] for match in again["matches"]]


def test_a_person_has_the_first_spelling_of_a_number(client: TestClient) -> None:
    first = client.post("/enroll", files=files(png(*RED)), data={"pid": "0010"})
    more = client.post("/enroll", files=files(png(*GREEN)), data={"pid": "10"})
    assert first.json()["pid"] == more.json()["pid"] == "0010"
    found = client.post("/search", files=files(png(*RED))).json()["results"][0]["matches"]
    assert [match["pid"] for match in found] == ["0010", "0010"]
    assert client.post("/verify", files=files(png(*RED)), data={"pid": "10"}).status_code == 200
    error(client.post("/enroll", files=files(png(*RED)), data={"pid": "00"}), 422, "no person")
    assert client.delete("/people/10").json() == {"pid": "0010", "removed": 2}


def test_a_camera_can_be_left_out(client: TestClient) -> None:
    for pid, colour, camid in [("anna", RED, "north"), ("bert", GREEN, "south")]:
        data = {"pid": pid, "camid": camid}
        client.post("/enroll", files=files(png(*colour)), data=data)

    def matches(exclude: str) -> list[str]:
        data = {"exclude_camid": exclude, "false_accept_rate": "0.5"}
        response = client.post("/search", files=files(png(*RED)), data=data)
        return [match["pid"] for match in response.json()["results"][0]["matches"]]

    assert matches("") == matches("west") == ["anna", "bert"]
    assert matches("north") == ["bert"]
    assert matches("south") == ["anna"]


def test_json_gives_the_same_as_a_form(client: TestClient) -> None:
    enroll(client, anna=RED, bert=GREEN)
    image = png(150, 60, 10)
    body = {"images": [base64.b64encode(image).decode()], "top": 1}
    ours = client.post("/search", json=body).json()["results"][0]
    form = client.post("/search", files=files(image), data={"top": "1"}).json()["results"][0]
    for varying in ("ms", "late_ms"):
        ours.pop(varying), form.pop(varying)
    assert ours == form


def test_the_same_image_again_is_told(client: TestClient) -> None:
    """Copies are of the same or another person, also within a request; near images are none."""

    def added(pid: str, *colours: tuple[int, int, int]) -> list[dict[str, Any]]:
        answer = client.post("/enroll", files=files(*(png(*c) for c in colours)), data={"pid": pid})
        assert answer.status_code == 201 and len(answer.json()["images"]) == len(colours)
        found: list[dict[str, Any]] = answer.json()["duplicates"]
        return found

    assert added("anna", RED, GREEN) == []
    assert added("anna", BLUE, RED) == [{"image": 4, "of": 1, "pid": "anna"}]
    assert added("bert", (RED[0] - 4, *RED[1:]), RED) == [{"image": 6, "of": 1, "pid": "anna"}]
    both = [{"image": 7, "of": 1, "pid": "anna"}, {"image": 7, "of": 6, "pid": "bert"}]
    assert added("bert", RED) == both
    assert added("carla", (9, 9, 200), (9, 9, 200)) == [{"image": 9, "of": 8, "pid": "carla"}]


def test_verdicts(client: TestClient) -> None:
    enroll(client, anna=RED, bert=GREEN, carla=BLUE, anna2=(190, 10, 10))

    def verdict(*colour: int) -> str:
        data = {"false_accept_rate": "0.5"}
        response = client.post("/search", files=files(png(*colour)), data=data)
        return str(response.json()["results"][0]["verdict"])

    assert verdict(*BLUE) == "known"
    assert verdict(*RED) == "ambiguous"  # anna and anna2 are as near
    assert verdict(255, 255, 255) == "unknown"


def test_verdicts_by_the_networks_thresholds(make: Make) -> None:
    """One person is enough for them; each answer has the rate asked for, or the next lower one."""
    near = tuple(AcceptThreshold(r, far, 1.0) for r, far in ((0.1, 0.6), (0.01, 0.2)))
    kinds = [AcceptThresholds(kind, "x", 9, 9, 9, near) for kind in ("searches", "pairs")]  # type: ignore[arg-type]
    client = make(accept_thresholds={"late": {"euclidean": tuple(kinds)}})
    enroll(client, anna=RED)
    orange = files(png(200, 100, 10))  # 0.5 from red, in both halves
    for rate, verdict in (("0.1", "known"), ("0.01", "unknown"), ("0.5", "known")):
        data = {"false_accept_rate": rate}
        (found,) = client.post("/search", files=orange, data=data).json()["results"]
        (checked,) = client.post("/verify", files=orange, data={**data, "pid": "anna"}).json()[
            "results"
        ]
        assert found["verdict"] == checked["verdict"] == verdict
        shown = min(float(rate), 0.1)
        wanted = {"rate": shown, "source": "x", "people": 9, "coarse": False}
        for answer in (found, checked):
            assert answer["false_accept_rate"] == {**wanted, "kind": "searches"}
        assert checked["pair_false_accept_rate"] == {**wanted, "kind": "pairs"}
        assert checked["accepted"] is (verdict == "known")


def test_verify(client: TestClient) -> None:
    enroll(client, anna=RED, bert=GREEN)
    same = client.post("/verify", files=files(png(*RED)), data={"pid": "anna"}).json()
    other = client.post("/verify", files=files(png(*RED)), data={"pid": "bert"}).json()
    assert same["results"][0]["accepted"] is True and same["results"][0]["distance"] == 0
    assert other["results"][0]["accepted"] is False
    error(client.post("/verify", files=files(png(*RED)), data={"pid": "x"}), 404, "person 'x'")


def test_boxes_of_a_frame(client: TestClient) -> None:
    enroll(client, anna=RED)
    boxes = [[0, 0, 10, 20], [5.2, 0, 19.7, 20]]
    data = {"boxes": json.dumps(boxes)}
    response = client.post("/search", files=files(png(*RED, size=(20, 20))), data=data)
    assert [r["matches"][0]["pid"] for r in response.json()["results"]] == ["anna", "anna"]
    data = {"boxes": "[[30, 0, 40, 20]]"}
    bad = client.post("/search", files=files(png(*RED, size=(20, 20))), data=data)
    error(bad, 422, "has no pixel in the frame")


def test_a_track_is_averaged(client: TestClient) -> None:
    enroll(client, anna=(100, 100, 10), bert=RED)
    images = files(png(190, 10, 10), png(10, 190, 10))
    alone = client.post("/search", files=images).json()["results"]
    (track,) = client.post("/search", files=images, data={"track": "true"}).json()["results"]
    assert len(alone) == 2
    assert track["matches"][0]["pid"] == "anna"
    assert track["matches"][0]["distance"] == pytest.approx(0, abs=1e-5)
    assert track["mul_adds"] == 8_000
    assert track["spread"] > 0 and {r["spread"] for r in alone} == {None}
    more = {"track": "true", "deadline_ms": "1e-9"}
    (late,) = client.post("/search", files=images, data=more).json()["results"]
    assert (late["exit"], late["mul_adds"]) == ("early", 2_000)
    assert late["late_ms"] > 0


def test_a_track_is_pooled_as_in_a_gallery() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    found = [Embedded({"early": row}, "early", 1.0, 2.0, 0.0) for row in rows]
    images = [Labelled(Path(f"{i}.jpg"), tracklet="a") for i in range(5)]
    for metric in ("euclidean", "cosine"):
        ours, spread = _pooled(found, metric)
        theirs = pooled(Queries(images, rows), metric)
        assert theirs.spreads is not None
        assert ours.embeddings["early"] == pytest.approx(theirs.embeddings[0], rel=1e-5)
        assert spread == pytest.approx(theirs.spreads[0].distance, rel=1e-5)
    shorter = Embedded({"early": rows[0]}, "early", 1.0, 2.0, 0.0)
    longer = Embedded({"early": rows[1], "late": rows[1]}, "late", 3.0, 2.0, 0.0)
    assert _pooled([longer, shorter], "euclidean")[0].exit == "early"


def test_embed(client: TestClient) -> None:
    every = client.post("/embed", files=files(png(*RED)), data={"every": "true"}).json()
    embeddings = every["results"][0]["embeddings"]
    assert {name: len(row) for name, row in embeddings.items()} == {"early": 3, "late": 6}
    one = client.post("/embed", files=files(png(*RED), png(*RED))).json()["results"]
    assert [list(result["embeddings"]) for result in one] == [["late"], ["late"]]
    assert one[0]["embeddings"]["late"] == embeddings["late"]


def test_a_deadline_is_kept_by_an_earlier_exit(client: TestClient) -> None:
    data = {"deadline_ms": "0.000001"}
    (result,) = client.post("/search", files=files(png(*RED)), data=data).json()["results"]
    assert result["exit"] == "early" and result["late_ms"] > 0 and result["mul_adds"] == 1_000


def test_labels_are_kept_and_removed_with_their_person(client: TestClient) -> None:
    enroll(client, anna=RED)
    for correct in ("true", "false"):
        data = {"pid": "anna", "correct": correct}
        assert client.post("/labels", files=files(png(*RED)), data=data).status_code == 201
    labels = client.get("/labels").json()["labels"]
    assert [(label["pid"], label["correct"]) for label in labels] == [
        ("anna", True), ("anna", False),
    ]  # fmt: skip
    client.delete("/people/anna")
    assert client.get("/labels").json() == {"labels": []}


def test_people_are_listed_in_parts(client: TestClient) -> None:
    enroll(client, c=RED, a=GREEN, b=BLUE)
    first = client.get("/people?limit=2").json()
    assert [person["pid"] for person in first["people"]] == ["a", "b"]
    rest = client.get("/people", params={"start": first["next"], "limit": 2}).json()
    assert [person["pid"] for person in rest["people"]] == ["c"] and rest["next"] is None
    error(client.get("/people?limit=0"), 422)
    error(client.get("/people?limit=x"), 422)


def test_status_and_metrics(make: Make) -> None:
    client = make(target=Target(ms=1_000.0))
    assert client.get("/status").json()["mean_mul_adds"] is None
    enroll(client, anna=RED)
    client.post("/search", files=files(png(*RED)))
    client.post("/search")
    status = client.get("/status").json()
    assert [(e["name"], e["mul_adds"], e["queries"]) for e in status["exits"]] == [
        ("early", 1_000, 0), ("late", 4_000, 1),
    ]  # fmt: skip
    assert status["target"]["ms"] == 1_000 and status["people"] == status["images"] == 1
    assert status["mean_mul_adds"] == 4_000
    assert status["frontier"] == [{"exit": "early", "mul_adds": 1_000, "rank1": 0.2, "mAP": 0.1}]
    text = client.get("/metrics").text
    assert 'reid_lab_queries_total{exit="late"} 1.0' in text
    assert 'reid_lab_requests_total{status="415"} 1.0' in text
    assert "reid_lab_people 1.0" in text


def test_a_mean_in_milliseconds_is_shown(make: Make) -> None:
    class Still(Colours):  # all exits take 1 ms
        def measure_exits(self, *args: Any) -> ExitCosts:
            return ExitCosts("latency", ("early", "late"), np.ones(2), np.zeros(2))

    client = make(target=Target(mean_ms=1.0), network=Still())
    assert client.get("/health").json()["target"]["mean_ms"] == 1
    assert client.get("/status").json()["mean_ms"] is None
    enroll(client, anna=RED)
    for _ in range(3):
        client.post("/search", files=files(png(*RED)))
    status = client.get("/status").json()
    assert status["target"]["mean_ms"] == status["mean_ms"] == 1
    text = client.get("/metrics").text
    assert 'reid_lab_target{of="mean_ms"} 1.0' in text
    assert "reid_lab_profiled_ms_total 3.0" in text


def test_a_key_is_asked_for(make: Make) -> None:
    client = make(key="secret")
    for path in ("/people", "/metrics", "/docs", "/openapi.json", "/status", "/labels"):
        error(client.get(path), 401, "X-API-Key")
    error(client.post("/search", content=b"x" * 300_000), 401)  # before the body is looked at
    error(client.get("/people", headers={"X-API-Key": "secre"}), 401)
    error(client.get("/people", headers={"X-API-Key": "sécret".encode("latin-1")}), 401)
    assert client.get("/people", headers={"X-API-Key": "secret"}).status_code == 200
    assert client.get("/health").status_code == client.get("/").status_code == 200


def test_other_sites_cannot_use_the_browser(client: TestClient) -> None:
    there = {"origin": "http://example.org"}
    error(client.post("/enroll", files=files(png(*RED)), headers=there), 403, "other sites")
    error(client.delete("/people/x", headers={"origin": "null"}), 403)
    own = {"origin": "http://127.0.0.1:8000"}
    assert client.post("/search", files=files(png(*RED)), headers=own).status_code == 200
    error(client.get("/people", headers={"host": "evil.example"}), 403, "--allow-host")


def test_every_response_has_safe_headers(client: TestClient) -> None:
    for response in (client.get("/"), client.get("/people"), client.get("/nothing")):
        assert response.headers["x-content-type-options"] == "nosniff"
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy


def test_pages_ask_no_other_host(client: TestClient) -> None:
    for path in ("/", "/docs"):
        text = client.get(path).text
        assert "//" not in text.replace("//127.0.0.1", "").replace('"//', "") or "http" not in text
    docs = client.get("/docs").text
    for route in ("POST /search", "POST /enroll", "DELETE /people/{pid}", "GET /metrics"):
        assert route in docs


def test_what_would_wait_too_long_is_refused(make: Make) -> None:
    network = Gate()
    client = make(network=network, max_wait_ms=60_000)
    image, network.shut = files(png(*RED)), True
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/search", files=image)
        assert network.taken.acquire(timeout=10)
        for content in (png(*GREEN), b"no image"):  # which is not decoded
            refused = client.post("/search", files=files(content))
            error(refused, 503, "60000 ms are allowed (--max-wait-ms); 1 images are in flight")
            assert refused.headers["retry-after"] == "40"
        assert client.get("/people").status_code == 200  # needs no network
        assert client.get("/status").json()["in_flight"] == 1
        network.opened.release()
        assert first.result(10).status_code == 200
    network.shut = False
    assert client.post("/search", files=image).status_code == 200  # afterwards
    assert client.get("/status").json()["refused"] == 2
    text = client.get("/metrics").text
    assert "reid_lab_refused_total 2.0" in text and "reid_lab_in_flight 0.0" in text
    assert 'reid_lab_requests_total{status="503"} 2.0' in text
    assert 'reid_lab_request_seconds_count{path="/search"} 2.0' in text


def test_a_request_has_so_many_seconds(make: Make) -> None:
    network = Gate()
    client = make(network=network, limits=replace(LIMITS, seconds=0.5))
    image, network.shut = files(png(*RED)), True
    refused = client.post("/search", files=image)
    error(refused, 408, "it took more than 0.5 s (--max-seconds)")
    assert client.get("/status").json()["in_flight"] == 0
    network.shut = False
    network.opened.release()
    assert client.post("/search", files=image).status_code == 200  # the batch before has ended
    assert 'reid_lab_requests_total{status="408"} 1.0' in client.get("/metrics").text


def test_images_and_boxes_of_a_request_count(make: Make) -> None:
    """One image is in flight, and an image takes 40 s."""
    network = Gate()
    client = make(network=network, max_wait_ms=130_000)
    image, network.shut = png(*RED), True
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/search", files=files(image))
        assert network.taken.acquire(timeout=10)
        error(client.post("/search", files=files(*[image] * 3)), 503, "the request has 3")
        boxes = {"boxes": json.dumps([[0, 0, 4, 4]] * 4)}
        error(client.post("/embed", files=files(image), data=boxes), 503, "the request has 4")
        second = pool.submit(client.post, "/search", files=files(image, image))
        while client.get("/status").json()["in_flight"] != 3:
            time.sleep(0.01)
        for _ in range(2):
            network.opened.release()
        answers = [len(one.result(10).json()["results"]) for one in (first, second)]
    assert answers == [1, 2] and client.get("/status").json()["refused"] == 2


def test_head_is_answered_as_get(client: TestClient) -> None:
    for path in ("/", "/health", "/people"):
        head, get = client.head(path), client.get(path)
        assert head.status_code == 200 and not head.content
        assert head.headers["content-length"] == str(len(get.content))
    assert client.head("/x").status_code == 404 and client.head("/search").status_code == 405


def test_data_urls_are_base64(client: TestClient) -> None:
    data = "data:image/png;base64," + base64.b64encode(png(*RED)).decode()
    assert client.post("/embed", json={"images": [data]}).status_code == 200


def test_the_page_of_routes_is_that_of_openapi(client: TestClient) -> None:
    """docs/serve/routes.md has a row for each route, with the fields of its own."""
    described: dict[str, set[str]] = {}
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, route in methods.items():
            names = {parameter["name"] for parameter in route.get("parameters", ())}
            body = route.get("requestBody", {}).get("content", {})
            for kind in body.values():
                names |= kind["schema"]["properties"].keys()
            described[f"{method.upper()} {path}"] = names - {"images", "boxes"}  # of every body
    page = Path(__file__).parents[2] / "docs/serve/routes.md"
    rows = re.findall(r"^\| `([A-Z]+ \S+)` \|.*\|(.*)\|$", page.read_text("utf-8"), re.MULTILINE)
    assert {route: {*re.findall(r"`(\w+)`", fields)} for route, fields in rows} == described


def test_every_answer_is_described(client: TestClient) -> None:
    """OpenAPI has the fields that the routes answer with."""
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    files_of = {"/", "/docs", "/images/{image}", "/metrics"}
    answers = {}
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            good = next(answer for status, answer in route["responses"].items() if status < "3")
            if path not in files_of:
                name = good["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                answers[f"{method} {path}"] = schemas[name]["properties"]
            refused = route["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert refused == {"$ref": "#/components/schemas/ErrorAnswer"}
    enroll(client, anna=RED, bert=GREEN)
    image = {"files": files(png(*RED))}
    found = {
        "post /search": client.post("/search", **image),
        "post /verify": client.post("/verify", **image, data={"pid": "anna"}),
        "post /labels": client.post("/labels", **image, data={"pid": "anna", "correct": "1"}),
    }
    found["post /model"] = client.post("/model")
    for path in ("/people", "/status", "/labels", "/health"):
        found[f"get {path}"] = client.get(path)
    for route, response in found.items():
        assert {*response.json()} == {*answers[route]}, route
    (checked,) = found["post /verify"].json()["results"]
    assert {*checked} == {*schemas["ComparedAnswer"]["properties"]}
    assert not {*answers} ^ {*found, "post /embed", "post /enroll", "delete /people/{pid}"}


def test_the_list_of_routes_has_types_and_defaults(client: TestClient) -> None:
    text = client.get("/docs").text
    assert "`" not in text and "_target_" not in text
    for row in [
        "<td>top</td><td>an integer &gt;= 1 and &lt;= 100</td><td>5</td>",
        "<td>limit</td><td>an integer &gt;= 1 and &lt;= 1000</td><td>100</td>",
        "<td>images</td><td>a list of files of length &gt;= 1</td><td>required</td>",
        "<td>boxes</td><td>a list of lists of numbers of length 4</td><td>none</td>",
        "<td>results[].matches[].distance</td><td>a number</td>",
    ]:
        assert row in text


def test_a_request_holds_a_part_of_its_distances_at_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(client, anna=(200, 10, 10), bert=(10, 200, 10))
    images = files(png(190, 20, 10), png(20, 190, 10), png(180, 30, 10))

    def matches() -> list[list[str]]:
        results = client.post("/search", files=images).json()["results"]
        return [[match["pid"] for match in result["matches"]] for result in results]

    together = matches()
    monkeypatch.setattr("reid_lab.serve.app.DISTANCES", 1)
    assert matches() == together == [["anna", "bert"], ["bert", "anna"], ["anna", "bert"]]
