"""No command writes into a gallery or an export, which is removed when that is overwritten."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from reid_lab.cli.main import main, tree
from reid_lab.serve import open as serve

# words that are enough in front of each option that writes, and the ending of its file
WRITES = {
    "doctor --sheet": ("dataset=folder", ".png"),
    "cost --csv": ("+experiment=demo", ".csv"),
    "cost --profile": ("+experiment=demo --gallery 10", ".csv"),
    "frontier --out": ("absent", ""),
    "compare --out": ("absent absent", ".csv"),
    "gallery build --out": ("--checkpoint absent --images people", ""),
    "gallery search --out": ("absent --checkpoint absent --image absent", ".csv"),
    "gallery link --out": ("absent absent --threshold 1", ".csv"),
    "gallery evaluate --out": ("absent", ".csv"),
    "embed --out": ("--checkpoint absent --images absent", ".npz"),
    "weights convert --out": ("absent", ".ckpt"),
    "export --out": ("--checkpoint absent", ""),
    "export-fiftyone --out": ("absent", ""),
    "export-people --out": ("absent", ""),
    "runtime --out": ("absent absent", ".npz"),
    "serve --people": ("--model absent", ".sqlite"),
    "soften --out": ("--checkpoint absent --images absent", ""),
    "workspace --spec": ("one/two", ".json"),
}
READS = {"--boxes", "--checkpoint", "--file", "--from", "--frontier", "--gallery", "--image"}
READS |= {"--images", "--labels", "--matches", "--metadata", "--model", "--queries", "--run"}
READS |= {"--wheel"}


def path_options(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """The options with paths of a command and of its actions, each as (command, option)."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for key, below in action.choices.items():
                yield from path_options(f"{name} {key}", below)
        elif action.option_strings and "ath" in getattr(action.type, "__name__", ""):
            yield name, action.option_strings[0]


def test_every_option_that_writes_is_tried() -> None:
    found = {each for name, parser in tree()[1].items() for each in path_options(name, parser)}
    assert {f"{name} {option}" for name, option in found if option not in READS} == {*WRITES}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("what", ["gallery", "export"])
def test_nothing_is_written_into_a_gallery_or_an_export(
    what: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for folder in ("g", "e/stages", "people"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("g/gallery.json", "e/manifest.json", "people/a.jpg"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve, "Model", lambda *_: None)
    before = sorted(tmp_path.rglob("*"))
    command, option = name.rsplit(" ", 1)
    words, ending = WRITES[name]
    out = f"{what[0]}/file{ending}"
    status = main([*command.split(), *words.split(), option, out])
    told = capsys.readouterr().err
    outer = tmp_path / what[0]
    assert f"error: {out} is inside of the {what} {outer}, and would be removed when" in told
    assert "choose a folder beside it" in told
    assert status in (1, 2) and sorted(tmp_path.rglob("*")) == before
