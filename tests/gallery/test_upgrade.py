"""A gallery is embedded by a new model, compared, and swapped in one step; resumed when killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.checkpoint import fingerprint, put_accept_thresholds
from reid_lab.errors import UserError
from reid_lab.gallery.accept_thresholds import fit_own_thresholds
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.upgrade import located
from reid_lab.gallery_format.card import Card
from reid_lab.gallery_format.writer import STAGING, RowWriter
from reid_lab.openset.thresholds import AcceptThreshold, AcceptThresholds
from tests.commands import gallery as main
from tests.conftest import write_jpegs
from tests.gallery.test_remove import die_at
from tests.methods import method, save

Run = Callable[..., str]
NAMES = [f"p{i // 2}@c{i % 2}/{i}.jpg" for i in range(12)]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the same network with other weights."""
    model = method("dare")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(torch.empty_like(weight).uniform_(0.5, 1.5))
    return save(model, tmp_path_factory.mktemp("other") / "last.ckpt")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, other: Path) -> Path:
    """A gallery by the one checkpoint with an index and metadata, and one by the other."""
    folder = tmp_path_factory.mktemp("built")
    write_jpegs(folder / "people", NAMES, (64, 32))
    lines = [f"people/{name},site {i % 3}\n" for i, name in enumerate(NAMES)]
    (folder / "m.csv").write_text("path,site\n" + "".join(lines), encoding="utf-8")
    for name, weights in (("g", checkpoint), ("wanted", other)):
        words = ["build", "--checkpoint", weights, "--images", folder / "people", "--out"]
        words += [folder / name, "--pattern", r"(?P<pid>[^/@]+)@(?P<camid>[^/]+)/"]
        words += ["--metadata", folder / "m.csv", "--index", "hnsw", "--batch-size", 5]
        assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def run(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Upgrade a copy `g` of the gallery; what it prints."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(built / "g", "g")

    def call(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        assert main(["upgrade", "g", "--batch-size", "5", *map(str, words)]) == status
        return "".join(capsys.readouterr())

    return call


def is_upgraded(built: Path) -> bool:
    """Whether `g` is as if the new model had built it, and nothing is left of the old one."""
    new, wanted, old = (SavedGallery.open(p) for p in ("g", built / "wanted", built / "g"))
    rows = [path.read_bytes() for path in Path("g").rglob("*") if path.is_file()]
    return (
        np.array_equal(new.embeddings, wanted.embeddings)
        and new.paths() == wanted.paths()
        and new.names_of("pid") == wanted.names_of("pid")
        and new.column("site") == wanted.column("site")
        and new.card.fingerprint == wanted.card.fingerprint
        and new.saved_index() is not None
        and not (Path("g") / STAGING).exists()
        and not any(old.embeddings[0].tobytes() in data for data in rows)
    )


def test_a_new_model_takes_over(run: Run, other: Path, built: Path) -> None:
    old = SavedGallery.open("g")
    printed = run("--checkpoint", other)
    assert re.search(r"12 images of the gallery as queries(.|\n)*old +\d+(.|\n)*new +\d+", printed)
    assert "thresholds are gone, calibrate again" in printed
    assert is_upgraded(built)
    assert len(old.search(np.array(old.embeddings[:2]), 1)[1]) == 2  # what was opened stays in use
    assert "are of this model" in run("--checkpoint", other, status=1)


def test_thresholds_of_the_old_model_are_dropped(run: Run, other: Path) -> None:
    gallery = SavedGallery.open("g")
    RowWriter(gallery).set_accept_thresholds(fit_own_thresholds(gallery))
    assert SavedGallery.open("g").card.accept_thresholds
    other = Path(shutil.copy(other, "new.ckpt"))
    one = AcceptThresholds("searches", "x", 7, 9, 9, (AcceptThreshold(0.1, 1.0, 1.0),))
    printed = run("--checkpoint", other)
    assert not SavedGallery.open("g").card.accept_thresholds and "thresholds are gone" in printed
    assert put_accept_thresholds(other, {"stage2": {"euclidean": (one,)}}, fingerprint(other))
    printed = run("--checkpoint", other, "--exit", "stage2")
    assert SavedGallery.open("g").card.accept_thresholds == (one,)  # the new one's, if it has any
    assert "thresholds are the checkpoint's (x), calibrate again" in printed


@pytest.mark.system
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [(RowWriter, "append_rows", 3), (RowWriter, "replace_rows", 1), (RowWriter, "_clean", 3)],
)
def test_a_killed_upgrade_resumes(
    owner: Any,
    name: str,
    call: int,
    run: Run,
    other: Path,
    built: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = os.fork()
    if not child:
        signal.alarm(60)
        die_at(call, owner, name, monkeypatch)
        torch.set_num_threads(1)
        run("--checkpoint", other)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    swapped = (
        SavedGallery.open("g").card.fingerprint != SavedGallery.open(built / "g").card.fingerprint
    )
    assert swapped == (name == "_clean")
    if swapped:
        assert "are of this model" in run("--checkpoint", other, status=1)
        assert not (Path("g") / STAGING).exists()
    else:
        staged = len(SavedGallery.open(Path("g") / STAGING))
        assert staged == (10 if name == "append_rows" else 12)
        stamp = (Path("g") / STAGING / "embeddings.bin").stat().st_ino
        run("--checkpoint", other, "--dry-run")
        assert (Path("g") / STAGING / "embeddings.bin").stat().st_ino == stamp  # it went on there
        run("--checkpoint", other)
        assert is_upgraded(built)


def test_a_dry_run_and_a_worse_model_swap_nothing(
    run: Run, other: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card.read(Path("g"))
    assert "still has the old embeddings (--dry-run)" in run("--checkpoint", other, "--dry-run")
    assert Card.read(Path("g")) == card and len(SavedGallery.open("g")) == 12
    monkeypatch.setattr("reid_lab.gallery.upgrade.rank", Falling())
    printed = run("--checkpoint", other, "--only-if-better", status=1)
    assert "its mAP is lower" in printed and Card.read(Path("g")) == card
    assert main(["remove", "g", "--pid", "p1"]) == 0  # also from what was staged
    assert not (Path("g") / STAGING).exists()


class Falling:
    """Rankings, each with a lower accuracy than the one before."""

    def __init__(self) -> None:
        self.rank1 = self.mAP = 1.0
        self.answerable = torch.ones(3, dtype=torch.bool)

    def __call__(self, *_: Any) -> Falling:
        lower = Falling()
        lower.mAP = self.mAP = self.mAP / 2
        return lower


def test_images_are_looked_for_where_they_are_now(
    run: Run, other: Path, built: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "archive" / "2026"
    shutil.copytree(built / "people", moved)
    paths = SavedGallery.open("g").paths()
    assert located(paths, tmp_path / "archive") == [
        moved / Path(p).parent.name / Path(p).name for p in paths
    ]
    gone = [str(tmp_path / "gone" / Path(p).parent.name / Path(p).name) for p in paths]
    assert located(gone, moved) == located(paths, moved)
    with pytest.raises(UserError, match="12 of 12 images cannot be found: give images"):
        located(gone, None)
    shutil.copytree(moved, tmp_path / "archive" / "2027")
    with pytest.raises(UserError, match="12 of 12 images .* found in .*, or match several files"):
        located(gone, tmp_path / "archive")
    (moved / "p0@c0" / "0.jpg").write_bytes(b"broken")
    printed = run("--checkpoint", other, "--images", moved, status=1)
    assert "gallery remove --file), then start again" in printed
