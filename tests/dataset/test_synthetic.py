"""The synthetic renderer: same recipe same bytes, the Market-1501 layout, and its people."""

from __future__ import annotations

import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reid_lab.config.overrides import composed
from reid_lab.dataset import DatasetError
from reid_lab.dataset.synthetic import Recipe, contact_sheet, render
from reid_lab.dataset.synthetic import writer as writer_module
from reid_lab.dataset.synthetic.camera import degrade
from reid_lab.dataset.synthetic.draw import Canvas, Pixels
from reid_lab.dataset.synthetic.garments import wardrobe
from reid_lab.dataset.synthetic.image import ImageKey, render_image, render_jpeg
from reid_lab.dataset.synthetic.keys import Population
from reid_lab.dataset.synthetic.occluder import half_seen
from reid_lab.dataset.synthetic.person import BLOCK, Pedestrian, families, person
from reid_lab.dataset.synthetic.variation import cast, dressed, drifted, track_stream, varied_camera

NAME = re.compile(r"(-1|\d{4})_c(\d)s1_(\d{6})_(\d{2})\.jpg")
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
SMALL = Recipe(
    seed=7, train_identities=3, test_identities=4, cameras=3, images_per_camera=2,
    distractors=5, junk=4,
)  # fmt: skip


def pictures(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.glob("*/*.jpg"))}


def keys(root: Path, folder: str) -> list[tuple[int, int]]:
    """Return (pid, camid) of every image in a folder."""
    found = [NAME.fullmatch(p.name) for p in sorted((root / folder).iterdir())]
    assert all(found), "a name does not follow Market-1501"
    return [(int(m[1]), int(m[2])) for m in found if m]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("synthetic"), SMALL, progress=False)


def test_bytes_do_not_depend_on_the_run_or_the_workers(root: Path, tmp_path: Path) -> None:
    again = render(tmp_path / "again", SMALL, workers=2, progress=False)
    assert pictures(again) == pictures(root)


def test_another_seed_gives_other_images(root: Path) -> None:
    key = ImageKey(Population.TEST, 0, 1, 0)
    assert (render_image(SMALL, key) != render_image(replace(SMALL, seed=8), key)).mean() > 0.5


def test_layout_and_counts(root: Path) -> None:
    train, query, gallery = (keys(root, folder) for folder in (TRAIN, QUERY, GALLERY))
    assert {pid for pid, _ in train} == {1, 3, 5}
    assert {pid for pid, _ in query} == {2, 4, 6, 8}
    assert {pid for pid, _ in gallery} == {-1, 0, 2, 4, 6, 8}
    assert sum(pid == 0 for pid, _ in gallery) == SMALL.distractors
    assert sum(pid == -1 for pid, _ in gallery) == SMALL.junk
    for key in set(train):
        assert train.count(key) == SMALL.images_per_camera
    for key in query:
        assert query.count(key) == 1
        assert gallery.count(key) == SMALL.images_per_camera - 1
    for path in root.glob("*/*.jpg"):
        with Image.open(path) as image:
            assert (image.size, image.format) == ((SMALL.width, SMALL.height), "JPEG")


def test_every_query_has_a_match_in_another_camera(root: Path) -> None:
    gallery = keys(root, GALLERY)
    for pid, camid in keys(root, QUERY):
        assert any(p == pid and c != camid for p, c in gallery)


def test_recipe_and_readme_are_written(root: Path) -> None:
    told = json.loads((root / "recipe.json").read_text())
    assert told["seed"] == SMALL.seed and told["lookalikes"] == SMALL.lookalikes
    assert "Market-1501" in (root / "README.md").read_text()


def test_the_size_of_the_images_can_be_chosen() -> None:
    recipe = replace(SMALL, height=96, width=40)
    assert render_image(recipe, ImageKey(Population.TEST, 0, 1, 0)).shape == (96, 40, 3)


def test_a_finished_root_is_not_drawn_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "render_jpeg", _never)
    assert render(root, SMALL, progress=False) == root


def _never(*_: object) -> bytes:
    raise AssertionError("a picture was drawn again")


def test_an_interrupted_run_is_continued(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data"
    drawn: list[ImageKey] = []
    real = render_jpeg

    def dying(recipe: Recipe, key: ImageKey) -> bytes:
        if len(drawn) == 10:
            raise KeyboardInterrupt
        drawn.append(key)
        return real(recipe, key)

    monkeypatch.setattr(writer_module, "render_jpeg", dying)
    with pytest.raises(KeyboardInterrupt):
        render(target, SMALL, progress=False)
    assert len(pictures(target)) == 10
    assert not (target / "complete").exists()

    continued: list[ImageKey] = []

    def counting(recipe: Recipe, key: ImageKey) -> bytes:
        continued.append(key)
        return real(recipe, key)

    monkeypatch.setattr(writer_module, "render_jpeg", counting)
    render(target, SMALL, progress=False)
    assert pictures(target) == pictures(root)
    assert not set(continued) & set(drawn), "finished pictures were drawn twice"


def test_a_kill_in_the_middle_of_a_write_leaves_no_torn_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target.suffix == ".jpg":
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "data", SMALL, progress=False)
    assert not list(tmp_path.rglob("*.jpg"))


def test_a_kill_before_the_recipe_is_written_leaves_a_folder_to_draw_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            render(tmp_path / "data", SMALL, progress=False)
    render(tmp_path / "data", SMALL, progress=False)


def test_a_worker_that_was_killed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ThreadPoolExecutor):
        def submit(self, *_: object, **__: object) -> Any:
            raise BrokenProcessPool

    monkeypatch.setattr(writer_module, "worker_pool", Broken)
    with pytest.raises(DatasetError, match="a rendering process ended.*start again"):
        render(tmp_path / "data", SMALL, workers=2, progress=False)


def test_lost_images_are_drawn_again_without_the_marker(root: Path, tmp_path: Path) -> None:
    target = render(tmp_path / "data", SMALL, progress=False)
    victims = sorted(target.glob("*/*.jpg"))[::3]
    for path in [*victims, target / "complete"]:
        path.unlink()
    render(target, SMALL, progress=False)
    assert pictures(target) == pictures(root)


def test_another_recipe_is_refused(root: Path) -> None:
    before = pictures(root)
    with pytest.raises(DatasetError, match="another recipe.*choose another folder"):
        render(root, replace(SMALL, seed=8), progress=False)
    assert pictures(root) == before


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="thesis.txt.*choose another folder"):
        render(tmp_path, SMALL, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_foreign_image_in_an_unfinished_root_is_refused(tmp_path: Path) -> None:
    target = render(tmp_path / "data", SMALL, progress=False)
    (target / "complete").unlink()
    (target / QUERY / "9999_c1s1_000000_00.jpg").write_bytes(b"mine")
    with pytest.raises(DatasetError, match="9999_c1s1"):
        render(target, SMALL, progress=False)


def test_a_file_as_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DatasetError, match="not a folder"):
        render(tmp_path / "file", SMALL, progress=False)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("seed", -1), ("train_identities", -1), ("test_identities", 2.5), ("cameras", 1),
        ("cameras", 10), ("images_per_camera", 1), ("distractors", -5), ("junk", "many"),
        ("lookalikes", 1.5), ("lookalikes", float("nan")), ("height", 8), ("width", True),
        ("variation", 2),
    ],
)  # fmt: skip
def test_bad_knobs_are_named(knob: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{knob}=.*expected a"):
        replace(SMALL, **{knob: value})  # type: ignore[arg-type]


def test_no_identities_and_negative_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train_identities"):
        replace(SMALL, train_identities=0, test_identities=0)
    with pytest.raises(ValueError, match="workers"):
        render(tmp_path / "data", SMALL, workers=-1)
    assert not (tmp_path / "data").exists()


def test_more_identities_leave_the_earlier_images_unchanged(root: Path, tmp_path: Path) -> None:
    more = replace(SMALL, train_identities=5, test_identities=5, distractors=6)
    grown = pictures(render(tmp_path / "data", more, progress=False))
    people = {k: v for k, v in pictures(root).items() if "/-1_" not in k}
    assert people.items() <= grown.items()


def test_junk_does_not_depend_on_how_many_people_there_are(root: Path, tmp_path: Path) -> None:
    more = replace(SMALL, test_identities=9, junk=6)
    grown = pictures(render(tmp_path / "data", more, progress=False))
    assert {k: v for k, v in pictures(root).items() if "/-1_" in k}.items() <= grown.items()


def members(lookalikes: float, blocks: int = 4) -> list[list[Pedestrian]]:
    return [
        [person(3, lookalikes, Population.TEST, BLOCK * block + first + k) for k in range(size)]
        for block in range(blocks)
        for first, size in families(3, lookalikes, Population.TEST, block)
    ]


def test_lookalikes_share_colours_and_differ_in_details() -> None:
    groups = members(1.0)
    assert all(2 <= len(group) <= 4 for group in groups)
    details = ("pattern", "hat", "hair", "shoes", "carried", "logo", "back_print")
    for group in groups:
        for one, other in combinations(group, 2):
            for shared in ("upper", "upper_colour", "accent", "lower", "lower_colour"):
                assert getattr(one, shared) == getattr(other, shared)
            assert one.pattern != other.pattern  # seen from every side
            assert sum(getattr(one, d) != getattr(other, d) for d in details) >= 3
            assert np.abs(wardrobe(one).torso - wardrobe(other).torso).mean() > 3


def test_share_of_lookalikes_follows_the_knob() -> None:
    assert all(len(group) == 1 for group in members(0.0))
    sizes = [size for block in range(60) for _, size in families(3, 0.5, Population.TEST, block)]
    share = sum(size for size in sizes if size > 1) / sum(sizes)
    assert share == pytest.approx(0.5, abs=0.05)


def test_train_and_test_people_differ() -> None:
    train = {person(3, 0.0, Population.TRAIN, k) for k in range(20)}
    assert not train & {person(3, 0.0, Population.TEST, k) for k in range(20)}


def test_sheet_has_a_row_per_identity() -> None:
    image = contact_sheet(SMALL, rows=2, columns=3)
    assert image.size == (3 * 64 + 4, 2 * 128 + 2)
    image.save(io.BytesIO(), "PNG")
    with pytest.raises(ValueError, match="rows=0"):
        contact_sheet(SMALL, rows=0)


VARIED = replace(SMALL, variation=1.0)


def takes(recipe: Recipe, people: int = 8, camid: int = 1) -> list[Pixels]:
    """The first image of several people in one camera."""
    return [
        render_image(recipe, ImageKey(Population.TEST, k, camid, 0)).astype(np.float32)
        for k in range(people)
    ]


def test_a_recipe_without_variation_is_stored_as_before_the_parameter(tmp_path: Path) -> None:
    tiny = replace(SMALL, train_identities=1, test_identities=0, distractors=0, junk=0)
    plain = render(tmp_path / "plain", tiny, progress=False)
    assert "variation" not in json.loads((plain / "recipe.json").read_text())
    varied = render(tmp_path / "varied", replace(tiny, variation=0.5), progress=False)
    assert json.loads((varied / "recipe.json").read_text())["variation"] == 0.5
    with pytest.raises(DatasetError, match="another recipe"):
        render(plain, replace(tiny, variation=0.5), progress=False)


def test_images_go_further_from_the_plain_ones_with_variation() -> None:
    plain = takes(SMALL)
    away = [
        np.mean([np.abs(a - b).mean() for a, b in zip(plain, takes(recipe), strict=True)])
        for recipe in (replace(SMALL, variation=v) for v in (0.0, 0.2, 1.0))
    ]
    assert away[0] == 0 and away[2] > 1.5 * away[1] > 0


def test_light_drifts_between_tracks_of_one_camera() -> None:
    """Red over blue of a grey image, by person: constant but for small noise without variation."""
    grey = np.full((3, 8, 8), 128, np.float32)

    def warmth(amount: float) -> float:
        view = varied_camera(3, 1, amount)
        ratios = []
        for index in range(40):
            track = track_stream(3, Population.TEST, index, 1)
            image = degrade(drifted(view, track, amount), grey, np.random.default_rng(0))
            ratios.append(image[..., 0].mean() / image[..., 2].mean())
        return float(np.std(ratios))

    assert warmth(0.0) == 0
    assert 0.08 < warmth(1.0) < 0.4


def test_families_stay_families_in_quiet_clothes() -> None:
    for group in members(1.0):
        clothes = [dressed(one, 1.0) for one in group]
        assert len({(c.upper_colour, c.lower_colour, c.back_colour) for c in clothes}) == 1
        assert len({c.pattern for c in clothes}) == len(clothes)
    everybody = [person(3, 0.0, Population.TEST, k) for k in range(200)]
    assert [dressed(one, 0.0) for one in everybody] == everybody
    quiet = np.mean([dressed(one, 1.0).upper_colour != one.upper_colour for one in everybody])
    assert 0.75 < quiet < 0.95


def test_the_back_has_its_own_colour() -> None:
    one = replace(person(3, 0.0, Population.TEST, 0), upper="tshirt", upper_colour=(20, 20, 200))
    one = replace(one, pattern="plain", logo="none", back_print="none", carried="none")
    torso = wardrobe(replace(one, back_colour=(200, 20, 20))).torso
    middle, edge = torso.shape[2] // 2, 0
    assert torso[2, 60, middle] > 3 * torso[0, 60, middle]
    assert torso[0, 60, edge] > 3 * torso[2, 60, edge]
    assert (wardrobe(one).torso[0, 60] < wardrobe(one).torso[2, 60]).all()


def test_shadows_darken_a_part_of_some_images() -> None:
    white = np.full((3, 64, 32), 200, np.float32)
    assert all((cast(white, np.random.default_rng(k), 0.0) == white).all() for k in range(20))
    seen = [cast(white, np.random.default_rng(k), 1.0) for k in range(200)]
    shaded = [image for image in seen if (image != white).any()]
    assert 0.3 < len(shaded) / len(seen) < 0.6
    assert all(image[:2].max() <= 200 and image.min() > 40 for image in shaded)
    assert np.mean([image.max() > 1.2 * image.min() for image in shaded]) > 0.6


def test_a_half_seen_person_is_covered_and_others_are_not() -> None:
    hidden = []
    for k in range(30):
        canvas = Canvas(64, 32)
        canvas.depth[:] = 0  # a person all over
        half_seen(canvas, np.random.default_rng(k), 0, lambda *_: None)
        hidden.append(float(np.isinf(canvas.depth).mean()))
    objects = [share for share in hidden if share > 0]
    assert min(objects) > 0.25 and max(objects) < 0.55
    assert 0.35 < len(objects) / len(hidden) < 0.85  # the others are people, not drawn here


def test_the_varied_data_set_is_found_by_its_own_name() -> None:
    plain, varied = composed(["dataset=synthetic"]), composed(["dataset=synthetic_varied"])
    assert varied.dataset.recipe.variation == 1.0
    assert varied.dataset.reader.name == "synthetic_varied" != plain.dataset.reader.name
    assert varied.dataset.root != plain.dataset.root
