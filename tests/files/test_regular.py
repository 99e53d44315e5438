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
from reid_lab.dataset.readers.csv_file import read_table
from reid_lab.errors import UserError
from reid_lab.files.regular import no_file
from reid_lab.frontier.points import read_points
from reid_lab.gallery.image_lists import read_images
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.embedding_files import read_embeddings
from reid_lab.runtime.inputs import source_batches
from reid_lab.runtime.manifest import Manifest
from reid_lab.serve.export_people import opened
from reid_lab.serve.people_file import PeopleFile

NONE: Any = None


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


@pytest.mark.parametrize("read", READERS)
def test_a_pipe_is_told_and_not_read(read: Callable[[Path], object], pipe: Path) -> None:
    """Most of them said that it does not exist; some waited for somebody to write into it."""
    with pytest.raises(UserError, match=r"a pipe, not a regular file") as error:
        read(pipe)
    assert str(pipe) in str(error.value)
