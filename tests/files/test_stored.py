"""What anybody may have left in a run's folder is read as plain values, or refused in one line."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from reid_lab.files import stored
from reid_lab.files.stored import (
    StoredFileError,
    printable,
    read_arrays,
    read_config,
    read_json,
    read_table,
    read_yaml,
)

LAUGHS = "a: &a [x, x]\n" + "".join(f"b{i}: [*a, *a]\n" for i in range(9))
SHELL = "['touch pwned']"
BINARY = bytes(range(32))


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BINARY, "no text"),
        ("name: é\n".encode("latin-1"), "not UTF-8"),
        ("name: x\n".encode("utf-16"), "not UTF-8"),
        (LAUGHS, "an alias, line 2"),
        (f"a: !!python/object/apply:os.system {SHELL}\n", "python/object"),
        ("a: !!binary aGk=\n", "type bytes"),
        ("a: !!set {x}\n", "type set"),
        ("a: 2024-01-01\n", "type date"),
        ("a: " + "[" * 5000, "nested deeper"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper"),
        ("a: 1\na: 2\n", "duplicate key 'a'"),
        ("? [a, b]\n: 1\n", "unhashable"),
        ("a: " + "9" * 6000, "not plain YAML"),
        ("a: [1\n", "not plain YAML"),
        ("- a\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("a: {b: ['${oc.env:HOME}']}\n", "is not resolved"),
        ("a: '???'\n", "is not resolved"),
    ],
    ids=str,
)
def test_a_config_that_is_refused(tmp_path: Path, content: str | bytes, reason: str) -> None:
    path = written(tmp_path, "config.yaml", content)
    with pytest.raises(StoredFileError, match=f"^{path}: .*{reason}") as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)


def test_a_config_is_data_alone(tmp_path: Path) -> None:
    written(tmp_path, "config.yaml", f"model: {{_target_: os.system, _args_: {SHELL}}}\n")
    assert read_config(tmp_path)["model"]["_target_"] == "os.system"
    assert not (tmp_path / "pwned").exists() and not Path("pwned").exists()


def test_what_a_run_stores_comes_back(tmp_path: Path) -> None:
    values = ["1e-3", "on", "null", "12:30", "2024-01-01", "~", "0x1", 1e-5, 1e300, 3, None, True]
    values += [float("inf"), "ü 行", "a: b", "- x", " ", "", {}, [], {"k": [{"l": 0.1}]}]
    cfg = OmegaConf.create({"values": values, "again": "${values}", "one": "${values.0}"})
    written(tmp_path, "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    assert read_config(tmp_path) == OmegaConf.to_container(cfg, resolve=True)


def test_yaml_may_hold_any_plain_value(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "a.yaml", "- a=${b}\n- ++c=1\n")) == ["a=${b}", "++c=1"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BINARY, "no text"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        ('{"a": ' + "[" * 100_000, "nested deeper"),
        ('{"a": ' + "[" * 60 + "]" * 60 + "}", "nested deeper"),
        ('{"a": "\x1b[2J"}', "no text"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_json_that_is_refused(tmp_path: Path, content: str | bytes, reason: str) -> None:
    with pytest.raises(StoredFileError, match=f"s.json: .*{reason}"):
        read_json(written(tmp_path, "s.json", content))


def test_json_numbers_of_any_length(tmp_path: Path) -> None:
    content = read_json(written(tmp_path, "s.json", f'{{"a": {"9" * 6000}, "b": {2**63}}}'))
    assert content == {"a": float("inf"), "b": 2**63}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BINARY, "no text"),
        ("", "empty"),
        ("\n", "empty"),
        (",,\n", "no header"),
        ("a,b,a\n1,2,3\n", "duplicate column 'a'"),
        ("a,b\n1\n", "line 2: 1 cells where the header has 2"),
        ("a,b\n1,2\n1,2,3\n", "line 3: 3 cells"),
        ('a,b\n1,"2', "line 2: unexpected end"),
        ("a,b\n1,2\n\0\0", "no text"),
        ("a\n" + "x" * 200_000, "field larger"),
        (",".join(map(str, range(5000))) + "\n", "5,000 columns"),
        ("a\n" + "1\n" * 100_001, "more than 100,000 rows"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_a_table_that_is_refused(tmp_path: Path, content: str | bytes, reason: str) -> None:
    with pytest.raises(StoredFileError, match=f"t.csv: .*{reason}"):
        read_table(written(tmp_path, "t.csv", content))


@pytest.mark.parametrize(
    "content", ['a,b\n1,"x\ny"\n', 'a,b\r\n1,"x\ny"\r\n\r\n', '\ufeffa,b\n1,"x\ny"']
)
def test_a_table_that_is_read(tmp_path: Path, content: str) -> None:
    assert read_table(written(tmp_path, "t.csv", content)) == [{"a": "1", "b": "x\ny"}]


def boasting(path: Path) -> None:
    header = io.BytesIO()
    kept = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6, 3)}
    np.lib.format.write_array_header_1_0(header, kept)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + b"abc")


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(2**20))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(BINARY),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(pickle.dumps([1])),
        lambda path: np.savez(path, a=np.array([{}, None], dtype=object)),
        boasting,
        bomb,
    ],
    ids=["binary", "empty", "pickle", "objects", "boasting", "bomb"],
)
def test_arrays_that_are_refused(
    tmp_path: Path, write: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "ARRAYS", 2**19)
    write(tmp_path / "a.npz")
    with pytest.raises(StoredFileError, match="a.npz: not a file of arrays"):
        read_arrays(tmp_path / "a.npz")


READERS = (read_yaml, read_json, read_table, read_arrays)


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(StoredFileError, match="none: No such file"):
        read(tmp_path / "none")
    with pytest.raises(StoredFileError, match=f"^{tmp_path}: a folder"):
        read(tmp_path)
    with pytest.raises(StoredFileError, match="null"):
        read(tmp_path / "a\0b")


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
@pytest.mark.parametrize("read", READERS)
def test_links_and_pipes_do_not_hang(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("loop", "pipe"):
        with pytest.raises(StoredFileError, match=name):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("read", "limit"),
    [(read_yaml, "YAML"), (read_json, "JSON"), (read_table, "TABLE"), (read_arrays, "ARRAYS")],
)
def test_a_huge_file_is_not_read(
    tmp_path: Path, read: Callable[[Path], object], limit: str
) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(getattr(stored, limit) + 1)
    with pytest.raises(StoredFileError, match="MiB, at most"):
        read(tmp_path / "huge")


def test_names_that_cannot_be_shown() -> None:
    content = printable({"a\udcff": ["\ud800", "\x1b[2J\n", 1, None]})
    assert content == {"a\\udcff": ["\\ud800", "\\x1b[2J\n", 1, None]}
    json.dumps(content, ensure_ascii=False).encode()
