"""One gallery for all exits: built, searched and exported; bytes, stopping, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.budget.policies import Lookup
from reid_lab.budget.stopping import BudgetedStream
from reid_lab.budget.stream import FixedExitThresholds
from reid_lab.checkpoint import load_model
from reid_lab.dataset.images import decode, resize
from reid_lab.dataset.transforms import normalise
from reid_lab.errors import UserError
from reid_lab.gallery.embedder import Embedder, embed
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.upgrade import _new_card
from reid_lab.retrieval import Ids
from reid_lab.runtime import ExportError, Gallery, Manifest, Model
from reid_lab.serve.open import open_people
from reid_lab.serve.scheduler import Scheduler, Target
from tests.commands import embed as embed_main
from tests.commands import export, gallery, runtime
from tests.methods import SIZE, method, save

pytestmark = pytest.mark.system
STREAM = ("stage1", "stage2", "stage3", "fusion")
PEOPLE = "pid!=-1"  # a stream has no junk among its candidates
NOISE = np.random.default_rng(0).integers(0, 256, (12, *SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, people: Path) -> Path:
    """DaRes of both kinds, `shared.ckpt` and `own.ckpt`, galleries, and the first one's export."""
    root = tmp_path_factory.mktemp("shared")
    for name, given in (("shared", "true"), ("own", "false")):
        checkpoint = str(save(method("dare", f"model.shared_space={given}"), root / f"{name}.ckpt"))
        words = ["--checkpoint", checkpoint, "--images", str(people / "bounding_box_test")]
        assert gallery(["build", *words, "--out", str(root / f"{name}.gallery")]) == 0
    words = ["--checkpoint", str(root / "shared.ckpt"), "--out", str(root / "shared.out")]
    assert export(words) == 0
    return root


def test_every_exit_searches_the_one_gallery(
    folder: Path, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = SavedGallery.open(folder / "shared.gallery")
    model, asked = load_model(folder / "shared.ckpt"), sorted((people / "query").iterdir())[0]
    assert saved.card.shared and saved.card.exit == "fusion" == model.shared_exit
    files = [saved.folder / saved.card.file(name) for name in ("embeddings.bin",)]
    assert sum(path.stat().st_size for path in files) == 4 * 16 * len(saved)  # of four exits
    assert gallery(["info", str(saved.folder)]) == 0
    assert "fusion, for queries of every exit" in capsys.readouterr().out
    words = [str(saved.folder), "--image", str(asked), "--top", "3", "--exit", "stage1"]
    out = folder / "found.jsonl"
    ours = ["--checkpoint", str(folder / "shared.ckpt"), "--out", str(out)]
    assert gallery(["search", *words, *ours]) == 0
    found = json.loads(out.read_text())
    row = Embedder.load(folder / "shared.ckpt", "stage1")(_pixels(asked))
    away = np.linalg.norm(saved.embeddings - row.numpy(), axis=1)
    wanted = [saved.path(int(i)) for i in np.argsort(away, kind="stable")[:3]]
    assert [match["path"] for match in found["matches"]] == wanted
    capsys.readouterr()
    theirs = [str(folder / "shared.out"), str(asked), "--gallery", str(saved.folder)]
    assert runtime([*theirs, "--top", "3", "--exit", "stage1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[-1] for line in lines] == wanted


def _pixels(path: Path) -> np.ndarray:
    return resize(decode(path), *SIZE)[None]


def test_stopping_without_torch_equals_torch(folder: Path) -> None:
    """Both take the same exits and find the same nearest images in one gallery."""
    network, model = load_model(folder / "shared.ckpt"), Model(folder / "shared.out")
    saved = Gallery.open(folder / "shared.gallery", model.manifest)
    ids = SavedGallery.open(folder / "shared.gallery").ids()
    lookup = Lookup(torch.tensor(np.array(saved.embeddings)), ids, candidates="all")
    images = normalise(torch.from_numpy(NOISE).permute(0, 3, 1, 2))
    zeros = torch.zeros(len(NOISE), dtype=torch.int64)
    query = Ids(zeros, zeros, np.array([f"{i}.jpg" for i in range(len(NOISE))], dtype=object))
    with torch.inference_mode():
        every = {n: saved.search(x.numpy(), 1, PEOPLE)[0] for n, x in network(images).items()}
    rule = FixedExitThresholds(np.array([-np.median(every[name]) for name in STREAM[:-1]]))
    stream = BudgetedStream(network, dict.fromkeys(STREAM, lookup), "distance", rule)
    wanted = stream(images, query)
    assert len(np.unique(wanted.exits)) > 2

    def exits_here(exit: str, rows: np.ndarray) -> np.ndarray:
        nearest = -saved.search(rows, 1, PEOPLE)[0][:, 0].astype(np.float64)
        return rule.exits_here(STREAM.index(exit), nearest, np.zeros(len(rows)))

    found = model.stream(NOISE, exits_here)
    assert found.exits == [STREAM[s] for s in wanted.exits]
    nearest = [int(saved.search(row[None], 1, PEOPLE)[1][0, 0]) for row in found.embeddings]
    assert nearest == wanted.nearest.tolist()
    for ours, theirs in zip(found.embeddings, wanted.embeddings, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("when", ["unfitted", "stale"])
def test_maps_of_other_weights_are_told(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    model: Any = method("dare", "model.shared_space=true")
    images, path = people / "query", tmp_path / "x.ckpt"
    wanted = "the early exits are not fitted to the gallery's exit"
    if when == "unfitted":
        for layer in model.towards.values():
            torch.nn.init.zeros_(layer.bias)
        save(model, path)
    else:  # as a training that was killed between two validations leaves it
        state = torch.load(save(model, path), weights_only=True)
        torch.save(state | {"global_step": 3, "callbacks": {"SharedSpace": {"fitted_at": 2}}}, path)
        wanted = "fitted at step 2 of the training, and this checkpoint is of step 3"

    def told(call: object, *words: object, status: int) -> str:
        assert call([str(w) for w in words]) == status, words  # type: ignore[operator]
        return " ".join("".join(capsys.readouterr()).split())

    given = ("--checkpoint", path)
    assert wanted in told(export, *given, "--out", tmp_path / "out", status=1)
    assert not (tmp_path / "out").exists()
    g, embeddings = tmp_path / "g", tmp_path / "x.npz"
    built = told(gallery, "build", *given, "--images", images, "--out", g, status=0)
    assert f"warning: {path}: model.shared_space=true: {wanted}"[:60] in built and wanted in built
    asked = ("search", g, *given, "--image", images)
    assert wanted in told(gallery, *asked, "--exit", "stage1", status=1)
    assert wanted not in told(gallery, *asked, status=0)
    words = (*given, "--images", images, "--out", embeddings)
    assert wanted in told(embed_main, *words, status=0)
    assert wanted not in told(embed_main, *words, "--exit", "fusion", status=0)
    with pytest.warns(UserWarning, match=wanted):
        embed(path, people / "query", exits="stage1")
    embed(path, people / "query", exits="fusion")  # a warning is an error


def test_galleries_in_a_stream(folder: Path) -> None:
    """One for exits that share a space, one each for those that do not."""
    rule, ids = FixedExitThresholds(np.zeros(3)), SavedGallery.open(folder / "own.gallery").ids()
    lookups = [Lookup(torch.randn(len(ids), 16), ids) for _ in STREAM]
    one, each = dict.fromkeys(STREAM, lookups[0]), dict(zip(STREAM, lookups, strict=True))
    shared, own = (load_model(folder / f"{name}.ckpt") for name in ("shared", "own"))
    BudgetedStream(shared, one, "margin", rule)
    BudgetedStream(own, each, "margin", rule)
    with pytest.raises(ValueError, match="'fusion' at every exit, and 4 galleries"):
        BudgetedStream(shared, each, "margin", rule)
    with pytest.raises(ValueError, match=r"give each its own, .* model\.shared_space=true"):
        BudgetedStream(own, one, "margin", rule)
    with pytest.raises(ValueError, match="and 2 galleries"):
        BudgetedStream(shared, one, "margin", rule, whole={**one, "stage1": lookups[1]})


def test_one_way_is_not_used_the_other_way(
    folder: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--image", str(sorted((people / "query").iterdir())[0]), "--exit", "stage1"]

    def refused(call: object, words: list[str], *fragments: str) -> None:
        assert call(words) == 1, words  # type: ignore[operator]
        printed = "".join(capsys.readouterr())
        assert all(fragment in " ".join(printed.split()) for fragment in fragments), printed

    own, shared = (["--checkpoint", str(folder / f"{name}.ckpt")] for name in ("own", "shared"))
    images = ["--images", str(people / "query"), "--out", str(tmp_path / "g"), "--exit", "stage1"]
    refused(gallery, ["build", *shared, *images], "embeddings of 'fusion'", "leave --exit out")
    assert not (tmp_path / "g").exists()
    searched = ["search", str(folder / "own.gallery"), *own, *asked]
    refused(gallery, searched, "exit 'fusion'", "'stage1' cannot be compared", "shared_space=true")
    of_shared = [str(folder / "shared.out"), asked[1], "--gallery", str(folder / "shared.gallery")]
    refused(runtime, [*of_shared, "--exit", "stage9"], "unknown exit 'stage9'")
    manifest = Manifest.read(folder / "shared.out")
    assert manifest.shared_exit == "fusion" and manifest.gallery_exits == ("fusion",)
    for one, other in (("shared", None), ("own", "fusion")):
        key = SavedGallery.open(folder / f"{one}.gallery").card.fingerprint
        with pytest.raises(ExportError, match=r"at every exit.* build another gallery"):
            Gallery.open(
                folder / f"{one}.gallery", replace(manifest, fingerprint=key, shared_exit=other)
            )
    with pytest.raises(UserError, match="thresholds of .* at its own exit, 'fusion'"):
        SavedGallery.open(folder / "shared.gallery").query_exit("stage1", judged=True)
    broken = shutil.copytree(folder / "shared.out", tmp_path / "broken")
    replace(manifest, shared_exit="stage1").write(broken)
    with pytest.raises(ExportError, match="only the last exit, fusion, may be shared"):
        Model(broken)


def test_an_upgrade_says_which_way(folder: Path) -> None:
    own = SavedGallery.open(folder / "own.gallery").card
    assert _new_card(own, Embedder.load(folder / "shared.ckpt")).shared
    with pytest.raises(UserError, match="leave exit out of the gallery"):
        _new_card(own, Embedder.load(folder / "shared.ckpt", "stage2"))
    assert not own.shared


def test_the_service_keeps_one_embedding_of_an_image(folder: Path, tmp_path: Path) -> None:
    model = Model(folder / "shared.out", threads=1)
    known = open_people(tmp_path / "p.sqlite", model, [folder / "shared.gallery"])
    assert (known.exits, known.queries) == (("fusion",), STREAM)
    assert list(known.rows.exits) == ["fusion"]
    scheduler = Scheduler(model, known, Target(mul_adds=model.manifest.exit("stage1").mul_adds))
    (embedded,) = [future.result(30) for future in scheduler.submit([NOISE[0]])]
    scheduler.close()
    assert embedded.exit == "stage1"
    row = embedded.embeddings["stage1"]
    away = np.linalg.norm(known.rows.exits["fusion"] - row, axis=1)
    (best,) = known.search(known.compare("stage1", row), 1)
    assert best.distance == pytest.approx(float(away.min()), rel=1e-4)
    assert known.nearest("stage1", row[None])[0] == pytest.approx(float(away.min()), rel=1e-3)
    assert known.threshold("fusion", 0.5) and known.threshold("stage1", 0.5) is None
    known.close()
