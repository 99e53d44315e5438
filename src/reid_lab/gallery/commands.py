"""The commands. Each takes its arguments and returns the exit status."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reid_lab.checkpoint import read_accept_thresholds
from reid_lab.errors import UserError
from reid_lab.files.atomic import write_text
from reid_lab.gallery import copies, show
from reid_lab.gallery.accept_thresholds import fit_own_thresholds, thresholds_of_test
from reid_lab.gallery.embed import Embedder, embedded
from reid_lab.gallery.images import Labelled, columns_of, ids_of, names_of
from reid_lab.gallery.index import check_count, check_installed
from reid_lab.gallery.labels import check_labels, fit_labels, read_labels
from reid_lab.gallery.metadata import read_gallery_images, read_more_images
from reid_lab.gallery.planner import plan as make_plan
from reid_lab.gallery.queries import Queries, Spread, embed_queries, list_queries, pooled, rows_of
from reid_lab.gallery.result_files import check_out, match_rows, query_objects, write_rows
from reid_lab.gallery.results import SearchResult
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vector_index import StoreIndex, opened
from reid_lab.gallery.vector_index import load as load
from reid_lab.gallery.writer import Writer, extend, reserved
from reid_lab.gallery_format.card import Card, GalleryError
from reid_lab.gallery_format.embedding_files import EmbeddedImages
from reid_lab.gallery_format.writer import RowWriter, locked
from reid_lab.openset.thresholds import AcceptThresholds, accept_thresholds_at, thresholds_of_kind
from reid_lab.openset.verdicts import GalleryVerdict, verdicts
from reid_lab.output.console import progress, stderr, stdout


@dataclass
class Outcome:
    """The result of embedding some images."""

    done: int = 0
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def status(self, strict: bool, there: int = 0) -> int:
        """1 if no image was embedded or `there` before, or if `strict` and an image is broken."""
        return int(bool(self.broken) and (strict or not self.done + there))


def build(args: Namespace) -> int:
    check_installed(args.index)
    images, pattern, note = read_gallery_images(args.images, args.metadata, args.pattern)
    check_count(args.index, len(images))
    with reserved(args.out, args.overwrite) as start:
        embedder = Embedder.load(args.checkpoint, args.exit, args.device)
        show.space_problem(embedder.model, args.checkpoint)
        writer = start(_new_card(args, embedder, pattern))
        outcome = _fill(writer, embedder, images, args.batch_size)
        if not outcome.done:
            show.broken(outcome.broken)
            raise UserError(f"none of {len(images)} images could be read: {args.out} was not made")
        if args.index != "flat":
            stderr.print(f"index {args.index} ...", highlight=False)
    copies.tell(SavedGallery.open(args.out), 0)
    return _report(args, args.out, outcome, note)


def _new_card(args: Namespace, embedder: Embedder, pattern: str) -> Card:
    """The card of a gallery to build; its thresholds are the checkpoint's or its run's."""
    found = accept_thresholds_at(embedder.model.accept_thresholds, embedder.exit, args.metric)
    if not found:
        key = embedder.fingerprint, embedder.exit, args.metric
        tested = thresholds_of_test(args.checkpoint, *key)
        found = (tested,) if tested else ()
    return Card(
        embedder.fingerprint,
        embedder.dim,
        embedder.exit,
        embedder.image,
        args.metric,
        "float16" if args.half else "float32",
        args.index,
        pattern,
        accept_thresholds=found,
        shared=embedder.shared,
    )


def add(args: Namespace) -> int:
    gallery = SavedGallery.open(args.gallery)
    check_installed(gallery.card.index)
    images, other = read_more_images(args.images, args.metadata, gallery.card.pattern)
    # locked first: if another process is writing, the network need not be loaded
    with extend(gallery, gallery.card.fingerprint) as writer:
        embedder = _embedder(args, writer.gallery, writer.gallery.card.exit)
        new = [image for image in images if str(image.path) not in writer]
        before = len(writer.gallery)
        outcome = _fill(writer, embedder, new, args.batch_size)
        copies.tell(writer.gallery, before)
    return _report(args, args.gallery, outcome, other, len(images) - len(new))


def search(args: Namespace) -> int:
    if args.out is not None:
        check_out(args.out)
    gallery = SavedGallery.open(args.gallery)
    check_installed(gallery.card.index)
    gallery.selected(args.where)  # an invalid filter is an error before the network is read
    gallery.query_exit(args.exit, args.false_accept_rate is not None)
    accept = None
    if args.false_accept_rate is not None:
        accept = thresholds_of_kind(_accept_thresholds(gallery, args.checkpoint), args.gallery)
        accept.at(args.false_accept_rate)
    with opened(args, gallery) if args.store == "milvus" else nullcontext(gallery) as store:
        queries = _queries(args, gallery, args.image, args.boxes)
        show.broken(queries.broken)
        answers = _answers(gallery, store, queries, args, accept) if queries.images else []
    if accept is not None:
        show.threshold(gallery, accept, args.false_accept_rate)
    if args.out is None:
        show.answers(gallery, answers)
    elif answers:
        _write_answers(args.out, gallery, answers)
        show.judged(answers)
    return int(bool(queries.broken))


def _accept_thresholds(
    gallery: SavedGallery, checkpoint: Path | None
) -> tuple[AcceptThresholds, ...]:
    """The thresholds of the gallery, or those of its checkpoint if it has none."""
    if gallery.card.accept_thresholds or checkpoint is None:
        return gallery.card.accept_thresholds
    key, found = read_accept_thresholds(checkpoint)
    gallery.check_model(key)
    return accept_thresholds_at(found, gallery.card.exit, gallery.card.metric)


def _queries(
    args: Namespace, gallery: SavedGallery, given: Sequence[Path], boxes: Path | None = None
) -> Queries:
    """The queries of a search, with embeddings that can be compared with the gallery's."""
    images, files = list_queries(given, boxes, gallery.card.pattern)
    exit = gallery.query_exit(args.exit)

    def check(read: EmbeddedImages, file: Path) -> np.ndarray:
        gallery.check_model(read.fingerprint)
        return rows_of(read, file, exit, gallery.card.metric)

    def load() -> Embedder:
        return _embedder(args, gallery, exit)

    queries = embed_queries(images, files, load, check, args.batch_size)
    return pooled(queries, gallery.card.metric) if args.pool else queries


def _answers(
    gallery: SavedGallery,
    store: SavedGallery | StoreIndex,
    queries: Queries,
    args: Namespace,
    accept: AcceptThresholds | None,
) -> list[SearchResult]:
    distances, rows = store.search(queries.embeddings, args.top, args.where)
    judged: Sequence[GalleryVerdict | None] = [None] * len(queries.images)
    if accept is not None:
        rate = args.false_accept_rate
        judged = verdicts(store, queries.embeddings, accept, rate, args.where)
    spreads: Sequence[Spread | None] = queries.spreads or [None] * len(queries.images)
    found = zip(queries.images, distances, rows, judged, spreads, strict=True)
    return [SearchResult.of(gallery, *one) for one in found]


def _write_answers(path: Path, gallery: SavedGallery, answers: Sequence[SearchResult]) -> None:
    ending = path.suffix.lower()
    if ending == ".html":
        write_text(path, show.page(gallery, answers))
    else:
        rows = query_objects if ending == ".jsonl" else match_rows
        write_rows(path, rows(gallery, answers))
    stdout.print(f"{path}", soft_wrap=True, highlight=False, markup=False)


def link(args: Namespace) -> int:
    from reid_lab.gallery.link import run  # scipy takes a moment

    return run(args)


def upgrade(args: Namespace) -> int:
    from reid_lab.gallery.upgrade import run

    return run(args)


def evaluate(args: Namespace) -> int:
    from reid_lab.gallery.evaluate import run

    return run(args)


def calibrate(args: Namespace) -> int:
    with locked(SavedGallery.open(args.gallery).folder):
        gallery = SavedGallery.open(args.gallery)  # nobody adds images while thresholds are fitted
        if args.labels is not None:
            found = _with_labels(args, gallery)
        elif args.checkpoint is None:
            found = fit_own_thresholds(gallery, args.rates, args.most)
        else:
            found = _thresholds_of(args.checkpoint, gallery)
        RowWriter(gallery).set_accept_thresholds(found)
    show.accept_thresholds(gallery, found)
    return 0


def _with_labels(args: Namespace, gallery: SavedGallery) -> tuple[AcceptThresholds, ...]:
    """Thresholds of searches by the gallery's own people, and of pairs by the users' labels."""
    if args.checkpoint is None:
        raise UserError("--labels has images, which a network embeds: give --checkpoint")
    images = read_labels(args.labels)
    check_labels(gallery, images, args.rates)
    own, exit = fit_own_thresholds(gallery, args.rates, args.most), gallery.card.exit
    queries = embed_queries(
        images,
        (),
        lambda: _embedder(args, gallery, exit),
        lambda read, file: rows_of(read, file, exit, gallery.card.metric),
        args.batch_size,
    )
    show.broken(queries.broken)
    labelled = fit_labels(gallery, queries.images, queries.embeddings, args.rates)
    return (*(one for one in own if one.kind != labelled.kind), labelled)


def _thresholds_of(checkpoint: Path, gallery: SavedGallery) -> tuple[AcceptThresholds, ...]:
    """The thresholds of a gallery's checkpoint, or of its run's test.

    Raises:
        UserError: there are none, or it is another model.
    """
    key, kept = read_accept_thresholds(checkpoint)
    gallery.check_model(key)
    card = gallery.card
    tested = thresholds_of_test(checkpoint, key, card.exit, card.metric)
    found = accept_thresholds_at(kept, card.exit, card.metric) or ((tested,) if tested else ())
    if not found:
        raise UserError(
            f"{checkpoint} has no thresholds of exit {card.exit!r} and metric "
            f"{card.metric}, nor has its run operating points of them: test it again (python "
            "-m reid_lab task=test), or leave --checkpoint out and fit the gallery's own people"
        )
    return found


def plan(args: Namespace) -> int:
    gallery = SavedGallery.open(args.gallery)
    queries = SavedGallery.open(args.queries) if args.queries else None
    with stderr.status("exact search ...") as status:
        made = make_plan(
            gallery,
            queries,
            args.size,
            args.most,
            args.depth,
            progress=lambda name: status.update(f"{name} ..."),
            milvus=args.store == "milvus",
        )
    show.plan(made, gallery)
    return 0


def _embedder(args: Namespace, gallery: SavedGallery, exit: str) -> Embedder:
    """The network that made `gallery`, up to `exit`.

    Raises:
        UserError: the checkpoint is another model, or was trained for another image size.
    """
    if args.checkpoint is None:
        raise UserError("images are embedded by a network: give --checkpoint")
    embedder = Embedder.load(args.checkpoint, exit, args.device, check=gallery.check_model)
    if embedder.image != gallery.card.image:
        raise GalleryError(
            f"{args.gallery} was built from images of {gallery.card.image}, {args.checkpoint} "
            f"takes {embedder.image}: build another gallery"
        )
    return embedder


def _fill(
    writer: Writer, embedder: Embedder, images: Sequence[Labelled], batch_size: int
) -> Outcome:
    """Append the embeddings of `images` batch by batch; broken ones are left out and reported."""
    outcome, start = Outcome(), time.perf_counter()
    with progress() as bar:
        task = bar.add_task("embed", total=len(images))
        for batch in embedded(embedder, images, batch_size, full=True):
            if batch.images:
                labels = ids_of(batch.images), names_of(batch.images), columns_of(batch.images)
                writer.append(batch.embeddings, *labels)
            outcome.done += len(batch.images)
            outcome.broken += batch.broken
            bar.advance(task, len(batch))
    outcome.seconds = time.perf_counter() - start
    return outcome


def _report(args: Namespace, folder: Path, outcome: Outcome, note: str, known: int = 0) -> int:
    show.broken(outcome.broken)
    if note:
        stderr.print(note, highlight=False, markup=False, soft_wrap=True)
    show.outcome(folder, outcome.done, known, len(outcome.broken), outcome.seconds)
    return outcome.status(args.strict, known)
