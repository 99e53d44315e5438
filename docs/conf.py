"""Sphinx: `make docs` builds the site into docs/_build/html; no page needs a network."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
STUDIES = ROOT / "experiments"
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

import reid_lab.types  # noqa: E402
from docs.config_reference import filled  # noqa: E402
from reid_lab.files.atomic import write_text  # noqa: E402

project = "reid_lab"
author = "the reid_lab authors"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name
version = release = reid_lab.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
default_role = "code"
highlight_language = "text"  # of blocks that name none: commands
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks hold their outputs; the tests execute them

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
# Lightning's and torch's own docstrings are theirs, and what a subclass inherits of them
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in vars(reid_lab.types) if name[0].isupper()}
napoleon_use_rtype = False
napoleon_use_param = False  # `lr, momentum: see SgdRecipe` is one entry
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # attributes of one name, such as pids, in several classes
maximum_signature_line_length = 80
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "reid_lab"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False

TO_STUDY = re.compile(r"\]\((?:\.\./)*experiments/(?:(\w+)/)?(#[\w-]+|)\)")
PLACE = "<!-- claims of experiments/README.md -->"  # of the table, in docs/index.md
CLAIMS = re.compile(r"<!-- claims: [^>]* -->\n(.*?)<!-- end of the claims -->", re.DOTALL)
FIGURE = re.compile(r"<!-- [\w./-]+\.csv.*? -->")  # where a number comes from
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")  # the target of a link or image in a file


def make_studies() -> None:
    """A page for each `experiments/*/README.md`, and their list, under docs/studies/."""
    pages = {"index": STUDIES / "README.md"}
    pages |= {path.parent.name: path for path in sorted(STUDIES.glob("*/README.md"))}
    others = "\n".join(name for name in pages if name != "index")
    for name, path in pages.items():
        text = path.read_text(encoding="utf-8")
        if name == "index":
            text += f"\n```{{toctree}}\n:hidden:\n\n{others}\n```\n"
        write(DOCS / "studies" / f"{name}.md", relinked(text, path.parent))
    for page in (DOCS / "studies").glob("*.md"):
        if page.stem not in pages:
            page.unlink()


def relinked(text: str, folder: Path) -> str:
    """`text` of a Markdown file in `folder`, with links as a page of docs/studies/ needs them."""

    def target(match: re.Match[str]) -> str:
        path = (folder / match[1]).resolve()
        if path.parent == STUDIES and (path / "README.md").is_file():
            return f"{path.name}.md"
        return f"../../{path.relative_to(ROOT).as_posix()}"

    return LINK.sub(target, text)


def claims() -> str:
    """The table of experiments/README.md, for docs/index.md, with links as that page needs them."""
    text = (STUDIES / "README.md").read_text(encoding="utf-8")
    found = CLAIMS.search(text)
    assert found is not None, "experiments/README.md has lost the marks around its table"
    return FIGURE.sub("", LINK.sub(r"../experiments/\1", found[1])).strip()


def add_claims(app: Sphinx, docname: str, source: list[str]) -> None:
    """The papers' claims, in the place that docs/index.md has for them."""
    if docname == "index":
        source[0] = source[0].replace(PLACE, claims())
        app.env.note_dependency(str(STUDIES / "README.md"))


def link_studies(app: Sphinx, docname: str, source: list[str]) -> None:
    """`../experiments/` and `../experiments/NAME/#part`, as GitHub wants it, are pages here."""
    source[0] = TO_STUDY.sub(lambda to: f"](/studies/{to[1] or 'index'}.md{to[2]})", source[0])


def add_keys(app: Sphinx, docname: str, source: list[str]) -> None:
    """The keys of conf/, in the places that docs/config.md has for them."""
    if docname == "config":
        source[0] = filled(source[0])
        app.env.note_reread()  # the YAML files may change before the page does


def write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:  # else Sphinx reads it anew
        write_text(path, text)


def readable(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returns: str,
) -> tuple[str | None, str]:
    """A dataclass's `<factory>` is no Python: Sphinx would print the signature as it stands."""
    return signature and signature.replace("<factory>", "..."), returns


def setup(app: Sphinx) -> None:
    make_studies()
    app.connect("autodoc-process-signature", readable)
    app.connect("source-read", add_claims)  # before the links that it has are replaced
    app.connect("source-read", link_studies)
    app.connect("source-read", add_keys)
