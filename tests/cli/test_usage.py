"""What wrong arguments of each command and action print: what is wrong, and a line that works."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import pytest

from reid_lab.cli.command import Parser
from reid_lab.cli.main import RUN, dispatch, tree


def parsers(parser: Parser) -> Iterator[Parser]:
    yield parser
    for nested in parser.actions.choices.values() if parser.actions else ():
        yield from parsers(nested)


ALL = {p.prog: p for name, command in tree()[1].items() if name != RUN for p in parsers(command)}


def told(words: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        dispatch(shlex.split(words)[1:])
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()


def example(lines: list[str], prog: str) -> list[str]:
    """The words of the example, which the command accepts."""
    assert lines[1].startswith(f"example: {prog} ") and lines[2:] == [
        f"{prog} --help shows the arguments"
    ]
    words = shlex.split(lines[1].removeprefix("example: "))[1:]
    tree()[0].parse_args(words)  # raises SystemExit
    return words


def test_actions_are_tried() -> None:
    assert {"reid-lab gallery add", "reid-lab weights fetch", "reid-lab cost"} <= ALL.keys()


REQUIRED = {
    prog: [
        a.option_strings[0] if a.option_strings else str(a.metavar or a.dest)
        for a in parser._actions
        if a.required and a.nargs != "*"
    ]
    for prog, parser in ALL.items()
}


@pytest.mark.parametrize("prog", [prog for prog, names in REQUIRED.items() if names])
def test_missing_arguments_are_named(prog: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(prog, capsys)
    wanted = ", ".join(REQUIRED[prog])
    assert lines[0].startswith(f"error: the following arguments are required: {wanted}")
    example(lines, prog)


@pytest.mark.parametrize("prog", [prog for prog, parser in ALL.items() if not parser.actions])
def test_an_option_that_does_not_exist(prog: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.join(example(told(f"{prog} --help=x", capsys), prog))
    lines = told(f"reid-lab {words} --hepl", capsys)
    assert lines[0] == "error: unrecognized arguments: --hepl; did you mean --help?"
    example(lines, prog)


def test_the_example_has_the_option_at_fault(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told("reid-lab gallery link a b --false-accept-rate 2", capsys)
    words = example(lines, "reid-lab gallery link")
    assert words[-2:] == ["--false-accept-rate", "0.01"]  # which stands in the line below
    lines = told("reid-lab compare a b --exits x", capsys)
    assert lines[1].endswith(" --exits fusion:stage4")  # without its comment


def test_actions_are_listed_if_none_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    line = "error: the following arguments are required: ACTION, one of inspect, convert, fetch"
    assert told("reid-lab weights", capsys)[0] == line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("serve --port x", "argument --port: 'x' is not a whole number"),
        ("serve --port 65536", "argument --port: 65536 is not 0 to 65535"),
        ("serve --mul-adds -5", "argument --mul-adds: '-5' is not a number of Mul-Adds"),
        ("serve --mean-ms nan", "argument --mean-ms: 'nan' is not above 0"),
        ("gallery build --images ''", "argument --images: an empty path; . is this folder"),
        ("gallery remove ''", "argument gallery: an empty path"),
        ("serve --people ''", "argument --people: an empty path"),
        ("gallery build --exit ''", "argument --exit: an empty value, as of an unset variable"),
        ("gallery build --index ''", "argument --index: invalid choice: ''"),
        ("gallery remove g --where ''", "argument --where: an empty value"),
        ("gallery remove g --pid a ''", "argument --pid: an empty value"),
        ("export --checkpoint a --out b ''", "argument key=value: an empty value"),
        ("weights fetch ''", "argument name: an empty value, as of an unset variable"),
        ("export --tolerance x", "argument --tolerance: 'x' is not within 0 and 1"),
    ],
)
def test_wrong_values(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(f"reid-lab {words}", capsys)[0].startswith(f"error: {line}")


TEXTS = [
    (prog, action.option_strings[-1])
    for prog, parser in ALL.items()
    for action in parser._actions
    if action.option_strings and action.nargs != 0 and action.help != argparse.SUPPRESS
]
# where an empty text means something
EMPTY = {"--pattern", "--token"}


@pytest.mark.parametrize(("prog", "option"), [given for given in TEXTS if given[1] not in EMPTY])
def test_an_empty_text_is_not_the_default(
    prog: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.join(example(told(f"{prog} --help=x", capsys), prog))
    lines = told(f"reid-lab {words} {option} ''", capsys)
    assert lines[0].startswith("error: argument ") and f"{option}: " in lines[0]


def test_it_is_allowed_where_it_means_something() -> None:
    words = ["embed", "--checkpoint", "c", "--images", "i", "--out", "o", "--pattern", ""]
    assert tree()[0].parse_args(words).pattern == ""
    assert tree()[0].parse_args(["gallery", "load", "g", "--token", ""]).token == ""
