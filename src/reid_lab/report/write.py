"""Turn a run folder into plots, CSV files and one self-contained `report.html`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path

from reid_lab.errors import UserError
from reid_lab.files.atomic import write_bytes, write_text
from reid_lab.report import attention, conditions, curves, exit_lines, pictures, plots, search
from reid_lab.report.html import page
from reid_lab.report.load import ReportError, Run, load_run
from reid_lab.report.style import png
from reid_lab.results import TABLES

log = logging.getLogger(__name__)


def write_report(run: Path | Run, compare: Sequence[Path] = ()) -> Path:
    """Write `report/report.html` into the run folder, with its PNG and CSV files.

    Exits and anytime curves of the runs in `compare` are drawn as well, with their names;
    unreadable runs are left out, with a warning and a note on the page.

    Raises:
        ReportError: the folder is missing, has no results or cannot be written to.
        StoredFileError: its results are broken.
    """
    shown = run if isinstance(run, Run) else load_run(Path(run))
    compared, notes = _compared(compare)
    others = _labelled(compared, shown.name)
    images = _images(shown, others)
    tables = _tables(shown, others)

    texts = {name: text.encode() if text else None for name, text in tables.items()}
    folder = shown.folder / "report"
    try:
        return _write(folder, {**images, **texts}, page(shown, images, notes))
    except OSError as error:
        raise ReportError(f"the report cannot be written to {folder}: {error}") from error


def _write(folder: Path, files: Mapping[str, bytes | None], html: str) -> Path:
    for name, content in files.items():
        if content:
            write_bytes(folder / name, content, durable=False)
        else:  # left over from an earlier report
            (folder / name).unlink(missing_ok=True)
    target = folder / "report.html"
    write_text(target, html)
    return target


def _compared(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The readable runs, and a note on each of the others."""
    found = [_run_or_reason(Path(folder)) for folder in folders]
    notes = [f"Not compared: {reason}." for reason in found if isinstance(reason, str)]
    for note in notes:
        log.warning(note)
    return [run for run in found if isinstance(run, Run)], notes


def _run_or_reason(folder: Path) -> Run | str:
    try:
        return load_run(folder)
    except UserError as error:
        return str(error)


def _labelled(runs: Sequence[Run], taken: str) -> dict[str, Run]:
    """Runs by name; if a name is taken, by name and folder, and numbered."""
    labelled: dict[str, Run] = {}
    for run in runs:
        longer = f"{run.name} ({run.folder.name})"
        numbered = (f"{longer} {number}" for number in count(2))
        labels = chain((run.name, longer), numbered)
        label = next(each for each in labels if each != taken and each not in labelled)
        labelled[label] = run
    return labelled


def _images(run: Run, others: dict[str, Run]) -> dict[str, bytes | None]:
    draw = {
        "exits_rank1.png": partial(plots.exits, run, others, "rank1"),
        "exits_mAP.png": partial(plots.exits, run, others, "mAP"),
        "anytime_rank1.png": partial(plots.anytime, run, others, "rank1"),
        "anytime_mAP.png": partial(plots.anytime, run, others, "mAP"),
        "stream.png": partial(plots.stream, run),
        "budget.png": partial(plots.budget, run),
        "roc.png": partial(exit_lines.roc, run),
        "dimensions_rank1.png": partial(exit_lines.dimensions, run, "rank1"),
        "dimensions_mAP.png": partial(exit_lines.dimensions, run, "mAP"),
        "cameras_rank1.png": partial(conditions.cameras, run, "rank1"),
        "cameras_mAP.png": partial(conditions.cameras, run, "mAP"),
        **{
            f"conditions_{name}.png": partial(conditions.condition, run, name)
            for name in conditions.LABELS
        },
        "attention.png": partial(attention.attention, run.attention),
        "search.png": partial(search.search, run),
        "loss.png": partial(curves.loss, run),
        "validation.png": partial(curves.validation, run),
    }
    images = {name: png(figure) for name, figure in draw.items()}
    # None: a report of an older version has the lists as PNG
    return {**images, "ranked.jpg": pictures.ranked_jpg(run.queries), "ranked.png": None}


def _tables(run: Run, others: Mapping[str, Run]) -> dict[str, str | None]:
    """The numbers behind the plots: CSV text by file name; None for plots without numbers."""
    texts: dict[str, str | None] = {table.file: None for table in TABLES.values()}
    texts |= {table.file: table.text(rows) for table, rows in run.tables.values()}
    for name in ("exits", "anytime"):  # of all runs that are drawn
        labelled = [
            (label, row)
            for label, one in {run.name: run, **others}.items()
            for row in getattr(one, name)
        ]
        if labelled:
            labels, rows = zip(*labelled, strict=True)
            texts[TABLES[name].file] = TABLES[name].text(rows, run=labels)
    texts["training.csv"] = run.logs.text()
    return texts
