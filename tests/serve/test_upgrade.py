"""A new model while the service answers: nothing fails, nothing is lost, one model at a time."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from reid_lab.errors import UserError
from reid_lab.serve.in_force import InForce, Serving
from reid_lab.serve.people import NewImage, People
from reid_lab.serve.scheduler import Scheduler, Target
from reid_lab.serve.upgrade import NewEmbeddings, Upgrader, finish_interrupted
from tests.serve.clients import BLUE, GREEN, RED, Make, enroll, error, files
from tests.serve.files import Opened
from tests.serve.network import Colours, plain, png

NEAR = 0.05  # a kept image is a JPEG: its mean colour is nearly that of the image
NEW = "new colours"


class Negative(Colours):
    """Another network: its embeddings are far from those of `Colours`."""

    def __init__(self) -> None:
        super().__init__(NEW)
        self.reached, self.opened = threading.Event(), threading.Event()
        self.opened.set()

    def embed(
        self, pixels: np.ndarray, exits: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        self.reached.set()
        assert self.opened.wait(10)
        return super().embed(pixels, exits)

    def _embedded(self, exit: str, pixels: np.ndarray) -> np.ndarray:
        return 5 - super()._embedded(exit, pixels)


def upgraded(client: TestClient, state: str = "done") -> str:
    """Wait for the end of an upgrade: its message."""
    for _ in range(1_000):
        found = client.get("/status").json()["upgrade"]
        if found["state"] in ("done", "failed"):
            assert found["state"] == state, found
            return str(found["message"])
        time.sleep(0.01)
    raise AssertionError(found)


def nearest(client: TestClient, *colour: int) -> tuple[str, float]:
    response = client.post("/search", files=files(png(*colour)))
    assert response.status_code == 200, response.text
    first = response.json()["results"][0]["matches"][0]
    return first["pid"], first["distance"]


def test_queries_go_on_during_an_upgrade(make: Make, tmp_path: Path, opened: Opened) -> None:
    network = Negative()
    client = make(upgrade=lambda: network)
    enroll(client, anna=RED, bert=GREEN)
    network.opened.clear()
    found: list[tuple[str, float]] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            found.append(nearest(client, *RED))

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        assert client.post("/model").status_code == 202
        assert network.reached.wait(10)
        before = len(found)
        error(client.post("/model"), 409, "an upgrade is running")
        health = client.get("/health").json()
        assert (health["model"], health["upgrade"]) == ("colours", "embedding")
        assert 'reid_lab_upgrade{reid_lab_upgrade="embedding"} 1.0' in client.get("/metrics").text
        enroll(client, carl=BLUE)
        assert client.delete("/people/bert").json()["removed"] == 1
        assert nearest(client, *BLUE) == ("carl", pytest.approx(0, abs=1e-3))
        while len(found) < before + 4:
            time.sleep(0.01)
        network.opened.set()
        message = upgraded(client)
        after = len(found)
        while len(found) < after + 4:
            time.sleep(0.01)
        ended.set()
        for one in asking:
            one.result(10)
    assert message.startswith(f"serving model {NEW}: 2 people, 2 images")
    assert {pid for pid, _ in found} == {"anna"}
    assert max(distance for _, distance in found) < NEAR
    assert nearest(client, *BLUE) == ("carl", pytest.approx(0, abs=NEAR))
    people = client.get("/people").json()["people"]
    assert [person["pid"] for person in people] == ["anna", "carl"]
    assert client.get("/health").json()["model"] == NEW
    text = client.get("/metrics").text
    assert f'reid_lab_model_info{{fingerprint="{NEW}"}} 1.0' in text
    assert 'reid_lab_upgrade{reid_lab_upgrade="done"} 1.0' in text
    enroll(client, dora=GREEN)
    assert nearest(client, *GREEN) == ("dora", pytest.approx(0, abs=1e-3))
    again = copied(tmp_path)
    with pytest.raises(UserError, match=f"of the model {NEW}, this export is colours"):
        opened(again, Colours().manifest)
    assert opened(again, Negative().manifest).count() == (3, 3)


def test_an_enrolment_across_the_swap_is_of_the_new_model(make: Make) -> None:
    """It is embedded by the old model, and that is replaced before it is written."""
    old = Negative()
    old.manifest = Colours().manifest
    client = make(network=old, upgrade=lambda: Colours(NEW))
    enroll(client, anna=RED)
    old.opened.clear()
    old.reached.clear()
    with ThreadPoolExecutor(1) as pool:
        enrolling = pool.submit(enroll, client, bert=GREEN)
        assert old.reached.wait(10)
        assert client.post("/model").status_code == 202
        while client.get("/health").json()["model"] != NEW:
            time.sleep(0.01)
        old.opened.set()
        enrolling.result(10)
    upgraded(client)
    assert nearest(client, *GREEN) == ("bert", pytest.approx(0, abs=1e-3))
    assert client.get("/status").json()["images"] == 2


def broken() -> Any:
    raise UserError("exported has no manifest.json")


def test_a_failed_upgrade_leaves_the_old_model(make: Make) -> None:
    opens = [broken, lambda: Colours(), lambda: Negative()]
    client = make(upgrade=lambda: opens.pop(0)())
    enroll(client, anna=RED)
    for message in ("exported has no manifest.json", "holds the current model (colours)"):
        assert client.post("/model").status_code == 202
        assert message in upgraded(client, "failed")
        assert client.get("/health").json()["model"] == "colours"
        assert nearest(client, *RED) == ("anna", pytest.approx(0, abs=1e-3))
    client.post("/model")
    upgraded(client)
    assert nearest(client, *RED) == ("anna", pytest.approx(0, abs=NEAR))


def full(*args: object) -> Any:
    raise OSError("no space left on the disk")


def test_a_failed_clean_up_is_no_failed_upgrade(
    tmp_path: Path,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "reid_lab.serve.upgrade")
    people = opened(tmp_path / "p.sqlite")
    rows = Colours().embed(plain(*RED)[None])
    people.add("anna", [NewImage(thumbnail=png(*RED))], rows)

    def start(model: Any, people: People) -> Serving:
        return Serving(model, people, Scheduler(model, people, Target()))

    old = start(Colours(), people)
    in_force = InForce(old)
    card = SimpleNamespace(metric="euclidean", accept_thresholds=())
    galleries: Any = {
        name: SimpleNamespace(card=card, folder=Path("g") / name, paths=list)
        for name in people.exits
    }
    monkeypatch.setattr("reid_lab.serve.upgrade.drop_replaced", full)
    upgrader = Upgrader(in_force, lambda metric: (Negative(), galleries), start, full)  # type: ignore
    assert upgrader.begin()
    upgrader.wait()
    state = in_force.upgrade
    assert (state.state, state.model, in_force.now.fingerprint) == ("done", NEW, NEW)
    for part in (
        f"serving model {NEW}: 1 people",
        "galleries were not added (OSError: no sp",
        "overwritten (",
    ):
        assert part in state.message
    assert "the old model" not in caplog.text
    assert caplog.messages == [state.message]
    assert not old.scheduler._thread.is_alive()
    in_force.now.scheduler.close()
    monkeypatch.undo()
    assert finish_interrupted(tmp_path / "p.sqlite", Negative(), {}) is None  # type: ignore
    assert rows["late"].tobytes() not in (tmp_path / "p.sqlite").read_bytes()


def test_a_budget_that_the_new_network_cannot_keep(make: Make) -> None:
    class Dear(Negative):
        def measure_exits(self, *args: Any) -> Any:
            raise UserError("--mul-adds 2000 cannot be met")

    client = make(target=Target(mul_adds=2_000), upgrade=Dear)
    enroll(client, anna=RED)
    client.post("/model")
    assert "cannot be met" in upgraded(client, "failed")
    assert nearest(client, *RED) == ("anna", pytest.approx(0, abs=1e-3))


def test_the_key_is_asked_for(make: Make) -> None:
    client = make(key="secret")
    error(client.post("/model"), 401)
    assert client.post("/model", headers={"X-API-Key": "secret"}).status_code == 202


def copied(folder: Path) -> Path:
    """The file of people as a kill would leave it now."""
    for path in folder.glob("p.sqlite*"):
        shutil.copyfile(path, folder / f"copy_{path.name}")
    return folder / "copy_p.sqlite"


def test_images_that_were_not_kept(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite", Colours().manifest)
    rows = Colours().embed(plain(*RED)[None])
    people.add("anna", [NewImage(path="people/anna.jpg")], rows)
    with pytest.raises(UserError, match="1 images of .* were not kept.*\n  people/anna.jpg of 'an"):
        NewEmbeddings(people.file, Negative(), {})  # type: ignore[arg-type]


def test_a_kill_leaves_a_file_that_starts(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite", Colours().manifest)
    secret = np.full((1, 6), 0.123, np.float32)
    for pid, colour in (("anna", RED), ("bert", GREEN), ("carl", BLUE)):
        rows = Colours().embed(plain(*colour)[None])
        people.add(pid, [NewImage(thumbnail=png(*colour))], rows)
    new: Any = Negative()
    begun = NewEmbeddings(people.file, new, {})
    first = begun.staging.pending(0, 1)
    begun.staging.put([first[0][0]], {"early": secret[:, :3], "late": secret})
    again = copied(tmp_path)
    old = opened(again, Colours().manifest)
    assert old.count() == (3, 3) and old.remove("bert") == 1  # the old model starts
    old.close()
    with pytest.raises(UserError, match="of the model colours, this export is third"):
        opened(again, Colours("third").manifest)
    assert finish_interrupted(again, Colours("third"), {}) is None  # type: ignore[arg-type]
    assert finish_interrupted(again, new, {}) == 2  # and so does the new one
    assert finish_interrupted(again, new, {}) is None
    after = opened(again, new.manifest)
    assert after.rows.pids == ("anna", "carl")
    assert np.array_equal(after.rows.exits["late"][0], secret[0])  # was there before the kill
    expected = new.embed(plain(*BLUE)[None])["late"][0]
    assert after.rows.exits["late"][1] == pytest.approx(expected, abs=NEAR)
    after.close()
    people.remove("anna")  # of the new embeddings, too
    people.close()
    for path in (tmp_path / "p.sqlite", again):
        gone = Colours().embed(plain(*RED)[None])["late"].tobytes()
        assert gone not in path.read_bytes()
    assert secret.tobytes() not in (tmp_path / "p.sqlite").read_bytes()


def test_a_kill_between_the_swap_and_the_end(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite", Colours().manifest)
    rows = Colours().embed(plain(*RED)[None])
    people.add("anna", [NewImage(thumbnail=png(*RED))], rows)
    new: Any = Negative()
    begun = NewEmbeddings(people.file, new, {})
    begun.fill()
    with people.file.lock:
        begun.staging.put_in_force()
    again = copied(tmp_path)
    assert finish_interrupted(again, new, {}) is None
    assert opened(again, new.manifest).count() == (1, 1)
    assert rows["late"].tobytes() not in again.read_bytes()
    people.close()


def test_small_kept_images_are_counted(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite", Colours().manifest)
    small, large = png(*RED, size=(4, 8)), png(*RED)
    images = [NewImage(thumbnail=small), NewImage(thumbnail=large)]
    people.add("anna", images, Colours().embed(np.stack([plain(*RED)] * 2)))
    new = NewEmbeddings(people.file, Negative(), {})  # type: ignore[arg-type]
    new.fill()
    assert new.small == 1 and new.staging.count() == (2, 2)
    people.close()
