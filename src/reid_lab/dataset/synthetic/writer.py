"""Render a recipe into a folder, in parallel and resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from reid_lab.dataset.records import DatasetError
from reid_lab.dataset.synthetic.image import encoder, render_jpeg
from reid_lab.dataset.synthetic.plan import FOLDERS, Entry, plan
from reid_lab.dataset.synthetic.recipe import Recipe
from reid_lab.dataset.workers import interrupts_ignored, worker_pool
from reid_lab.files.atomic import flush_all, write_bytes
from reid_lab.files.regular import no_folder
from reid_lab.output.console import progress

DEFAULT = Recipe()
RECIPE, README, DONE = "recipe.json", "README.md", "complete"
DRAWING = 1  # increase when the images of an unchanged recipe change
CHUNK = 96  # images per task; those of a person are mostly in one task


def render(
    root: Path | str, recipe: Recipe = DEFAULT, workers: int = 0, progress: bool = True
) -> Path:
    """Render a data set in Market-1501's layout.

    Args:
        root: a new or empty folder, or one of the same recipe: a complete one is left as it is, an
            interrupted one is continued. Nothing is ever deleted.
        workers: processes besides this one; 0 renders in this process. The bytes are the same.
        progress: show a progress bar.

    Returns:
        `root`.

    Raises:
        DatasetError: `root` holds anything else, or a worker was killed.
        ValueError: `workers` is negative.
        MissingPackageError: simplejpeg is not installed.
    """
    if workers < 0:
        raise ValueError(f"workers={workers} is not allowed; expected 0 (this process) or more")
    root = Path(root)
    description = _description(recipe)
    _check_owner(root, description)
    if (root / DONE).exists():
        return root
    encoder()  # report a missing package before anything is written
    entries = plan(recipe)
    _check_files(root, entries)
    write_bytes(root / RECIPE, description.encode())  # first, as it marks the folder
    for folder in FOLDERS:
        (root / folder).mkdir(exist_ok=True)
    missing = [entry for entry in entries if not (root / entry.folder / entry.name).exists()]
    with _bar(len(entries), len(entries) - len(missing), progress) as advance:
        for count in _render_missing(root, recipe, missing, workers):
            advance(count)
    flush_all()
    write_bytes(root / README, _readme(recipe, entries).encode())
    write_bytes(root / DONE, f"{len(entries)} images\n".encode())
    return root


def _description(recipe: Recipe) -> str:
    values = asdict(recipe)
    if recipe.variation == 0:
        del values["variation"]  # as in data sets from before this parameter
    return json.dumps({"drawing": DRAWING, **values}, indent=2) + "\n"


def _check_owner(root: Path, description: str) -> None:
    if not root.exists():
        return
    advice = "choose another folder, or delete this one if you do not need it"
    if not root.is_dir():
        raise DatasetError(f"{root} {no_folder(root)}; {advice}")
    if (root / RECIPE).exists():
        if (root / RECIPE).read_text() != description:
            raise DatasetError(f"{root} holds the images of another recipe; {advice}")
    elif found := sorted(p.name for p in root.iterdir() if not p.name.startswith(".")):
        raise DatasetError(
            f"{root} holds files that are not a synthetic data set, such as {found[0]}; {advice}"
        )


def _check_files(root: Path, entries: list[Entry]) -> None:
    """Check that an incomplete root has no other images, which would be read as data."""
    known = {f"{entry.folder}/{entry.name}" for entry in entries}
    for folder in FOLDERS:
        for path in (root / folder).glob("[!.]*"):
            if f"{folder}/{path.name}" not in known:
                raise DatasetError(
                    f"{path} is not an image of this recipe; move it away, or choose another root"
                )


def _render_missing(
    root: Path, recipe: Recipe, entries: list[Entry], workers: int
) -> Iterator[int]:
    """Render the entries; yield the number of images after each chunk."""
    if workers == 0:
        for k in range(0, len(entries), 8):
            yield _render_chunk(root, recipe, entries[k : k + 8])
        return
    chunks = [entries[k : k + CHUNK] for k in range(0, len(entries), CHUNK)]
    pool = worker_pool(min(workers, max(1, len(chunks))))
    try:
        with interrupts_ignored():
            jobs = [pool.submit(_render_chunk, root, recipe, c) for c in chunks]
        for job in as_completed(jobs):
            yield job.result()
    except BrokenProcessPool as error:
        raise DatasetError(
            f"{root}: a rendering process ended, perhaps for lack of memory: start again to "
            "resume; a script of your own needs its calls below if __name__ == '__main__':"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _render_chunk(root: Path, recipe: Recipe, entries: list[Entry]) -> int:
    for entry in entries:
        path = root / entry.folder / entry.name
        write_bytes(path, render_jpeg(recipe, entry.key), durable=False)
    return len(entries)


@contextmanager
def _bar(total: int, done: int, show: bool) -> Iterator[Callable[[int], None]]:
    with progress(text=True, disable=not show) as bar:
        task = bar.add_task("render people", total=total, completed=done, text="")

        def advance(count: int) -> None:
            bar.update(task, advance=count, text=f"{bar.tasks[0].speed or 0:.0f} images/s")

        yield advance


def _readme(recipe: Recipe, entries: list[Entry]) -> str:
    counts = {folder: sum(e.folder == folder for e in entries) for folder in FOLDERS}
    lines = "\n".join(f"- `{folder}`: {count} images" for folder, count in counts.items())
    return (
        "# Synthetic pedestrians\n\n"
        "Drawn by reid_lab; no real person is shown. Market-1501 layout and names,\n"
        "`PPPP_cCsS_FFFFFF_II.jpg`: pid, camid and sequence, frame, index. Pid -1 is junk\n"
        "(ignored by the evaluation), pid 0000 are distractors.\n\n"
        f"{lines}\n\nThe parameters are in `recipe.json`; the same recipe gives the same bytes.\n"
    )
