"""Python in the docs runs, notebooks print what they store, commands have pages."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import nbformat
import pytest
import torch
import yaml
from nbclient import NotebookClient
from torch import Tensor, nn

import reid_lab
from reid_lab.backbone import Backbone
from reid_lab.cli import main as cli
from reid_lab.config.overrides import composed, first_value
from tests.conftest import write_jpegs
from tests.methods import METHODS, method, save
from tests.printed import OURS, blocks, typed, words_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {p.relative_to(DOCS).as_posix(): p.read_text("utf-8") for p in DOCS.rglob("*.md")}
PACKAGE = Path(reid_lab.__file__).parent
EXTENSIONS = ("method", "backbone", "dataset", "reader")
# As many images of each person as the quick start's, the first of camera 1.
QUICKSTART_IMAGES = dict(zip(range(10, 29, 2), (10, 6, 10, 8, 12, 6, 8, 6, 12, 6), strict=True))
QUICKSTART_PEOPLE = [
    f"people/{pid:04d}_c{i // 2 + 1}s1_{i:06d}_01.jpg"
    for pid, images in QUICKSTART_IMAGES.items()
    for i in range(images)
]
COMMANDS = sorted(cli.tree()[1].keys() - {cli.RUN})


def test_the_table_of_exits_is_that_of_the_methods() -> None:
    lines = [line for line in PAGES["concepts/exits.md"].splitlines() if line.startswith("| ")]
    listed = []
    for line in lines[1:]:
        _, names, exits, stream = (cell.strip() for cell in line.split("|")[1:5])
        for name in re.findall(r"`(\w+)`", names):
            listed.append(name)
            made = method(name)
            if made.exit_names == type(made).exit_names:  # whatever the settings are
                assert tuple(re.findall(r"`(\w+)`", exits)) == made.exit_names, name
            if "`" in stream or stream == "all":
                named = tuple(re.findall(r"`(\w+)`", stream))
                assert made.stream_exits == (named or made.exit_names), name
    assert sorted(listed) == sorted(METHODS)


def test_the_python_runs_as_printed(
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGES["python.md"], re.DOTALL)
    monkeypatch.chdir(tmp_path)
    save(method("dare"), tmp_path / "last.ckpt")
    write_jpegs(tmp_path, QUICKSTART_PEOPLE, (64, 32))
    (tmp_path / "queries").mkdir()
    for query in ("0010_c1s1_000000_00.jpg", "0030_c1s1_000000_00.jpg"):
        shutil.copy(QUICKSTART_PEOPLE[0], f"queries/{query}")
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        exec(block.replace("/data/mine", people.as_posix()), names)
    promised = re.findall(r"print\(.*\)  # (.*)", "".join(blocks))
    assert promised and capsys.readouterr().out.splitlines() == promised
    assert names["images"].shape == (8, 3, 128, 64) and names["distances"].shape == (4, 5)
    assert names["exported"].manifest.names == ("stage1", "stage2", "stage3", "stage4", "fusion")


class Tokens(Backbone):
    """Two stages whose outputs are tokens (N, T, 8) of an 8 x 4 grid, such as a transformer's."""

    def __init__(self) -> None:
        first = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Flatten(2), Transposed())
        super().__init__({"first": first, "second": nn.Linear(8, 8)}, (8, 8))

    def maps(self, name: str, x: Tensor) -> Tensor:
        return x.transpose(1, 2).unflatten(2, (8, 4))


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def test_what_the_pages_add_works(tmp_path: Path) -> None:
    text = "".join(PAGES[f"extend/{name}.md"] for name in EXTENSIONS)
    names: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), names)
    model = names["Stripes"](names["Tiny"](), identities=2).eval()
    images = torch.randn(4, 3, 32, 16)
    together = model(images)
    assert {name: rows.shape for name, rows in together.items()} == {
        "early": (4, 16),
        "stripes": (4, 64),
    }
    state, rows = model.step("early", (images,))
    torch.testing.assert_close(rows, together["early"])
    torch.testing.assert_close(model.step("stripes", (state[0][2:],))[1], together["stripes"][2:])
    inside = {m for part in model.compilable for m in part.modules()}
    assert all(m in inside for m in model.modules() if isinstance(m, nn.Conv2d))
    tokens = names["Stripes"](Tokens(), identities=2).eval()(images)
    assert {name: rows.shape for name, rows in tokens.items()} == {
        "early": (4, 8),
        "stripes": (4, 16),
    }
    losses = model.losses({"image": images, "label": torch.tensor([0, 0, 1, 1])})
    assert list(losses) == ["early", "stripes"] and losses["early"].requires_grad
    write_jpegs(tmp_path, ["train/1-1-1.jpg", "train/2-1-1.jpg", "query/3-1-1.jpg"])
    write_jpegs(tmp_path, ["gallery/3-2-1.jpg"])
    found = names["read_dashes"](tmp_path)
    assert found.train.counts() == {"images": 2, "pids": 2, "cameras": 1}
    assert (found.gallery.pids.tolist(), found.gallery.camids.tolist()) == ([3], [2])
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    bases = [name for block in blocks for name in block.get("defaults", ())]
    assert bases and all((ROOT / "conf" / "dataset" / f"{name}.yaml").is_file() for name in bases)


@pytest.mark.system
@pytest.mark.parametrize("path", sorted(DOCS.glob("examples/*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_prints_what_is_stored(path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    fresh = deepcopy(stored)
    NotebookClient(fresh, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert printed(fresh) == printed(stored) != ""


def printed(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)


def printed_commands() -> Iterator[tuple[str, str]]:
    """(page, command) of the README, CONTRIBUTING, the docs and the commands' own examples."""
    texts = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md")}
    scripts = [
        (page, block.text)
        for page, text in (texts | PAGES).items()
        if not page.startswith("studies/")  # made by `make docs`; their commands have placeholders
        for block in blocks(text)
        if block.is_script
    ]
    scripts += [(f"{name} --help", p.epilog or "") for name, p in cli.tree()[1].items()]
    for page, script in scripts:
        for line in typed(script):
            if OURS.match(line) and "model=stripes" not in line:  # which extend/method.md adds
                yield page, line


PRINTED = [*dict.fromkeys(printed_commands())]


def test_commands_are_found_everywhere() -> None:
    pages = {page for page, _ in PRINTED}
    assert {"README.md", "gallery/build.md", "serve --help"} <= pages


@pytest.mark.recipe
@pytest.mark.parametrize(("page", "line"), PRINTED, ids=lambda text: text[:60])
def test_every_printed_command_is_accepted(page: str, line: str) -> None:
    """Words and config keys, that is; what they name need not exist. `test_pages` runs some."""
    words = words_of(line)
    if words[0] == cli.RUN:
        assert composed([first for word in words[1:] if (first := first_value(word))])
    else:
        cli.tree()[0].parse_args(words)  # raises SystemExit


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page(command: str) -> None:
    assert any(f"reid-lab {command} " in text for text in PAGES.values())


def test_every_recipe_is_listed() -> None:
    names = {path.stem for path in (ROOT / "conf/experiment").glob("*.yaml")}
    assert names <= set(re.findall(r"`(\w+)`", PAGES["recipes.md"]))


def test_the_docs_open_with_the_claims(site: dict[str, Any]) -> None:
    source = [PAGES["index.md"]]
    for step in ("add_claims", "link_studies"):  # in the order of docs/conf.py
        site[step](Mock(), "index", source)
    table = [line for line in source[0].splitlines() if line.startswith("| ")]
    assert source[0].index(table[0]) < source[0].index("![") and "<!--" not in source[0]
    text = (ROOT / "experiments" / "README.md").read_text("utf-8")
    counted = re.findall(r"All (\d+) claims were\s+tried, .*? (\d+) of them on real people", text)
    claims = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[1:]]
    real = [row for row in claims if re.search(r"\[[CG]PU\]", row[-1])]
    assert counted == [(str(len(claims)), str(len(real)))]
    for *_, verdict, studies in claims:
        assert "**" in verdict
        links = re.findall(r"\]\(/studies/(\w+)\.md\)", studies)
        assert len(links) == studies.count("](") > 0
        assert all((ROOT / "experiments" / name / "README.md").is_file() for name in links)


def test_every_sweep_is_listed() -> None:
    names = {path.stem for path in (ROOT / "conf/sweep").glob("*.yaml")}
    assert names <= set(re.findall(r"^\| `(\w+)` \|", PAGES["papers.md"], re.MULTILINE))


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_page_is_linked(name: str) -> None:
    """And every toctree names pages that exist; `make docs` would fail on either."""
    listed: set[Path] = set()
    for page, text in PAGES.items():
        for tree in re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL):
            lines = [line for line in tree.splitlines() if line and not line.startswith(":")]
            places = [(DOCS / page).parent / line for line in lines]
            listed |= {next(suffixed(place), place) for place in places}
    made = DOCS / "studies"  # by conf.py, from experiments/
    assert name == "index.md" or DOCS / name in listed or made in (DOCS / name).parents
    assert all(path.is_file() for path in listed if made not in path.parents)


TEXTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("experiments/**/README.md"))
    if DOCS / "studies" not in path.parents  # copies
)


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target, part in re.findall(r"\]\(([^)\s#:]*)(?:#([^)\s]+))?\)", text):
        file = page.parent / target if target else page
        assert file.exists(), target
        if part:
            file = file / "README.md" if file.is_dir() else file
            assert part in anchors(file.read_text("utf-8")), f"{target}#{part}"


def anchors(text: str) -> set[str]:
    """The anchors that GitHub and MyST give to headings."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def suffixed(place: Path) -> Iterator[Path]:
    """The pages of a toctree's entry: Markdown or a notebook."""
    return (path for suffix in (".md", ".ipynb") if (path := Path(f"{place}{suffix}")).is_file())
