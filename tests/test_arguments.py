"""Arguments of the Python functions: wrong ones are named before anything is read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab import Ids, rank
from reid_lab.cli.command import attempt
from reid_lab.doctor.examine import examine_data
from reid_lab.errors import UserError, with_options
from reid_lab.export.checkpoint import export_checkpoint
from reid_lab.gallery import (
    add_images,
    build_gallery,
    calibrate_gallery,
    evaluate_gallery,
    link_tracklets,
    search_gallery,
    upgrade_gallery,
)
from reid_lab.output import arguments
from reid_lab.profiling.measure import measure_costs
from reid_lab.profiling.suggest import suggest_exits

NOWHERE = Path("nowhere")


@pytest.mark.parametrize(
    ("read", "given", "found"),
    [
        (arguments.texts, "ab", ["ab"]),
        (arguments.texts, ("ab", "c"), ["ab", "c"]),
        (arguments.texts, np.array(["ab"]), ["ab"]),
        (arguments.texts, (), []),
        (arguments.paths, "a/b", [Path("a/b")]),
        (arguments.paths, Path("a"), [Path("a")]),
        (arguments.paths, ["a", Path("b")], [Path("a"), Path("b")]),
        (arguments.people, "12", ["12"]),
        (arguments.people, 12, [12]),
        (arguments.people, [np.int64(12), "Ann"], [12, "Ann"]),
        (arguments.numbers, 0.5, [0.5]),
        (arguments.numbers, (1, np.float32(0.5)), [1, 0.5]),
    ],
)
def test_one_value_alone_is_a_list_of_it(read: Any, given: Any, found: list[Any]) -> None:
    assert read("name", given) == found


@pytest.mark.parametrize(
    ("read", "given", "message"),
    [
        (arguments.texts, None, "name=None: give text, or a list"),
        (arguments.texts, b"ab", "name=b'ab': give text"),
        (arguments.texts, ["a", 1], "name: 1 is of type int, give text"),
        (arguments.texts, "", "name: '' is empty"),
        (arguments.people, b"12", "name=b'12': give a name or a pid"),
        (arguments.people, [True], "name: True is of type bool"),
        (arguments.people, [1.5], "name: 1.5 is of type float, give a name or a pid"),
        (arguments.paths, [3], "name: 3 is of type int, give a path"),
        (arguments.numbers, "0.1", "name='0.1': give a number"),
        (arguments.numbers, ["0.1"], "name: '0.1' is of type str, give a number"),
    ],
)
def test_other_types_are_errors(read: Any, given: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        read("name", given)
    assert message in str(error.value)


def link(**options: Any) -> Any:
    return link_tracklets(NOWHERE, NOWHERE, threshold=options.pop("threshold", 1.0), **options)


def search(**options: Any) -> Any:
    return search_gallery(NOWHERE, [NOWHERE], **options)


def build(**options: Any) -> Any:
    return build_gallery(NOWHERE, NOWHERE, NOWHERE, **options)


def calibrate(**options: Any) -> Any:
    return calibrate_gallery(NOWHERE, **options)


def evaluate(**options: Any) -> Any:
    return evaluate_gallery(NOWHERE, **options)


def upgrade(**options: Any) -> Any:
    return upgrade_gallery(NOWHERE, NOWHERE, **options)


def add(**options: Any) -> Any:
    return add_images(NOWHERE, NOWHERE, NOWHERE, **options)


def export(**options: Any) -> Any:
    return export_checkpoint(NOWHERE, NOWHERE, **options)


RATE = "invalid false-accept rate {}: give one with 0 < rate <= 1"


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        *((search, {"false_accept_rate": x}, RATE.format(repr(x))) for x in (2, 0, -1, "0.1")),
        (search, {"false_accept_rate": float("nan")}, RATE.format("nan")),
        (search, {"top": 0}, "top=0: give a whole number from 1"),
        (search, {"top": "3"}, "top='3': give a whole number from 1"),
        (search, {"batch_size": 0}, "batch_size=0: give"),
        (build, {"metric": "l2"}, "metric='l2': choose euclidean or cosine"),
        (build, {"index": "tree"}, "index='tree': choose flat, ivf, hnsw, ivf_pq or sq8"),
        (build, {"batch_size": 1.5}, "batch_size=1.5: give"),
        (add, {"batch_size": 0}, "batch_size=0: give"),
        (link, {"metric": "l2"}, "metric='l2': choose euclidean or cosine"),
        (link, {"threshold": 0}, "threshold=0: give a finite number above 0"),
        (link, {"threshold": "1"}, "threshold='1': give a finite number above 0"),
        (link, {"threshold": None, "false_accept_rate": 2}, RATE.format(2)),
        (evaluate, {"metric": "l2"}, "metric='l2': choose euclidean or cosine"),
        (evaluate, {"hidden": "me"}, "hidden='me': choose "),
        (evaluate, {"max_queries": 0}, "max_queries=0: give"),
        (calibrate, {"rates": "0.1"}, "rates='0.1': give a number"),
        (calibrate, {"rates": [2]}, RATE.format(2)),
        (calibrate, {"rates": 0}, RATE.format(0)),
        (calibrate, {"max_queries": 0}, "max_queries=0: give"),
        (upgrade, {"max_queries": "9"}, "max_queries='9': give"),
        (export, {"to": "tree"}, "unknown format 'tree'; available: onnx"),
        (export, {"to": 3}, "to=3: give text"),
        (export, {"data": {1: 2}}, "data: 1 is of type int"),
        (export, {"batch_size": 0}, "batch_size=0: give"),
    ],
)
def test_an_argument_is_checked_before_anything_is_read(
    function: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        function(**options)
    assert message in str(error.value)


@pytest.mark.parametrize("function", [examine_data, measure_costs, suggest_exits])
def test_one_override_alone(function: Any) -> None:
    with pytest.raises(UserError, match="lerning"):
        function("lerning=1")


def test_a_command_has_its_options_and_a_function_its_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = pickle.loads(pickle.dumps(with_options(UserError("give pid"), "give --pid")))
    assert str(error) == "give pid"

    def work() -> int:
        raise error

    assert attempt(work) == 1
    assert capsys.readouterr().err == "error: give --pid\n"


def test_rows_that_are_not_finite_need_not_be_of_a_training() -> None:
    rows = np.full((2, 3), np.nan, np.float32)
    ids = Ids(np.arange(2), np.arange(2), ["a", "b"])
    with pytest.raises(UserError, match=r"correct these rows or leave them out\. If a network"):
        rank(rows, rows, ids, ids)
