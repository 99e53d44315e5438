"""The parts of the report's page: what each shows, and how to read it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from reid_lab.report import style
from reid_lab.report.cameras import cameras_table
from reid_lab.report.load import Run
from reid_lab.report.pictures import WORST, by_group
from reid_lab.report.plots import METRICS
from reid_lab.report.search import search_table
from reid_lab.report.tables import (
    TextTable,
    dimensions_table,
    exits_table,
    operating_points_table,
    rates_table,
    stream_table,
)
from reid_lab.results.ranked import RankedQuery

Images = Mapping[str, bytes | None]
ONE_EXIT = "the method has one exit"


@dataclass(frozen=True)
class Plot:
    """A plot inside the page, with what it shows and how to read it."""

    src: str
    alt: str
    caption: str
    inches: float  # its width, for pictures side by side to be equally high
    photos: bool = False  # it shows photographs, whose colours stay as they are in dark mode


@dataclass(frozen=True)
class Section:
    """A part of the page; one with `missing` set is but a line that says why it is left out."""

    title: str
    lead: str = ""
    missing: str = ""
    table: TextTable | None = None
    fold: str = ""  # the summary line of the table that is folded away
    folded: TextTable | None = None
    pictures: Sequence[Plot] = ()
    groups: Mapping[str, Sequence[RankedQuery]] = field(default_factory=dict)


def exits(run: Run, images: Images) -> Section:
    title = "Accuracy by exit"
    if not run.exits:
        return Section(title, missing="results/exits.csv has no rows or is missing")
    asked = {(e.queries, e.skipped) for e in run.exits}
    lead = "Each exit is an embedding of its own; Mul-Adds count all that is computed up to it."
    if len(asked) == 1:
        queries, skipped = asked.pop()
        lead += f" {queries:,} queries were ranked, {skipped:,} skipped for want of a right answer."
    if any(math.isfinite(e.mAP_trapezoid) for e in run.exits):
        lead += (
            " mAP is plain average precision, the default here; mAP trap. is that of "
            "Market-1501's original code and of DaRe's authors, by the trapezoid rule."
        )
    if any(math.isfinite(e.rank1_low) for e in run.exits):
        lead += (
            " 95% CI: the confidence interval of the accuracy before it, in percent, by a "
            "bootstrap over identities: how far it would move with other people; the bars of the "
            "plots."
        )
    reranked = any(e.kind == "reranked" for e in run.exits)
    captions = {
        "exits_rank1.png": "How often the first gallery image is the right person: the further "
        "left an exit stands the cheaper it is, the higher the better. Hollow dots are references"
        + ("; the marks of the legend are exits after re-ranking." if reranked else "."),
        "exits_mAP.png": "The same exits by mean average precision, which also asks how early "
        "all the other images of the person come.",
    }
    table = exits_table(run.exits, intervals=True)
    return Section(title, lead, table=table, pictures=_plots(images, captions))


def anytime(run: Run, images: Images) -> Section:
    title = "Anytime"
    if _one_exit(run):
        return Section(title, missing=ONE_EXIT)
    if not run.anytime:
        return Section(title, missing="results/anytime.csv has no rows or is missing")
    captions = {
        "anytime_rank1.png": "Rank-1 if computation is cut off at a budget and the newest "
        "finished exit answers: each step is an exit being reached, each flat stretch is "
        "computation that does not pay yet.",
        "anytime_mAP.png": "The same staircase for mean average precision.",
    }
    lead = "What the network answers when it may be stopped at any moment."
    return Section(title, lead, pictures=_plots(images, captions))


def stream(run: Run, images: Images) -> Section:
    title = "Budgeted stream"
    if _one_exit(run):
        return Section(title, missing=ONE_EXIT)
    if not run.stream:
        return Section(title, missing="results/stream.csv has no rows or is missing")
    captions = {
        "stream.png": "Each coloured line is a policy that decides query by query where to stop; "
        "where it runs above the straight grey line it beats mixing two exits blindly at the "
        "same cost.",
        "budget.png": "Mean cost that came about against the cost asked for: a policy above the "
        "diagonal overspends.",
    }
    return Section(
        title,
        "Easy queries leave early, so that a stream of them keeps to a mean cost.",
        folded=stream_table(run),
        fold="Every fifth budget as a table (the last columns: percent of queries leaving at "
        "each exit)",
        pictures=_plots(images, captions),
    )


def _one_exit(run: Run) -> bool:
    return sum(e.kind == "exit" for e in run.exits) == 1


def operating_points(run: Run, images: Images) -> Section:
    title = "Operating points"
    if not run.roc and not run.operating_points:
        return Section(title, missing="results/roc.csv has no rows or is missing")
    lead = "Whether two images show one person, answered by a threshold on their distance. "
    lead += _dealt(run)
    captions = {
        "roc.png": "Every pair of a query and a gallery image that it may see: how many pairs of "
        "one person pass where so many pairs of two people do. Dashed: the false-accept rates "
        "in the table.",
    }
    pictures = _plots(images, captions)
    if not run.operating_points:
        return Section(title, lead, pictures=pictures)
    return Section(
        title,
        lead,
        table=rates_table(run),
        fold="All rates and thresholds as a table",
        folded=operating_points_table(run),
        pictures=pictures,
    )


def _dealt(run: Run) -> str:
    """How the operating points came about, and what could not be found out."""
    if not run.operating_points:
        return "There are too few people or pairs for a threshold to be chosen and tried."
    p = run.operating_points[0]
    notes = dict.fromkeys(p.note for p in run.operating_points if p.note)
    return (
        "TPR: the share of all pairs of one person that pass where no more than the wanted share "
        "(FAR) of all pairs of two people does. The other columns try a threshold on people it "
        f"was not chosen on. It is chosen on a third of them ({p.calibration_queries:,} queries), "
        f"used on another third, who are enrolled ({p.known_queries:,} queries of "
        f"{p.gallery:,} gallery images), and shown the rest, who are not ({p.unknown_queries:,} "
        "queries). DIR: an enrolled person is found first and within the threshold; Miss: nobody "
        "is; False alarm: somebody who is not enrolled is taken for one who is."
        + "".join(f" {note[0].upper()}{note[1:]}." for note in notes)
    )


def dimensions(run: Run, images: Images) -> list[Section]:
    """A section where a run was asked for it."""
    if not run.dimensions:
        return []
    captions = {
        "dimensions_rank1.png": "Rank-1 with only the first principal components of each exit's "
        "embedding kept; the last point of a line is the embedding itself. Where a line is flat, "
        "a shorter one does as well.",
        "dimensions_mAP.png": "The same for mean average precision.",
    }
    section = Section(
        "Feature dimension",
        "Shorter embeddings take less memory and less time to search.",
        folded=dimensions_table(run),
        fold="All dimensions as a table",
        pictures=_plots(images, captions),
    )
    return [section]


def attention(run: Run, images: Images) -> list[Section]:
    """A section where the method has attention."""
    if "attention" in run.left_out:
        return [Section("Attention", missing=run.left_out["attention"])]
    if run.attention is None:
        return []
    captions = {
        "attention.png": "Each row is a query. Hard: the regions that the local streams see at "
        "each level, the first red, then blue, green and violet. Soft: the mean over channels of "
        "the weights on the feature maps, red the largest of the image, blue the smallest."
    }
    return [Section("Attention", "Where the network looks.", pictures=_plots(images, captions))]


def search(run: Run, images: Images) -> list[Section]:
    """A section where hyper-parameters were searched."""
    if not run.search:
        return []
    captions = {
        "search.png": "Above, the objective of each setting tried, in the order of trying, dots "
        "explored, stars chosen and trained on; the hollow marks with bars are what the Gaussian "
        "process expected, one deviation up and down. Below, the settings themselves. A band is "
        "a round."
    }
    lead = (
        "PLA tries settings for some epochs, goes back, and trains on with one that a Gaussian "
        "process chooses. The objective is how far the loss's relative drop is from the one "
        "wanted: lower is better. Expected of an explored setting: by the round before's process."
    )
    fold = "Every trial as a table"
    pictures = _plots(images, captions)
    return [Section("Search", lead, folded=search_table(run), fold=fold, pictures=pictures)]


def errors(run: Run, images: Images) -> list[Section]:
    """A section on where the last exit fails."""
    worst = [query for query in run.queries if query.group == WORST]
    if not run.camera_pairs and not worst:
        return []
    captions = {
        f"cameras_{metric}.png": f"{name} (%) of one camera's queries among the gallery images of "
        "another alone: the stronger the colour, the weaker the pair."
        for metric, name in METRICS.items()
    }
    last = run.camera_pairs[0].exit if run.camera_pairs else next(iter(worst[0].ranked))
    lead = f"Where {last} fails, for those who must improve it."
    if worst:
        lead += (
            " Worst queries: those whose first image is wrong, by the lowest average precision, "
            "with what was found instead."
        )
    return [
        Section(
            "Errors",
            lead,
            fold="Camera pairs as a table, the weakest first",
            folded=cameras_table(run) if run.camera_pairs else None,
            pictures=_plots(images, captions),
            groups=by_group(worst),
        )
    ]


def ranked(run: Run, lost: int) -> Section:
    title = "Ranked lists"
    if not run.queries:
        missing = "results/queries.json has no queries or is missing"
        return Section(title, missing=run.left_out.get("queries", missing))
    lead = (
        "The query stands at the left; each row shows the gallery images that one exit ranks "
        "first. A green frame with ✓ is the same person, a red one with ✗ is someone else."
    )
    if lost:
        lead += f" Of the images {lost} could not be read; a question mark stands for them."
    shown = [query for query in run.queries if query.group != WORST]
    return Section(title, lead, groups=by_group(shown))


def training(run: Run, images: Images) -> Section:
    title = "Training"
    captions = {
        "loss.png": f"{_losses(run)} over the optimiser's steps, smoothed over the pale raw "
        "values: lower is better.",
        "validation.png": "Rank-1 of each exit on the validation queries as training goes on.",
    }
    pictures = _plots(images, captions)
    broken = "; ".join(run.logs.broken)
    if not pictures:
        return Section(title, missing=broken or "no losses in logs/version_*/metrics.csv")
    speed, share = run.logs.images_per_second, run.logs.peak_share
    of_peak = f", {share:.1%} of the GPU's peak" if math.isfinite(share) else ""
    lead = f"Trained at {speed:,.0f} images/s{of_peak} (median)." if math.isfinite(speed) else ""
    lead += f" Left out: {broken}." if broken else ""
    return Section(title, lead, pictures=pictures)


def _losses(run: Run) -> str:
    """What the lines of the loss are of: exits, or parts of one loss."""
    names = list(run.logs.losses)
    if not names:
        return "The loss"
    exits = {e.name for e in run.exits if e.kind == "exit"}
    return "Loss of each exit" if set(names) <= exits else "The parts of the loss"


def _plots(images: Images, captions: Mapping[str, str]) -> list[Plot]:
    return [
        Plot(
            src=f"data:image/png;base64,{base64.b64encode(content).decode()}",
            alt=f"Plot {name.removesuffix('.png').replace('_', ' ')}",
            caption=caption,
            inches=Image.open(io.BytesIO(content)).width / style.DPI,
            photos=name == "attention.png",
        )
        for name, caption in captions.items()
        if (content := images.get(name))
    ]
