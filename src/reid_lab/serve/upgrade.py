"""A new model without downtime: people are embedded again while the old model answers.

New embeddings are taken from the given galleries by path; otherwise the stored thumbnail of an
image is embedded. When all are complete, network, people and scheduler are replaced at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_lab.errors import UserError
from reid_lab.files.regular import escaped
from reid_lab.images.pixels import decode_pixels
from reid_lab.runtime.gallery import Gallery
from reid_lab.runtime.images import resize
from reid_lab.runtime.model import Model
from reid_lab.serve.galleries import check_metric
from reid_lab.serve.in_force import InForce, Serving, UpgradeState
from reid_lab.serve.people import People
from reid_lab.serve.people_file import PeopleFile
from reid_lab.serve.rows import Rows, compared_rows, extended, restricted
from reid_lab.serve.staging import NEXT, Staging, drop_replaced

log = logging.getLogger(__name__)
LISTED_IMAGES = 5  # images that a message names
BATCH = 32  # images that are embedded, and kept, at a time
RATE = 0.01  # false accepts for which thresholds are estimated before the first query needs them
Galleries = Mapping[str, Gallery]
Report = Callable[[int, int], None]  # images that are embedded, of all


class StoppedError(Exception):
    """The service stops; finished embeddings are kept."""


class NewEmbeddings:
    """Embeds all people of a file with a new network, beside the current embeddings.

    Args:
        file: the file of people.
        model: the new network.
        galleries: exit -> gallery of the new network; may be empty.
        stop: event that ends `fill` between two batches.

    Attributes:
        small: number of thumbnails that are smaller than the network's input.

    Raises:
        UserError: galleries of another metric, or images without a gallery row or thumbnail.
    """

    def __init__(
        self,
        file: PeopleFile,
        model: Model,
        galleries: Galleries,
        stop: threading.Event | None = None,
    ) -> None:
        self.file, self.model, self.galleries = file, model, galleries
        self.exits = tuple(galleries) or model.manifest.gallery_exits
        self.small = 0
        self._stop = stop or threading.Event()
        paths = galleries[self.exits[-1]].paths() if galleries else []
        self._row_of = {path: row for row, path in enumerate(paths)}
        check_metric(dict(galleries), file.path, file.metric)
        self._check_images()
        self.staging = Staging(file, model.manifest.fingerprint, self.exits)

    def fill(self, report: Report = lambda done, every: None) -> None:
        """Embed the images without new embeddings, in the order of their ids.

        Raises:
            UserError: a thumbnail is damaged, or an embedding cannot be compared.
            StoppedError: the service stops.
        """
        last = 0
        while images := self.staging.pending(last, BATCH):
            if self._stop.is_set():
                raise StoppedError
            self.staging.put([image for image, _, _ in images], self._embedded(images))
            last = images[-1][0]
            report(*self.staging.count())

    def rows(self) -> Rows:
        """The new embeddings so far."""
        found = self.file.select(f"SELECT MAX(image) FROM {NEXT}")
        return self.file.rows(self.exits, NEXT, until=found[0][0] or 0)

    def updated(self, rows: Rows) -> Rows:
        """`rows` without images removed since, and with those added since.

        The caller holds the file's lock, and no image lacks a new embedding.
        """
        there = [image for (image,) in self.file.select("SELECT id FROM image")]
        last = int(rows.ids[-1]) if len(rows) else 0
        kept = np.isin(rows.ids, there)
        rows = rows if kept.all() else restricted(rows, kept)
        new = self.file.rows(self.exits, NEXT, behind=last)
        if not len(new):
            return rows
        pids = [new.pids[i] for i in new.people]
        camids = [new.camids[i] for i in new.cameras]
        return extended(rows, new.ids.tolist(), pids, camids, new.exits) if len(rows) else new

    def finish(self) -> int:
        """Embed all images and use the new embeddings; no service may use the file.

        Returns:
            The number of images.
        """
        self.fill()
        images, _ = self.staging.count()
        with self.file.lock:
            self.staging.put_in_force()
        drop_replaced(self.file)
        return images

    def _check_images(self) -> None:
        lacking = self.file.select(
            "SELECT id, pid, path FROM image WHERE length(coalesce(thumbnail, '')) = 0 ORDER BY id"
        )
        missing = [(image, pid, path) for image, pid, path in lacking if path not in self._row_of]
        if missing:
            listed = "".join(
                f"\n  {escaped(path) or f'image {image}'} of {pid!r}"
                for image, pid, path in missing[:LISTED_IMAGES]
            )
            raise UserError(
                f"{len(missing):,} images of {self.file.path} were not kept, and the new model "
                "cannot embed them: start the service with galleries that hold "
                f"them (reid-lab gallery upgrade), or remove these people:{listed}"
            )

    def _embedded(self, images: Sequence[tuple[int, str, bytes]]) -> dict[str, np.ndarray]:
        """Exit -> (n, D) float32 rows for comparison."""
        rows: list[dict[str, np.ndarray]] = [{} for _ in images]
        kept = [i for i, (_, path, _) in enumerate(images) if path not in self._row_of]
        if kept:
            pixels = np.stack([self._pixels(images[i][0], images[i][2]) for i in kept])
            found = self.model.embed(pixels, self.exits)
            for number, i in enumerate(kept):
                rows[i] = {name: found[name][number] for name in self.exits}
        for i, (_, path, _) in enumerate(images):
            if path in self._row_of:
                row = self._row_of[path]
                rows[i] = {name: g.embeddings[row] for name, g in self.galleries.items()}
        stacked = {name: np.stack([row[name] for row in rows]) for name in self.exits}
        return {name: compared_rows(name, x, self.file.metric) for name, x in stacked.items()}

    def _pixels(self, image: int, thumbnail: bytes) -> np.ndarray:
        crop = decode_pixels(thumbnail, f"image {image} of {self.file.path}")
        self.small += crop.shape[0] < self.model.image[0]
        return resize(crop, self.model.image)


def finish_interrupted(
    path: Path, model: Model, galleries: Galleries, metric: str = "euclidean"
) -> int | None:
    """Finish an upgrade to this model that a killed service had begun, before listening.

    Args:
        metric: metric of a file without tables, which a kill may leave behind.

    Returns:
        The number of images, or None if there is no upgrade to finish.

    Raises:
        UserError: the upgrade cannot be finished.
    """
    if not path.exists():
        return None
    exits = tuple(galleries) or model.manifest.gallery_exits
    file = PeopleFile(path, model.manifest, metric, exits)
    try:
        drop_replaced(file)
        ours = model.manifest.fingerprint
        if file.fact("fingerprint") == ours or file.fact("next_fingerprint") != ours:
            return None
        new = NewEmbeddings(file, model, galleries)
        return new.finish()
    finally:
        file.close()


class Upgrader:
    """Moves a running service to the current model and galleries in its folders.

    Args:
        in_force: holder of the `Serving` that answers requests.
        read: reads the folders: the network, and exit -> gallery for a given metric.
        start: network, people -> `Serving`.
        added: called with the current people and galleries, to add images that only galleries
            have.
    """

    def __init__(
        self,
        in_force: InForce,
        read: Callable[[str], tuple[Model, Galleries]],
        start: Callable[[Model, People], Serving],
        added: Callable[[People, Galleries], int],
    ) -> None:
        self._in_force, self._read, self._start, self._added = in_force, read, start, added
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> bool:
        """Start an upgrade in a background thread; False if one is running already."""
        with self._lock:
            if self._in_force.upgrade.runs:
                return False
            self._in_force.upgrade = UpgradeState("loading")
            self._thread = threading.Thread(target=self._run, name="upgrade", daemon=True)
            self._thread.start()
            return True

    def close(self) -> None:
        """Stop a running upgrade and wait for it; the next one continues there."""
        self._stop.set()
        self.wait()

    def wait(self) -> None:
        """Wait for the end of a running upgrade."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            message = self._upgrade()
        except StoppedError:
            self._set_state(state="failed", message="the service was stopped")
        except Exception as error:  # whatever it is, the old model goes on
            what = _what(error)
            self._set_state(state="failed", message=what)
            log.error("upgrade failed, still serving the old model: %s", what)
        else:
            self._set_state(state="done", message=message)
            log.info("%s", message)

    def _upgrade(self) -> str:
        old = self._in_force.now
        model, galleries = self._read(old.people.metric)
        fingerprint = model.manifest.fingerprint
        self._set_state(model=fingerprint)
        if fingerprint == old.fingerprint:
            raise UserError(
                f"{model.folder} holds the current model ({fingerprint[:12]}): put another export "
                "at this path first, for example by a link"
            )
        new = NewEmbeddings(old.people.file, model, galleries, self._stop)
        done, every = new.staging.count()
        self._set_state(state="embedding", embedded=done, images=every)
        new.fill(lambda done, every: self._set_state(embedded=done, images=every))
        self._set_state(state="starting")
        serving = self._replace(old, new)
        added, problems = self._clean_up(old, serving, galleries)
        return "; ".join((_described(serving, new.small, added), *problems))

    def _clean_up(
        self, old: Serving, serving: Serving, galleries: Galleries
    ) -> tuple[int, list[str]]:
        """The number of added images, and failures, after which the new model is kept."""
        added, problems = 0, []
        try:
            added = self._added(serving.people, galleries) if galleries else 0
        except Exception as error:
            problems.append(
                f"new images of the galleries were not added ({_what(error)}): the next start "
                "adds them"
            )
        self._in_force.wait_until_unused(old)
        old.scheduler.close()
        try:
            drop_replaced(serving.people.file)
        except Exception as error:
            problems.append(
                f"the old embeddings were not overwritten ({_what(error)}): the next start or "
                "upgrade overwrites them"
            )
        return added, problems

    def _replace(self, old: Serving, new: NewEmbeddings) -> Serving:
        """Start the new network, and switch to it and its embeddings atomically."""
        file = old.people.file
        people = People.of(file, new.model.manifest, new.exits, new.rows())
        people.take_thresholds(new.galleries)
        serving = self._start(new.model, people)
        try:
            for exit in serving.scheduler.names:
                people.threshold(exit, RATE)
            new.fill()  # what was added meanwhile, so that little is left
            with file.lock:  # enrolments and removals wait
                new.fill()
                before, people.rows = people.rows, new.updated(people.rows)
                if people.rows is not before:
                    people.thresholds.forget()
                new.staging.put_in_force()
                old.people.successor = people
                self._in_force.replace(serving)
        except BaseException:
            serving.scheduler.close()
            raise
        return serving

    def _set_state(self, **changed: object) -> None:
        self._in_force.upgrade = replace(self._in_force.upgrade, **changed)  # type: ignore[arg-type]


def _what(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _described(serving: Serving, small: int, added: int) -> str:
    people, images = serving.people.count()
    less = f"; {small:,} kept images are smaller than the network's input" if small else ""
    more = f"; {added:,} images are new in the galleries" if added else ""
    return (
        f"serving model {serving.fingerprint[:12]}: {people:,} people, {images:,} images"
        f"{less}{more}"
    )
