"""Output of `reid-lab gallery`, `embed` and `soften`."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.text import Text

from reid_lab.cli.show.gallery_content import LISTED, titled
from reid_lab.errors import Note, first
from reid_lab.files.regular import escaped
from reid_lab.gallery.build import BuildResult
from reid_lab.gallery.evaluate import GalleryAccuracies
from reid_lab.gallery.images import Labelled
from reid_lab.gallery.planner import IndexPlan
from reid_lab.gallery.result_page import query_text, verdict_text
from reid_lab.gallery.results import SearchResult
from reid_lab.gallery.soften import SoftenResult
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.texts import images, memory, name
from reid_lab.gallery.upgrade import UpgradeResult
from reid_lab.gallery_format.embedding_files import EmbeddedFile
from reid_lab.gallery_format.rows import UNKNOWN, GalleryRows
from reid_lab.openset.thresholds import MEANING, AcceptThresholds
from reid_lab.output.console import NOTHING, fold, head_table, stderr, stdout
from reid_lab.report.tables import bounded, percent
from reid_lab.retrieval.accuracies import CMC_RANKS

FEW = 50  # people: thresholds of fewer are rough
VERDICTS = {True: Text("✓", "green"), False: Text("✗", "red"), None: Text("")}


def answers(gallery: SavedGallery, found: Sequence[SearchResult]) -> None:
    """A table for each query image."""
    columns = list(dict.fromkeys(c for a in found for m in a.matches for c in m.image.values))
    for answer in found:
        table = head_table("", "Distance", "Person", "Camera", "", *map(escaped, columns))
        table.add_column("Image")
        fold(table, 2, 3, *range(5, len(table.columns)))
        for position, match in enumerate(answer.matches, 1):
            table.add_row(
                str(position),
                f"{match.distance:.4f}",
                name(match.image.person),
                name(match.image.camera),
                VERDICTS[match.right],
                *(Text(escaped(match.image.values.get(column, ""))) for column in columns),
                Text(str(match.image.path)),
            )
        verdict = f": {verdict_text(answer.verdict)}" if answer.verdict else ""
        titled(f"{query_text(answer)}{_who(answer.image)}{verdict}", table)


def threshold(gallery: SavedGallery, accept: AcceptThresholds, rate: float) -> None:
    """The basis of a search's verdicts, with a warning where they are unreliable."""
    at = accept.at(rate)
    stdout.print(
        Text(
            f"Verdict: people nearer than {at.distance:.4f}; false-accept rate "
            f"{at.false_accept_rate:g}, the {MEANING[accept.kind]}, fitted on "
            f"{accept.people:,} people of {accept.source}"
        ),
        soft_wrap=True,
    )
    rate_note(accept, rate)
    if not accept.own:
        other = (
            f"the thresholds are of {accept.source}, not of your people and cameras: reid-lab "
            "gallery calibrate fits them"
        )
        stderr.print(Text(f"note: {other}"), soft_wrap=True)
    if accept.kind == "pairs":
        note = (
            f"a search compares {len(gallery):,} images, so that more strangers than that are "
            "accepted: reid-lab gallery calibrate fits the rate of searches"
        )
    elif accept.outgrown_by(len(gallery)):
        note = (
            f"it was fitted on {accept.images:,} images, the gallery has {len(gallery):,}: "
            "calibrate again, more strangers are accepted as a gallery grows"
        )
    else:
        return
    stderr.print(Text(f"note: {note}"), soft_wrap=True)


def rate_note(accept: AcceptThresholds, rate: float) -> None:
    """A note if the threshold is that of another rate than the given one."""
    if note := accept.note(rate):
        stderr.print(Text(f"note: {note}"), soft_wrap=True)


def accept_thresholds(gallery: SavedGallery, found: Sequence[AcceptThresholds]) -> None:
    """A table of thresholds by rate."""
    for one in found:
        table = head_table("False-accept rate", "Nearer than", "Known accepted")
        for at in one.thresholds:
            table.add_row(
                f"{at.false_accept_rate:g}", f"{at.distance:.4f}", percent(at.true_accept_rate)
            )
        counts = f"{one.people:,} people" + f", {one.trials:,} {one.kind}" * bool(one.trials)
        titled(f"{gallery.folder}: {MEANING[one.kind]} ({one.source}: {counts})", table)
    few = min((one.people for one in found if one.own), default=FEW)
    if few < FEW:
        stderr.print(
            f"warning: thresholds of {few} people are rough, and hold for the cameras of their "
            "images: others may be accepted much less often than the table says"
        )


def judged(answers: Sequence[SearchResult]) -> None:
    """One line with the number of queries for each verdict."""
    counts = Counter(answer.verdict.verdict for answer in answers if answer.verdict is not None)
    if counts:
        of = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
        queries = "query" if len(answers) == 1 else "queries"
        stderr.print(f"{len(answers):,} {queries}: {of}", highlight=False)


def plan(made: IndexPlan, gallery: SavedGallery) -> None:
    """Measured and extrapolated numbers, and how to read them."""
    _measured(made, gallery)
    if made.size != made.count:
        _extrapolated(made)
    for index, problem in made.problems.items():
        stdout.print(Text(f"{index}: {problem}"))
    if any(e.index == "milvus" for e in made.estimates):
        stdout.print("milvus is Milvus Lite, in this process; a server was not measured.")
    if made.whole is None or made.cut is None:
        stdout.print("No known person is seen by two cameras: only recall can be measured.")
        return
    stdout.print(
        f"Exact search: Rank-1 {percent(made.whole.rank1)}, mAP {percent(made.whole.mAP)} over the "
        f"whole list, {percent(made.cut.mAP)} with lists cut at {made.depth}. Losses in the table "
        "are relative to the cut lists."
    )


def broken(messages: Sequence[str]) -> None:
    """The images that could not be read, the first of them by name."""
    if not messages:
        return
    count = images(len(messages))
    lines = "".join(f"\n  {line}" for line in first(messages, LISTED))
    stderr.print(Text(f"{count} left out:{lines}"), soft_wrap=True)


def note(text: str) -> None:
    """What was skipped or assumed about the images."""
    if text:
        text = text.command_text if isinstance(text, Note) else text
        stderr.print(text, highlight=False, markup=False, soft_wrap=True)


def embedded(result: EmbeddedFile) -> None:
    """One line: the file, and what is in it."""
    count, lost = result.images, len(result.broken)
    pooled = f" in {result.rows:,} tracklets" if result.pooled else ""
    left_out = f", {lost:,} left out" if lost else ""
    found = f"{images(count)}{pooled}{left_out}; exits {', '.join(result.exits)}"
    stdout.print(Text(f"{result.path}: {found}"), soft_wrap=True)


def softened(result: SoftenResult) -> None:
    """One line per temperature, then the files."""
    for at in result.means:
        stdout.print(
            f"T = {at.temperature:g}: largest {at.largest:.2%}, above the others {at.gap:.2%}, "
            f"entropy {at.entropy:.1%} of the largest possible",
            highlight=False,
            soft_wrap=True,
        )
    for path in result.files:
        stdout.print(Text(f"Written: {path}"), soft_wrap=True)


def outcome(result: BuildResult) -> None:
    """One line: images in the gallery now, and the speed."""
    done, lost = result.embedded, len(result.broken)
    speed = f" ({done / result.seconds:,.0f} images/s)" if done else ""
    parts = [f"{images(done)} embedded{speed}"]
    if result.known:
        parts += [f"{result.known:,} {'was' if result.known == 1 else 'were'} there already"]
    parts += [f"{lost:,} left out"] if lost else []
    text = f"{result.gallery.folder}: {', '.join(parts)}; {images(len(result.gallery))} now"
    stdout.print(Text(text), soft_wrap=True)


def copies(gallery: GalleryRows, found: Sequence[tuple[int, int]]) -> None:
    """Note pairs of rows (new, earlier) that are copies, and warn of those of two people."""
    people = gallery.numbers["pid"]
    known = [(i, j) for i, j in found if UNKNOWN not in (people[i], people[j])]
    wrong = [(i, j) for i, j in known if people[i] != people[j]]
    for kind, pairs, what in (
        ("note", [pair for pair in found if pair not in {*wrong}], "another"),
        ("warning", wrong, "another person's"),
    ):
        if pairs:
            i, j = pairs[0]
            new, old = (escaped(gallery.path(row)) for row in (i, j))
            count = f"{len(pairs):,} image{'s are copies' if len(pairs) > 1 else ' is a copy'}"
            text = f"{kind}: {count} of {what}: {new} of {old}"
            if pairs is wrong:
                remove = ["reid-lab", "gallery", "remove", str(gallery.folder), "--file", new]
                text += f": one of the two is wrong ({shlex.join(remove)})"
            stderr.print(Text(text), soft_wrap=True)


def upgrade(result: UpgradeResult, option: str) -> None:
    """Accuracies of both models, and which embeddings the gallery has; `option` kept the old."""
    found, gallery = result.comparison, result.gallery
    if found is None:
        stdout.print("No person is known in two images: old and new cannot be compared.")
    else:
        table = head_table("Embeddings", "Rank-1", "mAP")
        for i, model in enumerate(("old", "new")):
            table.add_row(model, percent(found.rank1[i]), percent(found.mean_ap[i]))
        titled(f"{found.queries:,} images of the gallery as queries", table)
    if not result.swapped:
        why = option if option == "--dry-run" else "its mAP is lower"
        text = f"still has the old embeddings ({why}); the same command without {option} swaps them"
        stdout.print(Text(f"{gallery.folder} {text}"), soft_wrap=True)
        return
    card, thresholds = gallery.card, "thresholds are gone"
    if card.accept_thresholds:
        thresholds = f"thresholds are the checkpoint's ({card.accept_thresholds[0].source})"
    text = (
        f"{gallery.folder}: {images(result.images)} of the new model {card.fingerprint[:12]}, "
        f"exit {card.exit}; {thresholds}, calibrate again"
    )
    stdout.print(Text(text), soft_wrap=True)


def links(rows: Sequence[Mapping[str, Any]]) -> None:
    """The links; the files of `--out` have the numbers of images and the spreads, too."""
    table = head_table("A", "B", "Distance", "Next", "")
    fold(table, 0, 1)
    for row in rows:
        names = [Text(escaped(row[x]) or "nobody", "" if row[x] else "dim") for x in "ab"]
        following = "" if row["next"] is None else f"{row['next']:.4f}"
        mark = VERDICTS[row["right"] if row["linked"] else None]
        table.add_row(*names, f"{row['distance']:.4f}", following, mark)
    stdout.print(table)


def link_counts(rows: Sequence[Mapping[str, Any]], threshold: float) -> None:
    """One line with the numbers of links and of tracklets without one."""
    linked = [row for row in rows if row["linked"]]
    known = [row["right"] for row in linked if row["right"] is not None]
    alone = [sum(1 for row in rows if not row["linked"] and row[name]) for name in "ab"]
    right = f"; {sum(known)} of {len(known)} links right by their names" if known else ""
    text = (
        f"{len(linked)} links nearer than {threshold:.4f}; unmatched: {alone[0]} tracklets "
        f"in A, {alone[1]} in B{right}"
    )
    stderr.print(Text(text), soft_wrap=True)


def accuracies(gallery: Path, found: GalleryAccuracies) -> None:
    """A table with one row per exit."""
    rows, hides = found.rows, found.hidden.replace("_", " ")
    queries = rows[0]["queries"] + rows[0]["skipped"]
    text = (
        f"{gallery}: {queries:,} queries, {found.images:,} images, {found.people:,} people; "
        f"hidden from a query: {hides}"
    )
    table = head_table("Exit", *(f"Rank-{k}" for k in CMC_RANKS), "mAP", "mINP", "Queries")
    names = (*(f"rank{k}" for k in CMC_RANKS), "mAP", "mINP")
    for row in rows:
        shown = {name: percent(row[name]) for name in names}
        # those of all do not fit into 80 columns
        shown |= {name: bounded(SimpleNamespace(**row), name) for name in ("rank1", "mAP")}
        table.add_row(row["exit"], *shown.values(), f"{row['queries']:,}")
    titled(text, table)
    if "rank1_low" in rows[0]:
        text = "Below Rank-1 and mAP: the 95% confidence interval, by a bootstrap over people."
        stdout.print(text)
    if rows[0]["skipped"]:
        stdout.print(f"{rows[0]['skipped']:,} queries have no match and are left out.")


def _who(image: Labelled) -> str:
    return image.person and f" (person {name(image.person)}, camera {name(image.camera)})"


def _measured(made: IndexPlan, gallery: SavedGallery) -> None:
    recall = f"Recall@{made.recall_at}"
    heads = ("Memory", "Build", "ms alone", "ms batch", recall, "Rank-1 lost", "mAP lost")
    table = head_table("Index", *heads)
    for e in made.estimates:
        table.add_row(
            e.index + ("*" if e.index == gallery.card.index else ""),
            memory(e.bytes),
            f"{e.build_s:.1f} s",
            f"{e.ms_one:.2f}",
            f"{e.ms_batch:.2f}",
            percent(e.recall),
            _lost(e.rank1_lost),
            _lost(e.mAP_lost),
        )
    counts = f"{made.count:,} images, {made.queries:,} queries, threads={made.threads}"
    titled(f"Measured: {counts}, lists of {made.depth} (* is the gallery's own index)", table)


def _extrapolated(made: IndexPlan) -> None:
    table = head_table("Index", "Memory", "ms alone")
    for e in made.estimates:
        ms = f"{e.ms_at_size:,.0f}" if e.ms_at_size >= 100 else f"{e.ms_at_size:.2g}"
        table.add_row(e.index, memory(e.bytes_at_size), ms)
    titled(f"Extrapolated: {made.size:,} images (no accuracies: they fall as it grows)", table)


def _lost(fraction: float | None) -> str:
    """Loss in percentage points; negative if an index was lucky."""
    if fraction is None:
        return NOTHING
    return f"{round(100 * fraction, 1) + 0.0:.1f}".replace("-", "\u2212")  # no minus zero
