"""Arguments of the Python functions: wrong ones are named before anything is read."""

from __future__ import annotations

import ast
import inspect
import math
import pickle
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reid_lab
import reid_lab.budget
import reid_lab.config
import reid_lab.frontier
from reid_lab import AnytimeModel, Ids, rank
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
from reid_lab.optional import MissingPackageError, load
from reid_lab.output import arguments
from reid_lab.profiling.measure import measure_costs
from reid_lab.profiling.suggest import suggest_exits
from reid_lab.serve import Target, open_service
from tests.methods import method

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


def evaluate_people(**options: Any) -> Any:
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
        (evaluate_people, {"metric": "l2"}, "metric='l2': choose euclidean or cosine"),
        (evaluate_people, {"hidden": "me"}, "hidden='me': choose "),
        (evaluate_people, {"max_queries": 0}, "max_queries=0: give"),
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


PACKAGES = ("checkpoint", "export", "frontier", "gallery", "profiling", "run", "runtime", "serve")
FUNCTIONS = {
    f"{package}.{name}": getattr(import_module(f"reid_lab.{package}"), name)
    for package in PACKAGES
    for name in import_module(f"reid_lab.{package}").__all__
}
OF_PATHS = [
    (name, parameter.name)
    for name, function in FUNCTIONS.items()
    if inspect.isfunction(function)
    for parameter in inspect.signature(function).parameters.values()
    if "Path" in str(parameter.annotation)
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", [None, 3, ""], ids=repr)
@pytest.mark.parametrize(("name", "parameter"), OF_PATHS, ids=lambda x: x)
def test_what_is_no_path_is_one_message(
    name: str, parameter: str, given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    words = {p.name: "nowhere" for p in parameters if p.default is p.empty}
    if given is None and parameter not in words:
        pytest.skip("None is the default")
    with pytest.raises(UserError) as error:
        called = FUNCTIONS[name](**{**words, parameter: given})
        if hasattr(called, "__enter__"):
            called.__enter__()
    assert "expected str" not in str(error.value)
    assert not any(tmp_path.iterdir())


ROWS = np.eye(4, dtype=np.float32)
LAB: Any = reid_lab  # what a caller without type checks sees
IDS = LAB.Ids([1, 2, 3, 4], [1, 1, 2, 2], ["a", "b", "c", "d"])
DARE = method("dare")
PIXELS = np.zeros((1, 64, 32, 3), np.uint8)
WHOLE = LAB.Embeddings(IDS, IDS, {"a": LAB.Exit(ROWS, ROWS, 1)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LAB.load_model(None), "^checkpoint=None: give a path"),
        (lambda: LAB.embed(DARE, 3), r"^images is 3, of type int: give a folder, an image"),
        (lambda: LAB.embed(DARE, ["a", 3]), r"^images\[1\] is 3, of type int: give a folder"),
        (lambda: LAB.embed(None, ROWS), "pixels must be"),
        (lambda: LAB.embed(None, PIXELS), "^model is None: give the path of a checkpoint"),
        (lambda: LAB.embed(DARE, PIXELS, device="gpu"), "^device='gpu': try cpu, cuda"),
        (lambda: LAB.embed(DARE, PIXELS, device=3), "^device=3: try cpu, cuda"),
        (lambda: LAB.embed(DARE, PIXELS, size=64), r"^size=64: give \(height, width\)"),
        (lambda: LAB.embed(DARE, PIXELS, batch_size="a"), "^batch_size='a': give a whole"),
        (lambda: LAB.embed(DARE, PIXELS, exits=3), "^exits=3: give text, or a list"),
        (lambda: LAB.rank(ROWS.tolist(), ROWS, IDS, IDS), "not list"),
        (
            lambda: LAB.rank(ROWS, ROWS, [1, 2], IDS),
            r"^query_ids is \[1, 2\], of type list: ",
        ),
        (lambda: LAB.rank(ROWS, ROWS, IDS, None), r"^gallery_ids is None: give Ids\("),
        (
            lambda: LAB.rank(ROWS, ROWS, IDS, IDS, hidden="self"),
            "^hidden='self': choose same",
        ),
        (
            lambda: LAB.Ids(["ann"], [1], ["a"]),
            "^pids must be whole numbers .* as 'ann': ",
        ),
        (
            lambda: LAB.Ids(3, [1], ["a"]),
            "^pids is 3, of type int: give whole numbers",
        ),
        (
            lambda: LAB.Ids([1], [1], "a.jpg"),
            "^paths is 'a.jpg', of type str: give a list",
        ),
        (lambda: LAB.Ids([1], [1], 3), "^paths is 3, of type int: give a list of paths"),
        (
            lambda: LAB.Ids([1], [1], ["a"], boxes=[1, 2]),
            r"^boxes has the shape \(2,\): give",
        ),
        (lambda: LAB.Embeddings(IDS, None, {}), r"^gallery is None: give Ids\("),
        (lambda: LAB.Embeddings(IDS, IDS, [ROWS]), "^exits is .*: give a dict of names and Exit"),
        (lambda: LAB.Embeddings(IDS, IDS, {"a": ROWS}), r"^exits\['a'\] is .*: give Exit\("),
        (lambda: LAB.evaluate(ROWS), r"^embeddings is .*: give Embeddings\("),
        (
            lambda: LAB.evaluate(WHOLE, protocol="market"),
            "^protocol is 'market', of type str: ",
        ),
        (lambda: LAB.evaluate(WHOLE, rerankers="k"), "^rerankers is 'k', of type str: give a list"),
        (lambda: LAB.evaluate(WHOLE, rerankers=["k"]), "^rerankers: 'k', of type str: give some"),
        (lambda: LAB.KReciprocal(k1=None), "^k1=None: give a whole number from 1"),
        (lambda: LAB.KReciprocal(weight=2), "^weight=2: give a number from 0 to 1"),
        (lambda: LAB.Protocol(hidden="all"), "^hidden='all': choose same_person_and_camera, "),
        (lambda: LAB.Protocol(trials="2"), "^trials='2': give a whole number from 1"),
        (
            lambda: LAB.count_exits("last.ckpt", 64, 32),
            "^module is 'last.ckpt', of type str: ",
        ),
        (lambda: LAB.count_exits(DARE, 64.5, 32), "^height=64.5: give a whole number from 1"),
        (lambda: LAB.count_exits(DARE, 64, 0), "^width=0: give a whole number from 1"),
        (lambda: LAB.AnytimeModel(None), "^module is None: give a network, as of load_model"),
        (lambda: LAB.AnytimeModel(DARE, exits=3), "^exits=3: give text, or a list"),
        (lambda: LAB.BudgetedStream(DARE, None, "margin", None), "^lookups is None: give a dict"),
        (lambda: LAB.BudgetedStream(None, {}, "margin", None), "^module is None: give a network"),
        (lambda: LAB.BudgetedStream(DARE, {}, "best", None), "^policy='best': choose random, "),
        (lambda: LAB.budget.anytime_curve({}, {"a": 1}, [1]), "^rankings has no exit 'a'"),
        (
            lambda: LAB.budget.read_costs("x", "joules", {}, None),
            "^currency='joules': choose",
        ),
        (
            lambda: LAB.frontier.best_under([], {"cost": 1}, "rank1"),
            "^limits='cost': choose mul_",
        ),
        (lambda: LAB.config.composed(3), "^words=3: give text, or a list"),
    ],
)
def test_another_type_is_one_message(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "--" not in str(error.value) and "\n" not in str(error.value)


NETWORK = method("dare")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_gallery(NOWHERE, NETWORK, NOWHERE), "checkpoint is of type DaRe: give a"),
        (lambda: arguments.paths("name", [NETWORK]), "name: one is of type DaRe, give a path"),
        (lambda: arguments.numbers("name", NETWORK), "name is of type DaRe: give a number"),
        (lambda: arguments.check_whole("name", NETWORK), "name is of type DaRe: give a whole"),
        (lambda: arguments.check_number("name", NETWORK, 0), "name is of type DaRe: give a number"),
        (lambda: arguments.check_choice("name", NETWORK, ["a", "b"]), "name is of type DaRe: ch"),
    ],
)
def test_a_long_value_is_told_by_its_class(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value).startswith(message)


IMAGES = torch.zeros(1, 3, 32, 16)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": None}, "images is None: give normalised images"),
        ({"images": IMAGES.numpy()}, "images is of type ndarray: give normalised images"),
        ({"images": IMAGES[0]}, r"images are \(3, 32, 16\) torch.float32: give normalised"),
        ({"images": IMAGES.byte()}, r"images are \(1, 3, 32, 16\) torch.uint8: give normalised"),
        ({"mul_adds": math.nan}, "mul_adds=nan: give a number, or math.inf for no limit"),
        ({"mul_adds": None}, "mul_adds=None: give a number"),
        ({"deadline_ms": "20"}, "deadline_ms='20': give a number"),
        ({"budget": 3.0}, r"budget= needs AnytimeModel\(..., measured="),
    ],
)
def test_a_network_that_stops_takes_images_and_numbers(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AnytimeModel(NETWORK).embed(**{"images": IMAGES, **given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": "80"}, "port='80': give a number from 0 to 65535"),
        ({"port": 99999}, "port=99999: give a number from 0 to 65535"),
        ({"port": 80.5}, "port=80.5: give a whole number from 0"),
        ({"threads": -1}, "threads=-1: give a whole number from 0"),
        ({"max_wait_ms": math.nan}, "max_wait_ms=nan: give a number from 0"),
        ({"target": 3}, r"target is 3, of type int: give a budget, such as Target\(ms=20\)"),
        ({"limits": 3}, "limits is 3, of type int: give limits"),
    ],
)
def test_a_service_is_refused_before_it_reads(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message), open_service(NOWHERE, NOWHERE, **given):
        pass


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ms": math.nan}, "ms=nan: give a number from 0"),
        ({"ms": -1}, "ms=-1: give a number from 0"),
        ({"mean_ms": "3"}, "mean_ms='3': give a number from 0"),
        ({"mul_adds": -1}, "mul_adds=-1: give a number from 0"),
        ({"policy": "x"}, "policy='x': choose margin or distance"),
        ({"ms": 20, "mul_adds": 1e8}, "target has ms and mul_adds: give one of them"),
    ],
)
def test_a_budget_of_a_service_is_a_number(given: dict[str, Any], message: str) -> None:
    with (
        pytest.raises(UserError, match=message),
        open_service(NOWHERE, NOWHERE, target=Target(**given)),
    ):
        pass


PACKAGE = Path(reid_lab.__file__).parent
# words of runs and commands: their errors are of nobody who calls a function
OF_COMMANDS = {"cli", "config", "backbone", "__main__.py"}


def options_in(call: ast.Call) -> list[str]:
    """The texts of an error's message that name an option, unless in a whole command."""
    parts = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant)]
    texts = [part for part in parts if isinstance(part, str)]
    if "reid-lab " in "".join(texts) or "python -m " in "".join(texts):
        return []
    return [text for text in texts if re.search(r"(?<![\w-])--[a-z]", text)]


def test_errors_of_functions_name_no_options() -> None:
    """What a command says instead is the second text of `with_options`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        if place.parts[0] in OF_COMMANDS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
                for text in options_in(node):
                    found[place.as_posix(), text] = ast.unparse(node.func)
    # answers to requests: the operator of the service has started `reid-lab serve`
    answers = ("RequestError", "BusyError")
    assert {where: kind for where, kind in found.items() if kind not in answers} == {}
    call = ast.parse('UserError(f"{x}: give --uri {y}")').body[0]
    assert isinstance(call, ast.Expr) and isinstance(call.value, ast.Call)
    assert options_in(call.value) == [": give --uri "]


def test_a_missing_package_names_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingPackageError, match="^int8=True needs nncf, .*: pip") as error:
        load("nncf", "int8=True", "--int8")
    assert error.value.command_text.startswith("--int8 needs nncf, ")
    assert error.value.fix == "pip install nncf"
