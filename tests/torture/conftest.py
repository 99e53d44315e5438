"""The bench's tier: a share of it in every test run, all of it with REID_LAB_TORTURE=1."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.launcher import Launcher, Starter
from tests.torture.bench import DEMO, Bench, Stage

WHOLE = os.environ.get("REID_LAB_TORTURE") == "1"
FAMILY = "torture family"
CASES = "torture cases"  # of a test that counts its own: (family, tried, bad)
COUNTED = {"passed": "clean", "failed": "bad", "skipped": "skipped"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture-csv", metavar="FILE", help="write the counts by family as CSV")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all but every SHARE-th case of a module, unless the whole is asked for."""
    kept, left_out = [], []
    seen: Counter[str] = Counter()
    for item in items:
        mark = item.get_closest_marker("torture")
        if mark is None:
            kept.append(item)
            continue
        item.user_properties.append((FAMILY, mark.args[0]))
        number = seen[mark.args[0]]
        seen[mark.args[0]] += 1
        (kept if WHOLE or number % mark.kwargs["share"] == 0 else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print, for each family, how many cases were tried, and how they ended."""
    counts: dict[str, Counter[str]] = {}
    for outcome, name in COUNTED.items():
        for report in terminalreporter.stats.get(outcome, []):
            # a module that was skipped has none
            properties = dict(getattr(report, "user_properties", ()))
            family = properties.get(FAMILY)
            if family and (report.when == "call" or outcome == "skipped"):
                counts.setdefault(family, Counter())[name] += 1
            for many, tried, bad in [properties[CASES]] if CASES in properties else ():
                counts.setdefault(many, Counter()).update(clean=tried - bad, bad=bad)
    for report in terminalreporter.stats.get("error", []):  # its setup failed
        properties = dict(getattr(report, "user_properties", ()))
        counts.setdefault(properties.get(FAMILY, "?"), Counter())["bad"] += 1
    if not counts:
        return
    rows = [table_row(family, count) for family, count in sorted(counts.items())]
    rows.append(table_row("all", sum(counts.values(), Counter())))
    terminalreporter.section("torture")
    for cells in ([*rows[0]], *([*row.values()] for row in rows)):
        first, *rest = map(str, cells)
        terminalreporter.write_line(f"{first:<12}" + "".join(f"{cell:>9}" for cell in rest))
    path = config.getoption("--torture-csv", None)
    if path and not hasattr(config, "workerinput"):  # xdist's workers see a part
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def table_row(family: str, count: Counter[str]) -> dict[str, str | int]:
    return {
        "family": family,
        "tried": count["clean"] + count["bad"],
        "clean": count["clean"],
        "bad": count["bad"],
        "skipped": count["skipped"],
    }


@pytest.fixture(scope="session")
def launcher(starter: Launcher | Starter) -> Launcher:
    if not isinstance(starter, Launcher):
        pytest.skip("the bench forks its commands and looks for what they leave in /proc")
    return starter


@pytest.fixture(scope="session")
def stage(launcher: Launcher, people: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A run, a gallery and an export of its network, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("stage")
    images = folder / "images"
    images.mkdir()
    for path in sorted((people / "bounding_box_test").glob("000[1-9]*.jpg"))[:8]:
        shutil.copy(path, images)
    made = Stage(
        people,
        folder / "run",
        folder / "run" / "checkpoints" / "last.ckpt",
        images,
        folder / "gallery",
        folder / "export",
    )
    network = ("--checkpoint", "@checkpoint")
    for module, *arguments in (
        ("reid_lab", *DEMO, "hydra.run.dir=@run"),
        ("reid_lab.gallery", "build", *network, "--images", "@images", "--out", "@gallery"),
        ("reid_lab.export", *network, "--out", "@export"),
    ):
        filled = [made.fill(word, folder) for word in arguments]
        running = launcher.start(module, filled, folder, folder / "output")
        assert running.wait(300) == 0, running.text()
    return made


@pytest.fixture(scope="session")
def bench(launcher: Launcher, stage: Stage) -> Bench:
    return Bench(launcher, stage)
