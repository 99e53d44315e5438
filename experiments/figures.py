"""Compare the figures of a study's README with the CSV files that they come from.

python -m experiments.figures [STUDY ...]    # `.` is experiments/README.md

A comment in front of a table names a file and has a part for each column:

    <!-- results.csv [kind=exit]: =name | mul_adds | 100*rank1; 100*mAP @ run=a | -->

`=name` is a key: the rows of the file whose `name` is the beginning of the cell (case and signs
apart; a blank cell repeats the one above); `=run {first: run_1*; second: run_2+run_3, name=x}`
gives the values of other labels, and conditions that replace those of the columns. Other parts are
an expression for each number of the cell (of fewer, the first ones), from the columns of these
rows; `[...]` and `@ ...` are conditions on them (`*` is any text); a blank part is not checked. A
comment behind a number of the text or of a cell has its expression:

    53.1<!-- results.csv: 100*(rows(name="fusion").rank1 - rows(name="hsv_histogram").rank1) -->

A page that is also read as plain text has a short key behind each number, and the keys' comments
in one block, a line each:

    53.1<!-- gain -->

    <!-- figures
    gain: results.csv: 100*(rows(name="fusion").rank1 - rows(name="hsv_histogram").rank1)
    -->

Of several rows, such as seeds, the mean counts; `min`, `max`, `median`, `std`, `abs` and `interp`
are available, `text("column")`, a cell of the first row, and `rows(...).count`. Units (k, M, G, %)
count. A printed number is right if the value rounds to it. `no data: WHY` stands in front of a
table without a file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tables import Rows, read

HERE = Path(__file__).parent
# Beside the studies' own, pages with figures of theirs.
CONCEPTS = ("concepts/budgets", "concepts/exits")
DOCS = (*CONCEPTS, "export", "papers", "recipes", "scale", "scale_gallery", "training")
PAGES = (".", "..", *(f"../docs/{name}.md" for name in DOCS))
SPEC = re.compile(r"<!-- ([\w./-]+\.csv)(?: \[([^\]]*)\])?: (.*?) -->", re.DOTALL)
NUMBER = re.compile(
    r"((?:(?<![\w.])[-+\u2212])?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)(?: ?(k|M|G|%)(?![\w]))?"
)
KEY = re.compile(r"<!-- (\w+) -->")
KEYS = re.compile(r"^<!-- figures\n(.*?)^-->$", re.MULTILINE | re.DOTALL)
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "%": 0.01}
NO_DATA = "<!-- no data: "


class FigureError(ValueError):
    """A comment that cannot be evaluated."""


@dataclass(frozen=True)
class Printed:
    """A number as printed, with half a unit of its last digit."""

    text: str
    value: float
    half: float

    @classmethod
    def all_in(cls, text: str) -> list[Printed]:
        return [cls._of(found) for found in NUMBER.finditer(text)]

    @classmethod
    def _of(cls, found: re.Match[str]) -> Printed:
        digits, unit = found[1].replace(",", "").replace("\u2212", "-"), UNITS[found[2] or ""]
        mantissa, _, exponent = digits.partition("e")
        places = len(mantissa.partition(".")[2]) - int(exponent or 0)
        return cls(found[0], float(digits) * unit, 0.5 * 10**-places * unit)

    def is_of(self, value: float) -> bool:
        return abs(value - self.value) <= self.half * (1 + 1e-6)


class Selected:
    """The columns of some rows of a table, as arrays of numbers."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def where(self, conditions: Mapping[str, str]) -> Selected:
        for column in conditions:
            if self.rows and column not in self.rows[0]:
                raise FigureError(f"no column {column}")
        return Selected(
            [r for r in self.rows if all(fnmatchcase(r[k], v) for k, v in conditions.items())]
        )

    def __getattr__(self, column: str) -> np.ndarray:
        if not self.rows:
            raise FigureError(f"no row for {column}")
        if column not in self.rows[0]:
            raise FigureError(f"no column {column}")
        return np.array([float(row[column] or "nan") for row in self.rows])

    @property
    def count(self) -> np.ndarray:
        """How many rows, for expressions."""
        return np.array([len(self.rows)])

    def value(self, expression: str, whole: Selected) -> float:
        """The mean of an expression over the rows; `rows(...)` are others of the `whole` table."""
        names: dict[str, Any] = {"min": np.min, "max": np.max, "abs": np.abs, "interp": _interp}
        names |= {
            "median": np.median,
            "text": lambda column: self.rows[0][column],
            "rows": lambda **where: whole.where(where),
            "std": lambda x: np.std(x, ddof=1),
        }
        used = set(
            re.findall(r"(?<!\w)[A-Za-z_]\w*", re.sub(r"\"[^\"]*\"|\w+(?==)|\.\w+", "", expression))
        )
        names |= {name: getattr(self, name) for name in used - names.keys()}
        return float(np.mean(eval(expression, {"__builtins__": {}}, names)))


def _interp(x: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    order = np.argsort(xs)
    result: np.ndarray = np.interp(x, xs[order], ys[order])
    return result


def problems(readme: Path, strict: bool = False) -> Iterator[str]:
    """What does not agree with the files, or names none.

    Args:
        strict: decimals of the text need a comment, too.
    """
    text, wrong = _written_out(readme.read_text(encoding="utf-8"))
    yield from wrong
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|") and not (number and lines[number - 1].startswith("|")):
            yield from _table(readme, lines, number)
    prose = "\n".join(_prose(lines))
    for found in SPEC.finditer(prose):
        before = Printed.all_in(prose[: found.start()].splitlines()[-1])
        yield from _number(readme, before[-1:], found)
    if strict:
        bare = re.sub(r"`[^`]*`|\]\([^)]*\)", "", SPEC.sub("\0", prose))
        for found in re.finditer(r"(?<![\d.])\d+(?:\.\d+)+(?!\d)(?! ?[kMG%]?\0)", bare):
            if found[0].count(".") == 1:  # no version
                yield f"{found[0]}: no comment with its file in {_around(bare, found)!r}"


def _written_out(text: str) -> tuple[str, list[str]]:
    """`text` with the comment of each key in the key's place; keys and comments that do not fit."""
    block = KEYS.search(text)
    if block is None:
        return text, []
    given = dict(line.split(": ", 1) for line in block[1].splitlines())
    specs = {key: f"<!-- {spec} -->" for key, spec in given.items()}
    body = text.replace(block[0], "")
    used = set(KEY.findall(body))
    wrong = [f"no line of the block `figures` has the key {key}" for key in used - specs.keys()]
    wrong += [f"no number has the key {key}" for key in specs.keys() - used]
    wrong += [f"{key}: not a comment: {s}" for key, s in specs.items() if not SPEC.fullmatch(s)]
    return KEY.sub(lambda key: specs.get(key[1], key[0]), body), sorted(wrong)


def _around(text: str, found: re.Match[str]) -> str:
    return " ".join(text[max(found.start() - 30, 0) : found.end() + 30].split())


def _prose(lines: Sequence[str]) -> Iterator[str]:
    """The lines that are neither a table, its comment, nor code; rows with comments are text."""
    code = False
    for number, line in enumerate(lines):
        code ^= line.startswith("```")
        following = next((each for each in lines[number + 1 :] if each.strip()), "")
        above = line.startswith("<!-- ") and following.startswith("|")
        table = line.startswith("|") and not SPEC.search(line)
        if not code and not table and not above and not line.startswith("```"):
            yield line


def _table(readme: Path, lines: Sequence[str], start: int) -> Iterator[str]:
    head = lines[start]
    body = list(takewhile(lambda line: line.startswith("|"), lines[start + 2 :]))
    if not any(re.search(r"\|[ *]*[-+\u2212]?\d", line) for line in body):
        return  # of words
    above = next((each for each in reversed(lines[:start]) if each.strip()), "")
    if above.startswith(NO_DATA):
        return
    spec = SPEC.fullmatch(above)
    if spec is None and all(SPEC.search(line) for line in body):
        return  # each number has its own, as in the text
    if spec is None:
        yield f"the table {head[:60]!r} has no comment with its file"
        return
    parts = [part.strip() for part in spec[3].split("|")]
    whole, selected = _rows(readme, spec)
    keys: list[str] = [""] * len(parts)
    for line in body:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != len(parts):
            yield f"{line[:60]!r}: {len(cells)} cells, {len(parts)} parts in the comment"
            continue
        keys = [
            c or k if p.startswith("=") else "" for p, c, k in zip(parts, cells, keys, strict=True)
        ]
        chosen, fixed = selected, dict[str, str]()
        for part, key in zip(parts, keys, strict=True):
            if part.startswith("="):
                chosen, more = _matching(chosen, part[1:], key)
                fixed |= more
        for part, cell in zip(parts, cells, strict=True):
            if part and not part.startswith("="):
                wrong = _cell(cell, part, chosen, whole, fixed)
                yield from (f"{line[:40]!r}: {problem}" for problem in wrong)


def _matching(rows: Selected, part: str, cell: str) -> tuple[Selected, dict[str, str]]:
    """The rows whose key is the longest beginning of the cell, or is given for the label.

    Also the conditions that were given with it, which replace those of the columns.
    """
    column, _, given = part.rstrip("} ").partition(" {")
    text = _plain(cell)
    labels = {_plain(k): v.strip() for k, _, v in (p.rpartition(":") for p in given.split(";"))}
    if text in labels:
        pattern, _, more = labels[text].partition(",")
        return Selected([r for r in rows.rows if _fits(r[column], pattern)]), _conditions(more)
    keys = {row[column] for row in rows.rows if text.startswith(_plain(row[column]))}
    longest = max(keys, key=lambda key: len(_plain(key)), default=None)
    return Selected([row for row in rows.rows if row[column] == longest]), {}


def _fits(value: str, pattern: str) -> bool:
    return any(fnmatchcase(value, part.strip()) for part in pattern.split("+"))


def _plain(text: str) -> str:
    return re.sub(r"\W+", "_", text.lower()).strip("_")


def _cell(
    cell: str, part: str, chosen: Selected, whole: Selected, fixed: Mapping[str, str] = {}
) -> Iterator[str]:
    expressions, _, conditions = part.partition(" @ ")
    printed, wanted = Printed.all_in(cell), expressions.split(";")
    if not printed:
        return
    if len(printed) > len(wanted):
        yield f"{cell!r} has {len(printed)} numbers, the comment {len(wanted)}"
        return
    for one, expression in zip(printed, wanted, strict=False):
        try:
            value = chosen.where(_conditions(conditions) | {**fixed}).value(
                expression.strip(), whole
            )
        except (FigureError, ArithmeticError, NameError, SyntaxError, ValueError) as error:
            yield f"{expression.strip()!r}: {error}"
            continue
        if not one.is_of(value):
            yield f"{one.text} is {value:.6g} by {expression.strip()!r}"


def _number(readme: Path, before: Sequence[Printed], spec: re.Match[str]) -> Iterator[str]:
    if not before:
        yield f"no number before {spec[0]!r}"
        return
    whole, selected = _rows(readme, spec)
    yield from _cell(before[0].text, spec[3], selected, whole)


def _rows(readme: Path, spec: re.Match[str]) -> tuple[Selected, Selected]:
    """All rows of the file, and those that the comment selects."""
    path = readme.parent / spec[1]
    if not path.is_file():
        raise FigureError(f"{readme}: {spec[1]} does not exist")
    whole = Selected(read(path))
    return whole, whole.where(_conditions(spec[2] or ""))


def _conditions(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def names_files(readme: Path) -> bool:
    """Whether the text names a CSV file of its study."""
    text = readme.read_text(encoding="utf-8")
    return any(f"{path.name}`" in text for path in readme.parent.glob("*.csv"))


def page(name: str) -> Path:
    """The page of a study, or one of PAGES."""
    return HERE / name if name.endswith(".md") else HERE / name / "README.md"


def main(*names: str) -> int:
    found = 0
    studies = sorted(path.parent.name for path in HERE.glob("*/README.md"))
    for name in names or (*PAGES, *studies):
        for problem in problems(page(name), strict=True):
            print(f"{name}: {problem}")
            found += 1
    return found > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
