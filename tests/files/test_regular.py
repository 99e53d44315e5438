"""Devices, pipes, folders and broken links are told as such, and never read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reid_lab.backbone.weights.files import read_weights
from reid_lab.budget.profile import read_costs
from reid_lab.checkpoint import read_checkpoint
from reid_lab.config.settings import check_exists
from reid_lab.dataset import read_market1501
from reid_lab.dataset.readers.csv_file import read_table
from reid_lab.dataset.readers.files import image_names
from reid_lab.dataset.synthetic import Recipe, render
from reid_lab.errors import UserError
from reid_lab.files.regular import no_file, no_folder
from reid_lab.frontier.collect import find_runs
from reid_lab.frontier.points import read_points
from reid_lab.gallery.image_lists import read_images
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.embedding_files import read_embeddings
from reid_lab.report.load import load_results
from reid_lab.runtime.inputs import source_batches
from reid_lab.runtime.manifest import Manifest
from reid_lab.serve.people_export import opened
from reid_lab.serve.people_file import PeopleFile

NONE: Any = None
FILE = Path(__file__)


def as_checkpoint(path: Path) -> None:
    problem = check_exists(SimpleNamespace(ckpt_path=str(path), name="a"), path)  # type: ignore[arg-type]
    raise UserError(str(problem))


def as_people(path: Path) -> None:
    PeopleFile(path, NONE, "euclidean", ())


READERS: list[Callable[[Path], object]] = [
    read_checkpoint,
    as_checkpoint,
    read_weights,
    lambda path: read_costs(path, "latency", {}, torch.device("cpu")),
    lambda path: read_table(path, ("path",), (), "Correct it"),
    read_embeddings,
    read_points,
    read_images,
    lambda path: read_images(Path(__file__), boxes=path),
    SavedGallery.open,
    lambda path: source_batches(path, None, 1),
    lambda path: source_batches([path], None, 1),
    Manifest.read,
    opened,
    as_people,
]


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    if os.name == "nt":
        pytest.skip("pipes of POSIX")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_what_it_is(tmp_path: Path, pipe: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    assert no_file(tmp_path / "link") == "is a link to gone, which does not exist"
    assert no_file(tmp_path / "none") == no_file(tmp_path / "a\0b") == "does not exist"
    assert no_file(tmp_path) == "is a folder"
    assert no_file(pipe) == "is a pipe, not a regular file"
    assert no_file(Path("/dev/zero")) == "is a device, not a regular file"
    assert no_folder(tmp_path / "link") == "is a link to gone, which does not exist"
    assert no_folder(tmp_path / "none") == no_folder(tmp_path / "a\0b") == "does not exist"
    assert no_folder(Path(__file__)) == "is a file, not a folder"
    assert no_folder(pipe) == "is a pipe, not a folder"
    assert no_folder(Path("/dev/null")) == "is a device, not a folder"


def as_images(path: Path) -> None:
    image_names(path)


def as_root(path: Path) -> None:
    read_market1501(path)


def as_synthetic(path: Path) -> None:
    render(path, Recipe(), progress=False)


def as_run(path: Path) -> None:
    load_results(path)


def as_runs(path: Path) -> None:
    find_runs([path])


@pytest.mark.parametrize("read", [as_images, as_root, as_synthetic, as_run, as_runs])
def test_what_is_no_folder_is_told(read: Callable[[Path], None], pipe: Path) -> None:
    """Some said that a pipe is a file, others that there is nothing."""
    for path, what in ((pipe, "a pipe"), (Path("/dev/null"), "a device"), (FILE, "a file")):
        with pytest.raises(UserError, match=f"is {what}, not a folder") as error:
            read(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("read", READERS)
def test_a_pipe_is_told_and_not_read(read: Callable[[Path], object], pipe: Path) -> None:
    """Most of them said that it does not exist; some waited for somebody to write into it."""
    with pytest.raises(UserError, match=r"a pipe, not a regular file") as error:
        read(pipe)
    assert str(pipe) in str(error.value)
