"""Which tests execute which line, and how long each test takes: measured once for a commit."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from coverage import Coverage

from experiments.mutation.sites import Site


@dataclass(frozen=True)
class Executed:
    """Tests by node id.

    Args:
        start: seconds until the first test runs.
        seconds: test -> its seconds.
        lines: file -> line -> tests that execute it. JSON: a line is text.
    """

    start: float
    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]

    @staticmethod
    def load(file: Path) -> Executed:
        return Executed(**json.loads(file.read_text(encoding="utf-8")))

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def tests_of(self, site: Site, source: bytes, allowed: Sequence[str]) -> list[str]:
        """The `allowed` tests that execute a site, the fastest first.

        What runs as a module is imported is tested by all of them: single functions that are
        allowed, then those that execute the file, then the others.

        Args:
            allowed: folders, files, and functions as FILE::NAME.
        """
        of_package = {test for test in self.seconds if is_within(test, allowed)}
        lines = self.lines.get(site.file, {})
        extent = lines_of(site, source)
        if extent is not None:
            executing = {test for line in extent for test in lines.get(str(line), ())}
            return self.ordered(executing & of_package)
        functions = {t for t in of_package if is_within(t, [n for n in allowed if "::" in n])}
        of_file = {test for tests in lines.values() for test in tests} & of_package - functions
        others = of_package - of_file - functions
        return [test for part in (functions, of_file, others) for test in self.ordered(part)]

    def ordered(self, tests: Iterable[str]) -> list[str]:
        return sorted(tests, key=lambda test: (self.seconds[test], test))


def is_within(test: str, allowed: Sequence[str]) -> bool:
    parts = tuple(f"{name}{end}" for name in allowed for end in ("/", "::", "["))
    return test in allowed or test.startswith(parts)


def lines_of(site: Site, source: bytes) -> range | None:
    """The lines of the site's statement, of a compound one its head; None if it runs at import."""
    column = site.start - sum(map(len, source.splitlines(keepends=True)[: site.line - 1]))
    around = [
        node
        for node in ast.walk(ast.parse(source))  # outer nodes first
        if isinstance(node, ast.stmt)
        and (node.lineno, node.col_offset) <= (site.line, column)
        and (site.line, column) < (node.end_lineno or 0, node.end_col_offset or 0)
    ]
    statement = around[-1]
    if not any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in around[:-1]):
        return None
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno or 0
    return range(statement.lineno, max(statement.lineno, last) + 1)


class Recorder:
    """Plugin of pytest that switches coverage's context.

    To a test; to a module while it is imported, which counts for all of its tests; to a fixture
    that tests share, which counts for these.

    Args:
        known: tests that are not run.
    """

    def __init__(self, tree: Path, packages: Iterable[str], known: Collection[str]) -> None:
        os.environ["COVERAGE_CORE"] = "ctrace"  # contexts are not known to all others
        self.tree, self.known = tree, known
        source = [str(tree / "src" / "reid_lab" / name) for name in packages]
        self.coverage = Coverage(data_file=None, source=source, config_file=False)
        self.context = ""
        self.shared: dict[str, list[str]] = {}  # context -> the tests that it counts for
        self.items: list[pytest.Item] = []
        self.seconds: dict[str, float] = {}
        self.begun = perf_counter()
        self.start = 0.0
        self.coverage.start()

    @contextmanager
    def within(self, context: str) -> Iterator[None]:
        before, self.context = self.context, context
        self.coverage.switch_context(context)
        try:
            yield
        finally:
            self.context = before
            self.coverage.switch_context(before)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.known]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items
        for item in self.items:
            self.shared.setdefault(f"module {item.nodeid.split('::')[0]}", []).append(item.nodeid)
        self.start = perf_counter() - self.begun

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        with self.within(f"module {collector.nodeid.split('::')[0]}"):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        begun = perf_counter()
        with self.within(item.nodeid):
            result = yield
        self.seconds[item.nodeid] = round(perf_counter() - begun, 4)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        if fixturedef.scope == "function":
            return (yield)
        name, base = fixturedef.argname, fixturedef.baseid
        context = f"fixture {base}::{name}"
        self.shared[context] = [
            item.nodeid
            for item in self.items
            if item.nodeid.startswith(base) and name in getattr(item, "fixturenames", ())
        ]
        with self.within(context):
            return (yield)

    def executed(self) -> Executed:
        self.coverage.stop()
        data = self.coverage.get_data()
        lines: dict[str, dict[str, list[str]]] = {}
        for file in data.measured_files():
            found = lines[Path(file).relative_to(self.tree.resolve()).as_posix()] = {}
            for line, contexts in data.contexts_by_lineno(file).items():
                tests = {test for c in contexts for test in self.shared.get(c, [c])}
                found[str(line)] = sorted(tests & self.seconds.keys())
        return Executed(self.start, self.seconds, lines)
