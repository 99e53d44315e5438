"""The keys of conf/ with default, allowed values and meaning, as Markdown for docs/config.md.

The defaults are the YAML's. The allowed values are the annotations' of the `_target_`, the meanings
its docstring's.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

import yaml
from annotated_types import Le

from reid_lab.config.check import HYDRA_KEYS, call_of
from reid_lab.config.choices import conf_dir, default_choices
from reid_lab.config.nodes import locate
from reid_lab.config.settings import Settings
from reid_lab.output.words import describe
from reid_lab.types import INT32, PerCore

PLACE = re.compile(r"<!-- keys of conf/(\S+) -->")  # of a file, or of all files of a group
ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: ?(.*)")  # `lr, momentum: text`
SEE = re.compile(r"see `([\w.]+)`[.;]? ?")
ASSIGNED = re.compile(r"(?<![`\w/.@])[a-z_]+(?:[.=][\w$-]+)+(?![`\w])")  # loss.margin=0.3
Tree = dict[str, Any]  # of a YAML file, with its scalars as they are written


@dataclass(frozen=True)
class Key:
    """A key as on the command line, with its default, the allowed values and what it means."""

    name: str
    default: str
    allowed: str
    meaning: str

    def __str__(self) -> str:
        default = f" = `{self.default}`" if self.default else ""
        allowed = f" ({self.allowed})" if self.allowed else ""
        return f"- `{self.name}`{default}{allowed}" + f": {self.meaning}" * bool(self.meaning)


def filled(page: str) -> str:
    """The page, with the keys in the places that it has for them."""
    return PLACE.sub(lambda place: "\n".join(section(conf_dir() / place[1])), page)


def section(path: Path) -> Iterator[str]:
    """The Markdown of a file of conf/; of a group, of all its files, each with a heading."""
    if path.suffix == ".yaml":
        yield from map(str, keys(path))
        return
    yield from (f"The default is `{path.name}={default_choices()[path.name]}`.", "")
    for file in files(path):
        yield from (f"### {heading(file)}", "", header(file), "")
        if others := [f"`{other.stem.lstrip('_')}`" for other in bases(file)]:
            yield from (f"With the keys of {', '.join(others)}.", "")
        yield from map(str, keys(file))
        yield ""


def heading(path: Path) -> str:
    """A file as it is chosen; callbacks are not chosen one by one."""
    chosen = path.stem[0] != "_" and (path.parent.name != "callbacks" or bases(path))
    return f"{path.parent.name}={path.stem}" if chosen else path.stem.lstrip("_")


def files(group: Path) -> list[Path]:
    """The YAML files of a group; those that only others are based on come first."""
    return sorted(group.glob("*.yaml"), key=lambda path: (path.stem[0] != "_", path.stem))


def keys(path: Path) -> Iterator[Key]:
    """The keys that a file sets itself, not those of the files that it is based on."""
    if path.parent == conf_dir():
        groups = default_choices()
        own = {name: value for name, value in tree(path).items() if name not in groups}
        yield from _keys(own, own, (), Settings, {})
    else:
        # the class of a base file may be named in the files that are based on it only
        users = [file for file in files(path.parent) if path in ancestors(file)]
        file = users[0] if path.stem.startswith("_") else path
        yield from _keys(tree(path), merged(file), (path.parent.name,), None, comments(path))


def _keys(
    own: Tree, whole: Tree, above: tuple[str, ...], target: Any, notes: Mapping[str, str]
) -> Iterator[Key]:
    """The keys of a mapping, and of the mappings and nodes in it.

    Args:
        whole: the mapping with what it is based on.
        target: what it is validated by, if it is no node.
        notes: key -> comment, for what other packages describe, which do not know our reasons.
    """
    target = locate(whole["_target_"]) if "_target_" in whole else target
    call = call_of(target, 0, "_target_" in whole) if target else None
    ours, theirs = (described(target, ours) if target else {} for ours in (True, False))
    for name, value in own.items():
        if name in HYDRA_KEYS:
            continue
        hint = call.hints.get(name) if call else None
        inside = whole.get(name)
        node = isinstance(inside, dict) and "_target_" in inside
        nested = node or (isinstance(value, dict) and any(map(_is_mapping, value.values())))
        meaning = ours.get(name, "")
        if name in theirs and not meaning:
            note = notes.get(name, "")
            meaning = f"{first_sentence(theirs[name])} {note[:1].upper()}{note[1:]}".strip()
        if not nested or (call and not node):
            allowed = "" if hint is None else allowed_of(hint)
            yield Key(".".join((*above, name)), "" if nested else flow(value), allowed, meaning)
        if nested:
            yield from _keys(value, inside or {}, (*above, name), None, notes)


def allowed_of(hint: Any) -> str:
    """The allowed values in words, which are the same on every machine."""
    words = describe(hint).replace(f" and <= {INT32}", "")
    for part in (hint, *get_args(hint)):
        marks = getattr(part, "__metadata__", ())
        for core in (mark for mark in marks if isinstance(mark, PerCore)):
            here = next(mark.le for mark in marks if isinstance(mark, Le))
            words = words.replace(f"<= {here}", f"<= max(64, {core.number} x CPU cores)")
    return words


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def flow(value: object) -> str:
    """A value in one line of YAML, with its scalars as they are written in the file."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {flow(each)}" for name, each in value.items()) + "}"
    return f"[{', '.join(map(flow, value))}]" if isinstance(value, list) else str(value)


@cache
def _read(path: Path) -> Tree:
    return dict(yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader) or {})


def tree(path: Path) -> Tree:
    return {key: value for key, value in _read(path).items() if key not in ("defaults", "hydra")}


def bases(path: Path) -> list[Path]:
    """The files of its group that a file's defaults list names."""
    listed = [entry for entry in _read(path).get("defaults", ()) if isinstance(entry, str)]
    return [path.with_name(f"{entry}.yaml") for entry in listed if entry != "_self_"]


def ancestors(path: Path) -> list[Path]:
    """All files that a file is based on, in the order in which they are merged."""
    return [each for base in bases(path) for each in (*ancestors(base), base)]


def merged(path: Path) -> Tree:
    """The keys of a file and of those that it is based on."""
    whole: Tree = {}
    for each in (*ancestors(path), path):
        whole = _merge(whole, tree(each))
    return whole


def _merge(below: Tree, above: Tree) -> Tree:
    both = {
        name: _merge(below[name], value)
        for name, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(name), dict)
    }
    return below | above | both


def comments(path: Path) -> dict[str, str]:
    """Key -> the comment behind it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"\s*(\w+):.*?\s# ?(.*)", line) for line in lines)
    return {match[1]: f"{match[2]}." for match in found if match}


def header(path: Path) -> str:
    """The comment at the top of a file, or the first sentence on the class that it builds."""
    lines = path.read_text(encoding="utf-8").splitlines()
    top = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line[:1] == "#", lines))
    if not top:
        top = inspect.cleandoc(locate(merged(path)["_target_"]).__doc__).split("\n\n")[0]
    return ASSIGNED.sub(r"`\g<0>`", " ".join(top.split()))


@cache
def described(target: Callable[..., Any], ours: bool = True) -> dict[str, str]:
    """Argument -> meaning, from the docstring of a function, or of a class and its bases.

    Args:
        ours: False takes those of other packages.
    """
    found: dict[str, str] = {}
    owners = inspect.getmro(target) if inspect.isclass(target) else (target,)
    for owner in (each for each in owners if each.__module__.startswith("reid_lab.") == ours):
        for docstring in (owner.__doc__, getattr(owner.__init__, "__doc__", "")):
            for name, text in arguments(docstring or ""):
                found.setdefault(name, in_yaml(followed(name, text, owner)))
    return found


def arguments(docstring: str) -> Iterator[tuple[str, str]]:
    """(name, text) of the entries below `Args:`."""
    text = inspect.cleandoc(docstring) + "\n"
    block = re.search(r"^Args:\n((?:[ ]+.*\n|\n)*)", text, re.MULTILINE)
    for entry in re.split(r"\n(?=\S)", inspect.cleandoc("\n" + block[1])) if block else ():
        if match := ENTRY.fullmatch(" ".join(entry.split())):
            for name in match[1].split(", "):
                yield name.lstrip("*"), match[2]


def followed(name: str, text: str, owner: Any) -> str:
    """The text, where `see X` is replaced by what X says on the argument."""
    match = SEE.match(text)
    if not match:
        return text
    module = sys.modules[owner.__module__]
    package = sys.modules[owner.__module__.rpartition(".")[0]]
    other = getattr(module, match[1], getattr(package, match[1], None))
    there, rest = described(other).get(name) if other else None, text[match.end() :]
    return f"{there} {rest[:1].upper()}{rest[1:]}".strip() if there else text


def in_yaml(text: str) -> str:
    """Python's constants as YAML has them."""
    names = {"None": "null", "True": "true", "False": "false"}
    return re.sub(r"\b(None|True|False)\b", lambda found: names[found[0]], text)


def first_sentence(text: str) -> str:
    """What other packages explain at length, in reStructuredText."""
    first = re.split(r"(?<=\.) (?=[A-Z.])", text)[0]
    return re.sub(r":\w+:(?=`)", "", f"{first.rstrip('.')}.".replace("``", "`"))
