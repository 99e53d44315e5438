"""The sections of the report's page: tables, plots, captions."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from reid_lab.report import style
from reid_lab.report.conditions import LABELS, cameras_table, conditions_table
from reid_lab.report.load import Run
from reid_lab.report.pictures import WORST, by_group
from reid_lab.report.plots import METRICS
from reid_lab.report.search import search_table
from reid_lab.report.tables import (
    TextTable,
    dimensions_table,
    exits_table,
    operating_points_table,
    policies_table,
    rates_table,
    stream_table,
    weights_table,
)
from reid_lab.results.queries import RankedQuery

Images = Mapping[str, bytes | None]
WEIGHTS_FOLD = "Learned weights of the exits in the fusion (only their ratios count)"
ONE_EXIT = "the method has one exit"
STREAM_FOLD = (
    "Every fifth budget as a table (the last columns: percent of queries that exit at each exit)"
)


@dataclass(frozen=True)
class Plot:
    """A plot in the page, with its caption."""

    src: str
    alt: str
    caption: str
    inches: float  # its width: plots side by side get the same height
    photos: bool  # it shows photographs, whose colours are kept in dark mode


@dataclass(frozen=True)
class Section:
    """A section of the page; with `missing`, only a line with the reason."""

    title: str
    lead: str = ""
    missing: str = ""
    table: TextTable | None = None
    folds: Mapping[str, TextTable] = field(default_factory=dict)  # folded, by summary line
    plots: Sequence[Plot] = ()
    more_plots: Sequence[Plot] = ()  # each in a separate row
    groups: Mapping[str, Sequence[RankedQuery]] = field(default_factory=dict)


def exits(run: Run, images: Images) -> Section:
    title = "Accuracy by exit"
    if not run.exits:
        return Section(title, missing="results/exits.csv has no rows or is missing")
    counts = {(e.queries, e.skipped) for e in run.exits}
    of = "image" if run.views == 1 else f"of the {run.views} views of an image"
    lead = f"Each exit has its own embedding; its Mul-Adds are cumulative, of one {of}."
    if len(counts) == 1:
        queries, skipped = counts.pop()
        lead += f" {queries:,} queries were ranked, {skipped:,} without a match were skipped."
    if any(math.isfinite(e.mAP_trapezoid) for e in run.exits):
        lead += (
            " mAP is plain average precision, the default here; mAP trap. is that of "
            "Market-1501's original code and of DaRe's authors, by the trapezoid rule."
        )
    if any(math.isfinite(e.rank1_low) for e in run.exits):
        lead += (
            " Below an accuracy: its 95% confidence interval in percent, by a bootstrap over "
            "identities; also the bars in the plots. It is of this network: what another seed of "
            "the training changes is not in it."
        )
    reranked = any(e.kind == "reranked" for e in run.exits)
    captions = {
        "exits_rank1.png": "Rank-1: the share of queries whose first gallery image is the right "
        "person. Exits further left are cheaper, higher ones better. Hollow dots are references"
        + ("; the marks in the legend are exits after re-ranking." if reranked else "."),
        "exits_mAP.png": "The same exits by mean average precision, which counts the ranks of all "
        "images of the person.",
    }
    table = exits_table(run.exits, intervals=True)
    folds = {WEIGHTS_FOLD: weights_table(run)} if run.weights else {}
    return Section(title, lead, table=table, folds=folds, plots=_plots(images, captions))


def anytime(run: Run, images: Images) -> Section:
    title = "Anytime"
    if missing := _missing(run, run.anytime, "anytime.csv"):
        return Section(title, missing=missing)
    captions = {
        "anytime_rank1.png": "Rank-1 if computation is cut off at a budget and the most recent "
        "exit is used: each step is an exit.",
        "anytime_mAP.png": "The same staircase for mean average precision.",
    }
    lead = "Accuracy if the network is stopped at any moment."
    if any(math.isfinite(b.rank1_low) for b in run.anytime):
        lead += " Shaded: the 95% confidence interval of the exit."
    return Section(title, lead, plots=_plots(images, captions))


def stream(run: Run, images: Images) -> Section:
    title = "Budgeted stream"
    if missing := _missing(run, run.stream, "stream.csv"):
        return Section(title, missing=missing)
    compared = any(math.isfinite(p.rank1_gain_low) for p in run.stream)
    captions = {
        "stream.png": "Each coloured line is a policy that decides for each query at which exit "
        "to stop; where it is above the straight grey line it is better than random, which mixes "
        "the two exits around the budget."
        + " Shaded: the 95% interval of its difference to random."
        * compared,
        "budget.png": "Realised against planned mean cost: a policy above the diagonal exceeds "
        "its budget.",
    }
    lead = "Easy queries exit early, so that a stream of queries meets a mean cost."
    if run.policy_gains:
        lead += (
            " The table compares policies at equal mean cost: each is taken relative to random, "
            "the mix of the two exits around a budget (the straight lines of the plot), at its own "
            "realised cost; means over the budgets in points, below them the 95% interval by a "
            "paired bootstrap. Least: the smallest gain in Rank-1 at one budget."
        )
    return Section(
        title,
        lead,
        table=policies_table(run) if run.policy_gains else None,
        folds={STREAM_FOLD: stream_table(run)},
        plots=_plots(images, captions),
    )


def _missing(run: Run, rows: Sequence[object], file: str) -> str:
    """The reason why there are no budgets to show; empty if there are."""
    if _one_exit(run):
        return ONE_EXIT
    return "" if rows else f"results/{file} has no rows or is missing"


def _one_exit(run: Run) -> bool:
    return sum(e.kind == "exit" for e in run.exits) == 1


def operating_points(run: Run, images: Images) -> Section:
    title = "Operating points"
    if not run.roc and not run.operating_points:
        return Section(title, missing="results/roc.csv has no rows or is missing")
    lead = "Two images are taken for one person if their distance is below a threshold. "
    lead += _dealt(run)
    captions = {
        "roc.png": "Over all pairs of a query and a gallery image: the share of genuine pairs "
        "(one person) that pass against the share of impostor pairs (two people) that pass. "
        "Dashed: the false-accept rates in the table.",
    }
    plots = _plots(images, captions)
    if not run.operating_points:
        return Section(title, lead, plots=plots)
    return Section(
        title,
        lead,
        table=rates_table(run),
        folds={"All rates and thresholds as a table": operating_points_table(run)},
        plots=plots,
    )


def _dealt(run: Run) -> str:
    """How the operating points were chosen, and notes on missing ones."""
    if not run.operating_points:
        return "There are too few people or pairs to choose and try a threshold."
    p = run.operating_points[0]
    notes = dict.fromkeys(p.note for p in run.operating_points if p.note)
    bounds = (
        " Below a rate: its 95% confidence interval in percent, by a bootstrap over identities at "
        "this threshold; TMR has none, as its threshold was chosen on the same pairs."
    )
    return (
        "TMR: the share of genuine pairs (one person) that pass if at most the wanted share (FMR) "
        "of impostor pairs (two people) does, over all pairs. The other columns are for an open "
        "set, with a threshold chosen on other people: it is chosen on a third of the people "
        f"({p.calibration_queries:,} queries), and tried on a third who are in the gallery "
        f"({p.known_queries:,} queries, {p.gallery:,} gallery images) and on a third who are not "
        f"({p.unknown_queries:,} queries). TPIR: the nearest gallery image is the right person and "
        "within the threshold; Miss: no gallery image is within it; FPIR: a person who is "
        "not in the gallery is within the threshold of someone, a false alarm."
        + bounds * any(math.isfinite(p.tpir_low) for p in run.operating_points)
        + "".join(f" {note[0].upper()}{note[1:]}." for note in notes)
    )


def dimensions(run: Run, images: Images) -> list[Section]:
    """A section if the run has callbacks.dimensions.dims."""
    if not run.dimensions:
        return []
    captions = {
        "dimensions_rank1.png": "Rank-1 with only the first principal components of each exit's "
        "embedding kept; the last point of a line is the whole embedding. Where a line is flat, a "
        "shorter embedding is as accurate.",
        "dimensions_mAP.png": "The same for mean average precision.",
    }
    section = Section(
        "Feature dimension",
        "Shorter embeddings take less memory and less time to search.",
        folds={"All dimensions as a table": dimensions_table(run)},
        plots=_plots(images, captions),
    )
    return [section]


def attention(run: Run, images: Images) -> list[Section]:
    """A section if the method has attention."""
    if "attention" in run.left_out:
        return [Section("Attention", missing=run.left_out["attention"])]
    if run.attention is None:
        return []
    captions = {
        "attention.png": "Each row is a query. Hard: the input regions of the local streams at "
        "each level, the first red, then blue, green and violet. Soft: the mean over channels of "
        "the weights on the feature maps, red the largest of the image, blue the smallest."
    }
    return [
        Section(
            "Attention", "Attention of the network on some queries.", plots=_plots(images, captions)
        )
    ]


def search(run: Run, images: Images) -> list[Section]:
    """A section if hyper-parameters were searched."""
    if not run.search:
        return []
    captions = {
        "search.png": "Top: the objective of each trial in order; dots are explorations, stars "
        "exploitations; hollow marks with bars are predictions of the Gaussian process, plus and "
        "minus one deviation. Below: the settings. A band is a round."
    }
    lead = (
        "PLA tries settings for some epochs, goes back, and continues with one that a Gaussian "
        "process selects. The objective is the difference between the relative drop of the loss "
        "and the wanted one: lower is better. The prediction for an explored setting is by the "
        "process of the round before."
    )
    folds = {"Every trial as a table": search_table(run)}
    plots = _plots(images, captions)
    return [Section("Search", lead, folds=folds, plots=plots)]


def errors(run: Run, images: Images) -> list[Section]:
    """A section on the errors of the last exit."""
    worst = [query for query in run.queries if query.group == WORST]
    if not run.camera_pairs and not run.conditions and not worst:
        return []
    captions = {
        f"cameras_{metric}.png": f"{name} (%) of one camera's queries among the gallery images of "
        "another only: the stronger the colour, the lower the accuracy."
        for metric, name in METRICS.items()
    }
    conditions = {
        f"conditions_{name}.png": f"Accuracy by quartile of {title}, with 95% confidence intervals."
        for name, (title, _) in LABELS.items()
    }
    named = [row.exit for row in run.camera_pairs] + [row.exit for row in run.conditions]
    last = named[0] if named else next(iter(worst[0].ranked))
    lead = f"Errors of {last} by condition, and its worst queries."
    if any(row.condition == "occlusion" for row in run.conditions):
        lead += (
            " Occlusion is an estimate: how much the horizontal stripe of the query whose colours "
            "match the person's gallery images worst falls behind the median stripe."
        )
    if worst:
        lead += (
            " Worst queries: the first gallery image is wrong, and the average precision is the "
            "lowest; with the images that were ranked first instead."
        )
    folds = {}
    if run.camera_pairs:
        folds["Camera pairs as a table, the lowest mAP first"] = cameras_table(run)
    if run.conditions:
        folds["Image size, sharpness and occlusion as a table"] = conditions_table(run)
    return [
        Section(
            "Errors",
            lead,
            folds=folds,
            plots=_plots(images, captions),
            more_plots=_plots(images, conditions),
            groups=by_group(worst),
        )
    ]


def ranked(run: Run, lost: int) -> Section:
    title = "Ranked lists"
    if not run.queries:
        missing = "results/queries.json has no queries or is missing"
        return Section(title, missing=run.left_out.get("queries", missing))
    lead = (
        "The query is at the left; each row shows the gallery images that one exit ranks first. "
        "Green frame with ✓: the same person; red frame with ✗: another person."
    )
    if lost:
        lead += f" {lost} images could not be read and are shown as a question mark."
    shown = [query for query in run.queries if query.group != WORST]
    return Section(title, lead, groups=by_group(shown))


def training(run: Run, images: Images) -> Section:
    title = "Training"
    captions = {
        "loss.png": f"{_losses(run)} by optimiser step, smoothed; the raw values are the "
        "lighter line. Lower is better.",
        "validation.png": "Rank-1 of each exit on the validation queries by optimiser step.",
    }
    plots = _plots(images, captions)
    broken = "; ".join(run.logs.broken)
    if not plots:
        return Section(title, missing=broken or "no losses in logs/version_*/metrics.csv")
    speed, share = run.logs.images_per_second, run.logs.peak_share
    of_peak = f", {share:.1%} of the GPU's peak" if math.isfinite(share) else ""
    lead = f"Trained at {speed:,.0f} images/s{of_peak} (median)." if math.isfinite(speed) else ""
    lead += f" Left out: {broken}." if broken else ""
    return Section(title, lead, plots=plots)


def _losses(run: Run) -> str:
    """Caption of the loss plot: lines of exits, or of the parts of one loss."""
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
