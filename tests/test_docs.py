"""The Python of docs/python.md runs as it is printed; every command has a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import reid_lab

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {p.relative_to(DOCS).as_posix(): p.read_text("utf-8") for p in DOCS.rglob("*.md")}
PACKAGE = Path(reid_lab.__file__).parent
COMMANDS = sorted(path.parent.name for path in PACKAGE.glob("*/__main__.py"))


def test_the_python_runs_as_printed(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGES["python.md"], re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block.replace("/data/mine", people.as_posix()), names)
    promised = re.findall(r"print\(.*\)  # (.*)", "".join(blocks))
    assert promised and capsys.readouterr().out.splitlines() == promised
    assert names["images"].shape == (8, 3, 128, 64)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page(command: str) -> None:
    assert any(f"python -m reid_lab.{command} " in text for text in PAGES.values())


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_page_is_linked(name: str) -> None:
    """And every toctree names pages that exist; `make docs` would fail on either."""
    listed = set()
    for page, text in PAGES.items():
        for tree in re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL):
            lines = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {(DOCS / page).parent / f"{line}.md" for line in lines}
    made = DOCS / "studies"  # by conf.py, from experiments/
    assert name == "index.md" or DOCS / name in listed or made in (DOCS / name).parents
    assert all(path.is_file() for path in listed if made not in path.parents)
