"""Results of a test replace earlier ones at once, whenever it is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_lab.results import (
    NEW,
    OLD,
    RESULTS,
    SUMMARY,
    begin_test,
    config_of,
    publish_results,
    results_of,
)


def write(folder: Path, what: str, *more: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("exits.csv", *more, SUMMARY):
        (folder / name).write_text(what)


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """With results of a test, and a file of a training."""
    write(tmp_path / RESULTS, "old", "stream.csv")
    (tmp_path / RESULTS / "search.csv").write_text("of the training")
    return tmp_path


def test_a_test_replaces_its_own_files_and_no_others(run: Path) -> None:
    write(begin_test(run), "new", "roc.csv")
    assert held(results_of(run))["exits.csv"] == "old"
    publish_results(run)
    new = dict.fromkeys(("exits.csv", "roc.csv", SUMMARY), "new")
    assert held(run / RESULTS) == {**new, "search.csv": "of the training"}
    assert {path.name for path in run.iterdir()} == {RESULTS}


@pytest.mark.parametrize("at", [0, 1])
def test_whenever_it_is_killed_one_of_both_is_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Before the first rename, and between the two."""
    write(begin_test(run), "new")
    rename, done = Path.rename, []

    def killed(path: Path, target: Path) -> Path:
        if len(done) == at:
            raise KeyboardInterrupt
        done.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        publish_results(run)
    found = held(results_of(run))
    assert {found["exits.csv"], found[SUMMARY]} == {"new" if at else "old"}
    assert found["search.csv"] == "of the training"
    before = found["exits.csv"]
    begin_test(run)  # the next one cleans up, and keeps what was whole
    assert held(run / RESULTS)["exits.csv"] == before
    assert not list((run / NEW).iterdir()) and not (run / OLD).exists()


def test_a_part_of_new_results_is_never_read(run: Path) -> None:
    (begin_test(run) / "exits.csv").write_text("new")
    assert results_of(run) == run / RESULTS
    (run / RESULTS).rename(run / "elsewhere")
    assert results_of(run) == run / RESULTS  # none at all


def test_the_config_is_of_the_test_that_made_the_numbers(run: Path) -> None:
    (run / "config.yaml").write_text("training")
    assert config_of(run).read_text() == "training"
    (run / RESULTS / "config.yaml").write_text("test")
    assert config_of(run).read_text() == "test"
