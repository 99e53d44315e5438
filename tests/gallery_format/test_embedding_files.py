"""Files of embeddings: what is written, and what is refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from reid_lab.errors import UserError
from reid_lab.gallery_format.embedding_files import EmbeddedImages, check_format, write_embeddings

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
PATHS = np.array(["a.jpg", "b é.jpg"])


@pytest.mark.parametrize("name", ["o.npz", "o", "o.bin"])
def test_only_what_is_known_is_written(name: str, tmp_path: Path) -> None:
    images = EmbeddedImages("f" * 64, {"early": ROWS, "late": 2 * ROWS[:, :1]}, PATHS)
    write_embeddings(tmp_path / name, images)
    with np.load(tmp_path / name) as found:  # without pickle
        assert {*found.files} == {"early", "late", "paths", "fingerprint"}
        np.testing.assert_array_equal(found["early"], ROWS)
        assert found["paths"].tolist() == PATHS.tolist() and found["fingerprint"] == "f" * 64
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("exit", ["paths", "pids", "fingerprint"])
def test_an_exit_named_as_a_column(exit: str, tmp_path: Path) -> None:
    images = EmbeddedImages("f", {exit: ROWS}, PATHS, pids=np.array([1, 2]))
    with pytest.raises(UserError, match=f"exit '{exit}' has the name of another column"):
        write_embeddings(tmp_path / "o.npz", images)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("exit", ["path", "left"])
def test_an_exit_named_as_a_column_of_parquet(exit: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    images = EmbeddedImages("f", {exit: ROWS}, PATHS, boxes=np.zeros((2, 4), int))
    with pytest.raises(UserError, match=f"exit '{exit}' has the name of another column"):
        write_embeddings(tmp_path / "o.parquet", images)


def test_parquet_keeps_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    images = EmbeddedImages("f", {"early": ROWS}, PATHS, pids=np.array([7, -2]))
    check_format(tmp_path / "o.parquet")
    write_embeddings(tmp_path / "o.parquet", images)
    table = parquet.read_table(tmp_path / "o.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types["path"] == "string" and types["pid"] == "int64"
    assert types["early"].startswith("fixed_size_list<") and types["early"].endswith("float>[3]")
    assert table["early"].to_pylist() == ROWS.tolist()


@pytest.mark.parametrize(
    ("name", "message"), [("o.csv", r"must end in \.npz or \.parquet"), ("d.npz", "is a folder")]
)
def test_other_names_are_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(UserError, match=message):
        check_format(tmp_path / name)


def test_a_path_that_is_not_utf8_is_escaped_in_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = np.array(["a.jpg", os.fsdecode(b"caf\xe9.jpg")])
    write_embeddings(tmp_path / "o.parquet", EmbeddedImages("f", {"late": ROWS}, paths))
    found = parquet.read_table(tmp_path / "o.parquet")["path"].to_pylist()
    assert found == ["a.jpg", r"caf\udce9.jpg"]
