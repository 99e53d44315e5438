"""The figures of the studies' READMEs, and of pages that repeat them, are those of CSV files."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.figures import HERE, PAGES, Printed, names_files, page, problems

# whole texts are compared; of the others, the tables that name a file
STRICT = {*PAGES, "dare_cuhk03", "demo"}
STUDIES = [*PAGES] + sorted(
    path.parent.name for path in HERE.glob("*/README.md") if names_files(path)
)

TABLE = "run,name,rank1,cost\na,one,0.25,1500\nb,one,0.35,1500\na,two_b,0.5,3000000\n"


def found(folder: Path, text: str, strict: bool = False) -> list[str]:
    (folder / "t.csv").write_text(TABLE)
    (folder / "README.md").write_text(text)
    return list(problems(folder / "README.md", strict))


def table(spec: str, *rows: str) -> str:
    return "\n".join([f"<!-- t.csv{spec} -->", "", "| a | b | c |", "|---|---|---|", *rows])


@pytest.mark.parametrize("study", STUDIES)
def test_figures_are_those_of_the_files(study: str) -> None:
    assert not list(problems(page(study), study in STRICT))


@pytest.mark.parametrize(
    ("text", "value", "half"),
    [
        ("9.0 M", 9e6, 5e4),
        ("-0.4", -0.4, 0.05),
        ("\u22120.4", -0.4, 0.05),
        ("1,552", 1552, 0.5),
        ("1.4%", 0.014, 0.0005),
        ("49 k", 49e3, 500),
        ("2e-3", 2e-3, 5e-4),
        ("-51.3", -51.3, 0.05),
    ],
)
def test_printed_numbers(text: str, value: float, half: float) -> None:
    (one,) = Printed.all_in(text)
    assert one.value == pytest.approx(value) and one.half == pytest.approx(half)


KEYED = """A text with 25.0<!-- one --> in it.

| a | b |
|---|---|
| one | 1.5 k<!-- cost --> |

<!-- figures
one: t.csv [run=a, name=one]: 100*rank1
cost: t.csv [run=a, name=one]: cost
-->
"""


def test_comments_stand_in_a_block_of_keys(tmp_path: Path) -> None:
    assert not found(tmp_path, KEYED, strict=True)
    assert found(tmp_path, KEYED.replace("25.0", "25.1"), strict=True) == [
        "25.1 is 25 by '100*rank1'"
    ]
    assert found(tmp_path, KEYED.replace("1.5 k", "1.6 k"), strict=True) == [
        "1.6 k is 1500 by 'cost'"
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("<!-- one -->", "", "no number has the key one"),
        ("one: t.csv", "two: t.csv", "no line of the block `figures` has the key one"),
        (
            "cost: t.csv [",
            "cost: t.txt [",
            "cost: not a comment: <!-- t.txt [run=a, name=one]: cost -->",
        ),
    ],
)
def test_keys_fit_their_block(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert problem in found(tmp_path, KEYED.replace(old, new, 1), strict=True)


def test_a_range_has_two_numbers() -> None:
    assert [one.value for one in Printed.all_in("48.5 (47.0-51.3)")] == [48.5, 47.0, 51.3]


def test_cells_round_to_the_values(tmp_path: Path) -> None:
    spec = ": =name | cost | 100*rank1; min(100*rank1) @ run=a"
    assert not found(tmp_path, table(spec, "| **One**, ours | 1.5 k | 25.0 / 25 |"))
    assert not found(tmp_path, table(": =name | | 100*rank1", "| one | any 7 | 30 |"))  # the mean
    assert not found(tmp_path, table(": =name | cost | ", "| two b | 3 M | |"))
    assert found(tmp_path, table(spec, "| one | 1.5 k | 25.0 / 26 |"))
    assert found(tmp_path, table(spec, "| one | 1.5 k | 25.0 / 25 / 25 |"))
    given = ": =name {mine: t*_b+none; all: two_b, name=one} | cost | 100*rank1 @ run=a"
    assert not found(tmp_path, table(given, "| mine | 3 M | 50 |", "| all | | |"))
    assert found(tmp_path, table(given, "| mine | 2 M | 50 |"))
    assert found(tmp_path, table(spec, "| three | 1.5 k | 25.0 / 25 |"))
    assert found(tmp_path, table(": =name | price | rank1", "| one | 1 | 0.3 |"))


def test_numbers_of_the_text(tmp_path: Path) -> None:
    right = 'It is 20<!-- t.csv [run=a]: 100*(rows(name="two_b").rank1 - min(rank1)) -->.'
    assert found(tmp_path, right)  # 25
    assert not found(tmp_path, right.replace("20<", "25<"))
    assert found(tmp_path, "It is 2.5 points.", strict=True)
    assert not found(tmp_path, "torch 2.15.0 and `2.5`, 0.3<!-- t.csv [name=one]: rank1 -->", True)
    assert found(tmp_path, "| a |\n|---|\n| 1 |")
    cell = '| a |\n|---|\n| 2<!-- t.csv: rows(run="a").count --> of 3<!-- t.csv: rows().count --> |'
    assert not found(tmp_path, cell) and found(tmp_path, cell.replace("| 2", "| 1"))
    bare = cell + " 1.5 |"
    assert found(tmp_path, bare, strict=True) and not found(tmp_path, bare)
    assert not found(tmp_path, "<!-- no data: seen by eye -->\n| a |\n|---|\n| 1 |")
