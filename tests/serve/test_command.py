"""`reid-lab serve`: what is opened, and what is refused before it listens."""

from __future__ import annotations

import logging
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("onnxruntime")

from reid_lab.cli import serve as command
from reid_lab.cli.serve import describe, gain, work
from reid_lab.errors import UserError
from reid_lab.runtime.gallery import Gallery
from reid_lab.runtime.images import read
from reid_lab.runtime.model import Model
from reid_lab.serve.in_force import InForce, Serving
from reid_lab.serve.open import (
    ServiceFolders,
    listening_at,
    only_service_of,
    open_people,
    open_service,
    upgrader_of,
)
from reid_lab.serve.people import NewImage
from reid_lab.serve.scheduler import Scheduler, Target
from tests.commands import arguments, export, gallery
from tests.methods import method, save
from tests.serve.network import png

pytestmark = pytest.mark.recipe
EXITS = ("stage2", "fusion")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, people: Path) -> Path:
    """A small DaRe, its export, and galleries of two of its exits."""
    root = tmp_path_factory.mktemp("serve")
    checkpoint = str(save(method("dare"), root / "last.ckpt"))
    assert export(["--checkpoint", checkpoint, "--out", str(root / "out")]) == 0
    for exit in EXITS:
        words = ["--checkpoint", checkpoint, "--images", str(people / "bounding_box_test")]
        assert gallery(["build", *words, "--exit", exit, "--out", str(root / exit)]) == 0
    return root


def test_answers_are_those_of_the_galleries(folder: Path, people: Path, tmp_path: Path) -> None:
    model = Model(folder / "out", threads=1)
    known = open_people(tmp_path / "p.sqlite", model, [folder / exit for exit in EXITS])
    assert known.exits == EXITS
    assert known.thumbnail(1)
    scheduler = Scheduler(model, known, Target())
    pixels = read(sorted((people / "query").iterdir())[:6], model.image)
    costs = scheduler.costs.mul_adds
    assert costs.tolist() == [model.manifest.exit(exit).mul_adds for exit in EXITS]
    assert (np.diff(scheduler.costs.ms) >= 0).all() and scheduler.costs.ms[0] > 0
    theirs = Gallery.open(folder / "fusion", model.manifest)
    nobody = {i for i, pid in enumerate(theirs.pids) if pid <= 0}
    distances, rows = theirs.search(model.embed_until(pixels, "fusion"), len(theirs))
    for i, future in enumerate(scheduler.submit(list(pixels))):
        embedded = future.result(30)
        matches = known.search(known.compare("fusion", embedded.embeddings["fusion"]), 5)
        kept = [(d, r) for d, r in zip(distances[i], rows[i], strict=True) if r not in nobody][:5]
        assert [m.file for m in matches] == [Path(theirs.path(r)).name for _, r in kept]
        assert [m.distance for m in matches] == pytest.approx([d for d, _ in kept], rel=1e-4)
    scheduler.close()
    count = len(known)
    known.close()
    again = open_people(tmp_path / "p.sqlite", model, [folder / exit for exit in EXITS])
    assert len(again) == count == len(theirs) - len(nobody)  # the same images are added once
    gone = again.remove(again.listed()[0][0])
    again.close()
    last = open_people(tmp_path / "p.sqlite", model, [folder / exit for exit in EXITS])
    assert gone and len(last) == count - gone  # who was removed does not come back
    last.close()


def test_a_new_model_with_its_galleries(folder: Path, people: Path, tmp_path: Path) -> None:
    """Folders and links of the command line hold a new model: its galleries' rows are taken."""
    galleries = [tmp_path / exit for exit in EXITS]
    for exit in EXITS:
        shutil.copytree(folder / exit, tmp_path / exit)
    (tmp_path / "model").symlink_to(folder / "out")
    folders = ServiceFolders(tmp_path / "model", tuple(galleries), threads=1)
    model = folders.opened()
    known = open_people(tmp_path / "p.sqlite", model, galleries)
    in_force = InForce(Serving(model, known, Scheduler(model, known, Target())))
    upgrader = upgrader_of(folders, in_force, Target())
    count = len(known)
    known.add("anna", [NewImage(thumbnail=png(200, 10, 10))], _of_red(model))

    network = method("dare")
    for value in network.parameters():
        value.data *= 1.1
    checkpoint = str(save(network, tmp_path / "new.ckpt"))
    assert export(["--checkpoint", checkpoint, "--out", str(tmp_path / "new")]) == 0
    (tmp_path / "model").unlink()
    (tmp_path / "model").symlink_to(tmp_path / "new")
    assert upgrader.begin()
    upgrader.wait()  # the galleries are of the old model still
    assert (
        in_force.upgrade.state == "failed"
        and "holds embeddings of the model" in in_force.upgrade.message
    )
    for gallery_folder in galleries:
        words = ["--exit", gallery_folder.name, "--checkpoint", checkpoint]
        assert gallery(["upgrade", str(gallery_folder), *words]) == 0
    assert upgrader.begin()
    upgrader.wait()
    assert in_force.upgrade.state == "done", in_force.upgrade
    serving = in_force.now
    assert serving.fingerprint == Model(tmp_path / "new").manifest.fingerprint
    rows = serving.people.rows
    assert len(rows) == count + 1 and serving.people.exits == EXITS
    theirs = Gallery.open(galleries[1], serving.model.manifest)
    kept = np.asarray(theirs.embeddings)[theirs.pids > 0]
    assert np.array_equal(rows.exits["fusion"][:-1], kept)
    expected = _of_red(serving.model)["fusion"][0]
    far = np.linalg.norm(rows.exits["fusion"][-1] - expected)
    assert far < 0.1 * np.linalg.norm(expected)
    upgrader.close()
    serving.scheduler.close()
    serving.people.close()


def _of_red(model: Model) -> dict[str, np.ndarray]:
    image = np.full((1, *model.image, 3), (200, 10, 10), np.uint8)
    return model.embed(image, EXITS)


def test_galleries_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    model = Model(folder / "out", threads=1)
    path = tmp_path / "p.sqlite"
    with pytest.raises(UserError, match="one of fusion, at which the last queries exit, is miss"):
        open_people(path, model, [folder / "stage2"])
    with pytest.raises(UserError, match="cosine, euclidean: use one"):
        open_people(path, model, [folder / "fusion"], "cosine")
    with pytest.raises(UserError, match="fusion and .* are both of exit fusion"):
        open_people(path, model, [folder / "fusion", folder / "fusion"])
    assert not path.exists()
    open_people(path, model, [folder / "fusion"]).close()
    with pytest.raises(
        UserError, match="has the exits fusion, the galleries are of stage2, fusion"
    ):
        open_people(path, model, [folder / exit for exit in EXITS])


def test_a_new_file_of_people_is_told(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """So that a mistyped one is not taken for people who were lost."""
    caplog.set_level(logging.INFO, "reid_lab.serve")
    model, told = Model(folder / "out", threads=1), []
    for name in ("people.sqlite", "people.sqlite", "poeple.sqlite"):
        open_people(tmp_path / name, model, []).close()
        told.append([record.getMessage() for record in caplog.records])
        caplog.clear()
    new = f"{tmp_path / 'poeple.sqlite'}: a new file, without people; beside it: people.sqlite"
    assert told == [[f"{tmp_path / 'people.sqlite'}: a new file, without people"], [], [new]]


def refused(model: Path, people: Path, **options: Any) -> None:
    with open_service(model, people, threads=1, **options):
        pytest.fail("it listens")


def test_a_service_is_described_and_closed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = tmp_path / "p.sqlite"
    galleries = [folder / exit for exit in EXITS]
    with open_service(
        folder / "out", people, galleries=galleries, threads=1, port=0, target=Target(mean_ms=None)
    ) as service:
        assert service.url.startswith("http://127.0.0.1:") and service.images > service.people > 0
        assert (service.metric, service.costs.exits) == ("euclidean", EXITS)
        assert service.planned_ms is None and service.whole_ms > 0
        assert "".join(capsys.readouterr()) == ""
        describe(service)
        first, *_, last = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{service.people:,} people, ") and last == service.url
        port = service.url.rpartition(":")[2]
        with pytest.raises(UserError, match="give another host or port") as error:
            refused(folder / "out", tmp_path / "q.sqlite", port=int(port))
        assert error.value.command_text.endswith("give another --host or --port")
        with pytest.raises(UserError, match="another service: stop it, or give another file of"):
            refused(folder / "out", people)
    listening_at("127.0.0.1", int(port)).close()
    with only_service_of(people):
        pass
    with pytest.raises(UserError, match="host 0.0.0.0 is reached .*: give a key") as error:
        refused(folder / "out", people, host="0.0.0.0")
    assert "REID_LAB_API_KEY" in error.value.command_text


def test_margins_equal_naive_ones(folder: Path, people: Path, tmp_path: Path) -> None:
    model = Model(folder / "out", threads=1)
    known = open_people(tmp_path / "p.sqlite", model, [folder / exit for exit in EXITS])
    pixels = read(sorted((people / "query").iterdir())[:6], model.image)
    queries = model.embed_until(pixels, "stage2")
    rows = known.rows
    stored = torch.from_numpy(np.array(rows.exits["stage2"])).double()
    far = torch.cdist(torch.from_numpy(queries).double(), stored)
    own = torch.from_numpy(rows.people)[far.argmin(1)]
    other = far.masked_fill(torch.from_numpy(rows.people) == own[:, None], torch.inf).amin(1)
    margins = known.margins("stage2", queries)
    assert margins == pytest.approx((other - far.amin(1)).numpy(), abs=1e-3)
    known.close()


def test_a_second_service_of_the_same_people_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = tmp_path / "new" / "p.sqlite"
    with only_service_of(people):
        busy = "p.sqlite is used by another service: stop it"
        with pytest.raises(UserError, match=busy), only_service_of(people):
            pass
        words = ["--model", str(folder / "out"), "--people", str(people)]
        with monkeypatch.context() as patch, pytest.raises(UserError, match=busy):
            patch.setattr(Model, "open_whole", lambda model: pytest.fail("it was loaded"))
            work(arguments("serve", words))
        with only_service_of(tmp_path / "q.sqlite"):
            pass
    with only_service_of(people):
        pass
    for wrong, told in (
        (tmp_path, "is not a file of people"),
        (people / "x", "not a folder with write"),
    ):
        people.touch()
        with pytest.raises(UserError, match=told), only_service_of(wrong):
            pass
        assert not wrong.with_name(f"{wrong.name}.lock").exists()


def test_an_address_in_use(tmp_path: Path) -> None:
    with listening_at("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert first.proto == socket.IPPROTO_TCP
        with pytest.raises(UserError, match=f"cannot listen at 127.0.0.1:{port}"):
            listening_at("127.0.0.1", port)
    with pytest.raises(UserError, match="cannot listen at no.such.host.invalid"):
        listening_at("no.such.host.invalid", 80)
    assert isinstance(first, socket.socket)


def test_what_a_service_logs_is_printed_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("reid_lab.serve.upgrade")
    with command.printed_log():
        log.info("serving model %s", "abc")
        log.error("upgrade failed, still serving the old model: %s", "no disk")
        log.debug("not shown")
    log.info("later")
    text = "serving model abc\nupgrade failed, still serving the old model: no disk\n"
    assert capsys.readouterr() == (text, "")


def test_a_budget_that_saves_no_time_is_told() -> None:
    assert gain(0.4, 0.6).endswith("0.60 ms if all take the last exit")
    assert "early exit costs more than it saves; leave out the budget" in gain(0.7, 0.6)
