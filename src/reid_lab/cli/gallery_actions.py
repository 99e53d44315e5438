"""What the actions of `reid-lab gallery` print; each returns the exit status."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from reid_lab.cli.show import gallery as show
from reid_lab.cli.warned import warned
from reid_lab.files.atomic import write_text
from reid_lab.gallery.build import BuildResult, add_images, build_gallery
from reid_lab.gallery.calibrate import calibrate_gallery
from reid_lab.gallery.evaluate import evaluate_gallery
from reid_lab.gallery.planner import plan as make_plan
from reid_lab.gallery.result_files import check_out, match_rows, query_objects, write_rows
from reid_lab.gallery.result_page import page
from reid_lab.gallery.search import GallerySearch, search_gallery
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.texts import images
from reid_lab.gallery.upgrade import upgrade_gallery
from reid_lab.gallery.vector_index import load_milvus, opened
from reid_lab.output.console import counter, stderr, stdout

TABLES = (".jsonl", ".csv", ".parquet")


def build(args: Namespace) -> int:
    with counter("embed") as tell, warned():

        def progress(done: int, total: int) -> None:
            tell(done, total)
            if done == total and args.index != "flat":
                stderr.print(f"index {args.index} ...", highlight=False)

        result = build_gallery(
            args.images,
            args.checkpoint,
            args.out,
            metadata=args.metadata,
            pattern=args.pattern,
            exit=args.exit,
            index=args.index,
            metric=args.metric,
            half=args.half,
            overwrite=args.overwrite,
            batch_size=args.batch_size,
            device=args.device,
            progress=progress,
        )
    return _report(args, result)


def add(args: Namespace) -> int:
    with counter("embed") as tell:
        result = add_images(
            args.gallery,
            args.images,
            args.checkpoint,
            metadata=args.metadata,
            batch_size=args.batch_size,
            device=args.device,
            progress=tell,
        )
    return _report(args, result)


def _report(args: Namespace, result: BuildResult) -> int:
    """The status: 1 if there is no image, or if --strict and an image is broken."""
    show.copies(result.gallery, result.copies)
    show.broken(result.broken)
    show.note(result.note)
    show.outcome(result)
    nothing = not result.embedded + result.known
    return int(bool(result.broken) and (args.strict or nothing))


def search(args: Namespace) -> int:
    if args.out is not None:
        check_out(args.out)
    gallery = SavedGallery.open(args.gallery)
    milvus = args.store == "milvus"
    store = opened(gallery, args.uri, args.collection, args.token) if milvus else nullcontext()
    with store as searched:
        found = search_gallery(
            gallery,
            args.image,
            args.checkpoint,
            boxes=args.boxes,
            exit=args.exit,
            pool=bool(args.pool),
            top=args.top,
            where=args.where,
            false_accept_rate=args.false_accept_rate,
            store=searched,
            batch_size=args.batch_size,
            device=args.device,
        )
    show.broken(found.broken)
    if found.accept is not None:
        show.threshold(gallery, found.accept, args.false_accept_rate)
    if args.out is None:
        show.answers(gallery, found.results)
    elif found.results:
        _write(args.out, found)
        show.judged(found.results)
    return int(bool(found.broken))


def _write(path: Path, found: GallerySearch) -> None:
    ending = path.suffix.lower()
    if ending == ".html":
        write_text(path, page(found.gallery, found.results))
    else:
        objects = ending == ".jsonl"
        rows = query_objects(found.results) if objects else match_rows(found.gallery, found.results)
        write_rows(path, rows)
    stdout.print(f"{path}", soft_wrap=True, highlight=False, markup=False)


def load(args: Namespace) -> int:
    with counter("load") as tell:
        result = load_milvus(
            args.gallery,
            args.uri,
            collection=args.collection,
            token=args.token,
            prune_others=args.prune,
            replace_all=args.replace,
            batch_size=args.batch_size,
            progress=tell,
        )
    removals = f", {result.removed:,} removed" if args.prune else ""
    added, where = images(result.added), f"{result.total:,} in {args.collection}"
    stdout.print(f"{args.uri}: {added} added{removals}, {where}")
    return 0


def link(args: Namespace) -> int:
    from reid_lab.gallery.link import link_tracklets  # scipy takes a moment

    if args.out is not None:
        check_out(args.out, TABLES)
    result = link_tracklets(
        args.a,
        args.b,
        args.checkpoint,
        threshold=args.threshold,
        gallery=args.gallery,
        false_accept_rate=args.false_accept_rate,
        exit=args.exit,
        metric=args.metric,
        batch_size=args.batch_size,
        device=args.device,
    )
    if result.accept is not None:
        show.rate_note(result.accept, args.false_accept_rate)
    show.broken(result.broken)
    rows = result.rows()
    if args.out is None:
        show.links(rows)
    else:
        write_rows(args.out, rows)
        stdout.print(f"{args.out}", soft_wrap=True, highlight=False, markup=False)
    show.link_counts(rows, result.threshold)
    return int(bool(result.broken))


def upgrade(args: Namespace) -> int:
    with counter("embed") as tell, warned():
        result = upgrade_gallery(
            args.gallery,
            args.checkpoint,
            exit=args.exit,
            images=args.images,
            max_queries=args.most,
            dry_run=args.dry_run,
            only_if_better=args.only_if_better,
            batch_size=args.batch_size,
            device=args.device,
            progress=tell,
        )
    show.upgrade(result, "--dry-run" if args.dry_run else "--only-if-better")
    return int(not result.swapped and not args.dry_run)


def evaluate(args: Namespace) -> int:
    if args.out is not None:
        check_out(args.out, TABLES)
    result = evaluate_gallery(
        args.gallery, hidden=args.hidden, max_queries=args.most, metric=args.metric
    )
    show.accuracies(args.gallery, result)
    if args.out is not None:
        write_rows(args.out, result.rows)
    return 0


def calibrate(args: Namespace) -> int:
    result = calibrate_gallery(
        args.gallery,
        rates=args.rates,
        max_queries=args.most,
        checkpoint=args.checkpoint,
        labels=args.labels,
        batch_size=args.batch_size,
        device=args.device,
    )
    show.broken(result.broken)
    show.accept_thresholds(result.gallery, result.thresholds)
    return 0


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


ACTIONS: dict[str, Callable[[Namespace], int]] = {
    "build": build,
    "add": add,
    "search": search,
    "load": load,
    "link": link,
    "upgrade": upgrade,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "plan": plan,
}
