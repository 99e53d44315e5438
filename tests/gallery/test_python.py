"""A gallery from Python: functions that return results, and print nothing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab import build_gallery, link_tracklets, search_gallery
from reid_lab.errors import Note, SpaceWarning, UserError
from reid_lab.gallery import (
    Embedder,
    SavedGallery,
    add_images,
    calibrate_gallery,
    embed_to_file,
    evaluate_gallery,
    export_fiftyone,
    remove_images,
    soften_images,
    upgrade_gallery,
)
from tests.conftest import write_jpegs
from tests.methods import method, save

NAMES = [f"p{i // 2}/door_c{i % 2 + 1}.jpg" for i in range(16)]  # eight people, two cameras


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return write_jpegs(tmp_path / "people", NAMES, (64, 32))


def test_a_gallery_grows_is_searched_and_shrinks(
    people: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    built = build_gallery(
        people,
        checkpoint,
        tmp_path / "g",
        metric="cosine",
        batch_size=10,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(0, 16), (10, 16), (16, 16)]
    assert (built.embedded, built.known, built.broken, built.copies) == (16, 0, [], [])
    assert isinstance(built.gallery, SavedGallery) and built.gallery.card.metric == "cosine"

    more = write_jpegs(people / "p8", ["door_c1.jpg"], (64, 32)).parent
    (more / "p8" / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    added = add_images(built.gallery, more, checkpoint)
    assert (added.embedded, added.known, len(added.broken)) == (1, 16, 1)
    assert (len(built.gallery), len(added.gallery)) == (16, 17)  # the old one does not see it

    found = search_gallery(added.gallery, people / NAMES[0], checkpoint, top=3, where="camid=1")
    (result,) = found.results
    assert result.matches[0].image.path == people / NAMES[0] and len(result.matches) == 3
    assert {match.image.camera for match in result.matches} == {"1"} and result.verdict is None

    fitted = calibrate_gallery(tmp_path / "g", rates=[0.5])
    assert [t.false_accept_rate for one in fitted.thresholds for t in one.thresholds] == [0.5, 0.5]
    judged = search_gallery(fitted.gallery, [people / "p0"], checkpoint, false_accept_rate=0.5)
    assert judged.accept is not None and len(judged.results) == 2
    assert all(result.verdict is not None for result in judged.results)

    for queries in ("nix.jpg", [people / NAMES[0], "nix.jpg"]):
        with pytest.raises(UserError, match="nix.jpg does not exist: correct the path"):
            search_gallery(fitted.gallery, queries, checkpoint)
    with pytest.raises(UserError, match="there are no queries"):
        search_gallery(fitted.gallery, [], checkpoint)

    shown = repr(judged)
    assert f"{str(tmp_path / 'g')!r}, images=17), results=2, broken=0" in shown
    assert len(shown) < 100 + len(str(tmp_path))
    with pytest.raises(UserError, match="network: give a checkpoint"):
        search_gallery(fitted.gallery, people / "p0")
    with pytest.raises(UserError, match="embeds: give a checkpoint"):
        calibrate_gallery(fitted.gallery, labels="labels.csv")
    with pytest.raises(UserError, match="boxes are of one image") as error:
        search_gallery(fitted.gallery, ["a", "b"], boxes="boxes.csv")
    assert "--" not in str(error.value)

    measured = evaluate_gallery(fitted.gallery, hidden="same_camera")
    assert (measured.people, measured.images, measured.hidden) == (9, 17, "same_camera")
    assert [row["exit"] for row in measured.rows] == ["fusion"]

    removed = remove_images(tmp_path / "g", people=["p8"])
    assert repr(removed).endswith(", images=17), removed=1)")
    assert removed.removed == 1 and len(SavedGallery.open(tmp_path / "g")) == 16
    with pytest.raises(UserError, match="nothing to remove: give people, where or files"):
        remove_images(tmp_path / "g")
    assert "".join(capsys.readouterr()) == ""


def test_tracklets_are_linked(people: Path, checkpoint: Path, tmp_path: Path) -> None:
    one = write_jpegs(tmp_path / "one", ["a/1.jpg", "a/2.jpg", "b/1.jpg"], (64, 32))
    found = link_tracklets(one, str(one), checkpoint, threshold=1e-3)
    assert [(link.a, link.b) for link in found.links] == [(0, 0), (1, 1)]
    assert found.a.embeddings.shape == found.b.embeddings.shape == (2, 16)
    assert repr(found) == "LinkResult(a=2, b=2, linked=2, threshold=0.001)"
    assert [row["a"] for row in found.rows()] == ["a", "b"] and found.broken == []
    np.testing.assert_allclose([link.distance for link in found.links], 0, atol=1e-3)
    with pytest.raises(UserError, match="give threshold, or gallery with false_accept_rate"):
        link_tracklets(one, one, checkpoint)


def test_a_new_model_is_tried_and_taken(people: Path, checkpoint: Path, tmp_path: Path) -> None:
    build_gallery(people, checkpoint, tmp_path / "g")
    tried = upgrade_gallery(tmp_path / "g", checkpoint, exit="stage2", dry_run=True)
    assert not tried.swapped and tried.gallery.card.exit == "fusion"
    assert tried.comparison is not None and tried.comparison.queries == 16
    taken = upgrade_gallery(tried.gallery, checkpoint, exit="stage2")
    assert taken.swapped and taken.images == 16 and taken.gallery.card.exit == "stage2"


def test_a_space_that_does_not_fit_is_a_warning(
    people: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Embedder.load

    def unfit(*args: Any, **options: Any) -> Embedder:
        embedder = load(*args, **options)
        embedder.model.space_problem = "early exits are far off"
        return embedder

    monkeypatch.setattr(Embedder, "load", unfit)
    with pytest.raises(SpaceWarning, match=r"last\.ckpt: early exits are far off"):
        build_gallery(people, checkpoint, tmp_path / "g")


def test_a_file_of_embeddings(
    people: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    (people / "p0/broken.jpg").write_bytes(b"\xff\xd8 broken")
    out = tmp_path / "e.npz"
    written = embed_to_file(
        people, checkpoint, out, exits="stage1", progress=lambda *counts: seen.append(counts)
    )
    assert (written.path, written.exits, written.images, written.rows) == (
        out,
        ("stage1",),
        16,
        16,
    )
    assert seen == [(0, 17), (17, 17)] and "broken.jpg" in written.broken[0]
    assert not written.pooled and "--" not in written.note and "pattern=''" in written.note
    with np.load(out) as file:
        assert file["stage1"].shape == (16, 16)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"metric": "cosine"}, "metric says how tracklets are pooled: give pool=True, too"),
        ({"metric": "l2", "pool": True}, "metric='l2': choose euclidean or cosine"),
        ({"pool": True}, "pool=True needs tracklets, and .* has none"),
        ({"pattern": "x"}, "not one"),
        ({"batch_size": 0}, "batch_size=0: give a whole number from 1"),
        ({"exits": ["nix"]}, "unknown exit 'nix'"),
    ]
    for options, message in wrong:
        images = people / NAMES[0] if "pattern" in options else people
        with pytest.raises(UserError, match=message) as error:
            embed_to_file(images, checkpoint, out, **options)
        assert "--" not in str(error.value)
    assert "".join(capsys.readouterr()) == ""


def test_notes_name_arguments_and_those_of_commands_options(
    people: Path, checkpoint: Path, tmp_path: Path
) -> None:
    built = build_gallery(people, checkpoint, tmp_path / "g")
    assert built.note.endswith("; pattern='' leaves people unknown")
    assert isinstance(built.note, Note)
    assert built.note.command_text.endswith("; --pattern '' leaves people unknown")
    assert pickle.loads(pickle.dumps(built.note)).command_text == built.note.command_text


@pytest.mark.parametrize("where", [["p=0"], None])
def test_a_filter_is_a_text(people: Path, checkpoint: Path, tmp_path: Path, where: Any) -> None:
    gallery = build_gallery(people, checkpoint, tmp_path / "g").gallery
    for call in (
        lambda: search_gallery(gallery, people, checkpoint, where=where),
        lambda: remove_images(gallery, where=where),
    ):
        with pytest.raises(UserError, match="where is .*: give a filter as text"):
            call()


@pytest.mark.parametrize("query", [None, [[0.0, 1.0]]])
def test_a_search_takes_arrays(people: Path, checkpoint: Path, tmp_path: Path, query: Any) -> None:
    gallery = build_gallery(people, checkpoint, tmp_path / "g").gallery
    with pytest.raises(UserError, match="give a torch tensor or a NumPy array"):
        gallery.search(query, 1)


def test_a_data_set_for_fiftyone(
    people: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_gallery(people, checkpoint, tmp_path / "g")
    (people / NAMES[0]).unlink()
    done = export_fiftyone(tmp_path / "g", tmp_path / "f")
    assert (done.folder, done.images, done.queries, done.missing) == (tmp_path / "f", 16, 0, 1)
    assert len((tmp_path / "f" / "labels.csv").read_text().splitlines()) == 17
    with pytest.raises(UserError, match=r"^out=.*f exists: give a new folder") as error:
        export_fiftyone(tmp_path / "g", tmp_path / "f")
    assert error.value.command_text.startswith("--out ")
    with pytest.raises(UserError, match=r"^matches=nix cannot be read"):
        export_fiftyone(tmp_path / "g", tmp_path / "h", matches="nix")
    assert "".join(capsys.readouterr()) == ""


def test_softened_probabilities(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = save(method("classifier"), tmp_path / "teacher.ckpt")
    found = soften_images(people, teacher, tmp_path / "s", temperatures=[1, 30], count=2)
    assert [path.name for path in found.files] == ["softened.csv", "softened.png"]
    sharp, flat = found.means
    assert (sharp.temperature, flat.temperature) == (1, 30)
    assert sharp.largest > flat.largest and sharp.entropy < flat.entropy <= 1 + 1e-9
    with pytest.raises(UserError, match="temperatures: 0 is not a finite number above 0"):
        soften_images(people, teacher, tmp_path / "s", temperatures=[0])
    assert "".join(capsys.readouterr()) == ""
