"""`reid-lab gallery`: embed a folder of images, find people in it."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import (
    Command,
    Subparsers,
    accept_rate,
    add_renamed,
    batch_size,
    count,
    distance,
)
from reid_lab.openset.rates import MOST_QUERIES

STORED = ("people", "info", "remove")  # actions that need no torch
INDEXES = ("flat", "ivf", "hnsw", "ivf_pq", "sq8")


EXAMPLES = """\
examples:
  reid-lab gallery build --checkpoint last.ckpt --images people/ --out gallery/
  reid-lab gallery add gallery/ --checkpoint last.ckpt --images more/
  reid-lab gallery search gallery/ --checkpoint last.ckpt --image someone.jpg --out page.html
  reid-lab gallery search gallery/ --checkpoint last.ckpt --image x.jpg --where "site=north"
  reid-lab gallery calibrate gallery/
  reid-lab gallery evaluate gallery/
  reid-lab gallery search gallery/ --checkpoint last.ckpt --image x.jpg --false-accept-rate 0.05
  reid-lab gallery link camera1/ camera2/ --checkpoint last.ckpt --gallery gallery/ \\
    --false-accept-rate 0.01
  reid-lab gallery upgrade gallery/ --checkpoint new.ckpt --only-if-better
  reid-lab gallery people gallery/ --where "site=north"
  reid-lab gallery info gallery/
  reid-lab gallery remove gallery/ --pid "Ann Lee" --dry-run
  reid-lab gallery plan gallery/ --size 1000000
  reid-lab gallery load gallery/ --uri people.db
  reid-lab gallery search gallery/ --image queries.npz --store milvus --uri people.db
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "gallery",
        help="embed a folder of images, find people in it",
        description="Keep the embeddings of a folder of images, and find people in them.",
        epilog=EXAMPLES,
    )
    for name, (arguments, does) in ACTIONS.items():
        action = parser.add_action(name, does, f"{does[0].upper()}{does[1:]}.")
        arguments(action)
        stays = ": what was embedded stays, the same command resumes" * (name in ("add", "upgrade"))
        action.set_defaults(command=Command(work, interrupted=f"interrupted{stays}"))


def work(args: argparse.Namespace) -> int:
    if args.action in STORED:
        from reid_lab.cli import gallery_content

        return gallery_content.ACTIONS[args.action](args)
    from reid_lab.cli import gallery_actions

    return gallery_actions.ACTIONS[args.action](args)


def _build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="the gallery's folder")
    _embedding(parser)
    parser.add_argument("--exit", help="exit to embed at; default: the last one")
    parser.add_argument(
        "--index",
        choices=INDEXES,
        default="flat",
        help="index of the search, see plan; default: %(default)s (exact)",
    )
    parser.add_argument(
        "--metric",
        choices=("euclidean", "cosine"),
        default="euclidean",
        help="distance; default: %(default)s",
    )
    parser.add_argument("--half", action="store_true", help="store float16, half the bytes")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing gallery")
    add_pattern(parser)


def _add(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    _embedding(parser)


def _search(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    add_network(parser, required=False)
    parser.add_argument(
        "--image",
        type=Path,
        nargs="+",
        required=True,
        help="queries: images, folders with subfolders, CSV files with a column path (and box), or "
        ".npz and .parquet files of `reid-lab embed`, which need no --checkpoint",
    )
    parser.add_argument(
        "--boxes", type=Path, help="if --image is one image: a CSV file of the boxes in it"
    )
    parser.add_argument(
        "--exit",
        help="exit of the queries; another one than the gallery's needs a network trained with "
        "model.shared_space=true; default: the gallery's",
    )
    _pool(parser)
    parser.add_argument(
        "--top", type=count, default=10, help="matches for each query; default: %(default)s"
    )
    parser.add_argument(
        "--false-accept-rate",
        type=accept_rate,
        metavar="RATE",
        help="also print whether each query is known, unknown or ambiguous at this rate, as 0.01; "
        "see calibrate",
    )
    _where(parser, "search only images that match a filter")
    _store(parser, ("folder", "milvus"), "folder")
    parser.add_argument(
        "--out", type=Path, help="write a file instead of a table: .jsonl, .csv, .parquet or .html"
    )


def _load(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    _store(parser, ("milvus",), "milvus")
    parser.add_argument(
        "--batch-size",
        type=batch_size,
        default=1000,
        help="images sent at a time; default: %(default)s",
    )
    removed = parser.add_mutually_exclusive_group()
    removed.add_argument(
        "--prune",
        action="store_true",
        help="also remove images that the gallery does not have, such as those of `gallery remove`",
    )
    removed.add_argument(
        "--replace",
        action="store_true",
        help="drop the collection and load all images again: Milvus keeps pruned ones in its files",
    )


def _store(parser: argparse.ArgumentParser, choices: tuple[str, ...], default: str) -> None:
    parser.add_argument(
        "--store", choices=choices, default=default, help="vector store; default: %(default)s"
    )
    parser.add_argument(
        "--uri",
        default="people.db",
        help="Milvus: a file, or a server such as http://host:19530; default: %(default)s",
    )
    parser.add_argument(
        "--collection", default="people", help="Milvus collection; default: %(default)s"
    )
    parser.add_argument(
        "--token",
        type=str,  # an empty one is no token
        default="",
        help="token of a Milvus server, user:password",
    )


def _remove(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    parser.add_argument("--pid", nargs="+", default=[], metavar="NAME", help="people to remove")
    parser.add_argument("--file", nargs="+", type=Path, default=[], help="image files to remove")
    _where(parser, "only images that match a filter")
    parser.add_argument("--dry-run", action="store_true", help="list the images, remove nothing")


def _calibrate(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    parser.add_argument(
        "--rates",
        type=accept_rate,
        nargs="+",
        help="false-accept rates; default: from 0.5 down to the lowest that the images can show",
    )
    _max_queries(parser, "most queries", MOST_QUERIES)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="use the thresholds of this checkpoint, or of its run's test, instead of fitting "
        "them; with --labels: the gallery's network",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="labels.csv of `reid-lab export-people`: fit the thresholds of pairs on the matches "
        "that users confirmed and rejected; needs --checkpoint",
    )
    _computing(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "gallery", type=Path, help="gallery folder, or a file of reid-lab embed (.npz, .parquet)"
    )
    parser.add_argument(
        "--hidden",
        choices=("itself", "same_person_and_camera", "same_camera"),
        default="itself",
        help="images that are hidden from a query: itself is all against all, "
        "same_person_and_camera is Market-1501's protocol; default: %(default)s",
    )
    _max_queries(parser, "most queries", None)
    parser.add_argument(
        "--metric",
        choices=("euclidean", "cosine"),
        help="distance for a file; default: that of its pooled tracklets, else euclidean",
    )
    parser.add_argument("--out", type=Path, help="also write a file: .jsonl, .csv or .parquet")


def _people(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    _where(parser, "list only people with images that match a filter")


def _where(parser: argparse.ArgumentParser, does: str) -> None:
    parser.add_argument(
        "--where",
        default="",
        metavar="FILTER",
        help=f"{does}: name operator value (= != < <= > >=), joined by and, as in "
        '"site=north and time>=2026-01-01"; names: pid, camid, path and the metadata',
    )


def _info(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)


def _link(parser: argparse.ArgumentParser) -> None:
    for name in "ab":
        parser.add_argument(
            name,
            type=Path,
            metavar=name.upper(),
            help="tracklets of one camera: a folder with a folder of images for each, a CSV file "
            "with a column tracklet, or a file of reid-lab embed",
        )
    add_network(parser, required=False)
    parser.add_argument(
        "--exit", help="exit to embed at; default: the --gallery's, else the last one"
    )
    parser.add_argument(
        "--threshold", type=distance, help="largest distance of two tracklets of one person"
    )
    parser.add_argument(
        "--gallery", type=Path, help="gallery to take the exit, metric and threshold from"
    )
    parser.add_argument(
        "--false-accept-rate",
        type=accept_rate,
        metavar="RATE",
        help="false-accept rate of the gallery's threshold for pairs, such as 0.01",
    )
    parser.add_argument(
        "--metric",
        choices=("euclidean", "cosine"),
        default="euclidean",
        help="distance, if there is no --gallery; default: %(default)s",
    )
    parser.add_argument("--out", type=Path, help="write a file: .jsonl, .csv or .parquet")


def _upgrade(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    add_network(parser)
    parser.add_argument("--exit", help="exit to embed at; default: the last one")
    parser.add_argument("--images", type=Path, help="folder of the images, if they were moved")
    _max_queries(parser, "most queries of the comparison", 1000)
    parser.add_argument("--dry-run", action="store_true", help="embed and compare, do not swap")
    parser.add_argument(
        "--only-if-better", action="store_true", help="do not swap if the new mAP is lower"
    )


def _plan(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    parser.add_argument(
        "--size", type=count, help="size of the gallery to plan for; default: its present size"
    )
    parser.add_argument(
        "--queries", type=Path, help="a gallery of queries; default: images of GALLERY itself"
    )
    _max_queries(parser, "most queries", 200)
    parser.add_argument(
        "--depth", type=count, default=100, help="length of a ranked list; default: %(default)s"
    )
    parser.add_argument(
        "--store",
        choices=("folder", "milvus"),
        default="folder",
        help="milvus also measures Milvus Lite; default: %(default)s",
    )


def _max_queries(parser: argparse.ArgumentParser, words: str, most: int | None) -> None:
    shown = "all images" if most is None else "%(default)s"
    add_renamed(
        parser,
        "--max-queries",
        "--most",
        dest="most",
        type=count,
        default=most,
        help=f"{words}; default: {shown}",
    )


def _gallery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gallery", type=Path, help="gallery folder")


def _pool(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pool",
        choices=("tracklet",),
        help="make each tracklet one query, the mean of its images; a tracklet is a folder, or a "
        "name in a file's column tracklet",
    )


def add_network(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=required,
        help="checkpoint of a run, such as .../last.ckpt",
    )
    _computing(parser)


def _computing(parser: argparse.ArgumentParser) -> None:
    """Where images are embedded, and how many at a time."""
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1; default: auto, a GPU if there is one"
    )
    parser.add_argument(
        "--batch-size", type=batch_size, default=64, help="images at a time; default: %(default)s"
    )


def add_pattern(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pattern",
        type=str,  # an empty one leaves people unknown
        help="regular expression with groups pid and camid (any text), searched in an image's "
        "path; default: Market-1501's PPPP_cC in the file's name, else a folder for each person",
    )


def _embedding(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="a folder with its subfolders, or a CSV file with a column path",
    )
    parser.add_argument(
        "--metadata",
        type=Path,
        metavar="CSV",
        help="for a folder: a CSV file with a column path, relative to it; pid and camid name "
        "people and cameras, any other column is kept (time, site, ...)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with status 1 if an image cannot be read"
    )


ACTIONS = {
    "build": (_build, "embed a folder of images"),
    "add": (_add, "embed the new images of a folder"),
    "search": (_search, "find the people of query images"),
    "load": (_load, "load a gallery into Milvus"),
    "link": (_link, "match the tracklets of two cameras one to one"),
    "upgrade": (_upgrade, "embed all images with a new model, compare, and swap"),
    "remove": (_remove, "delete people or images"),
    "calibrate": (_calibrate, "fit thresholds that tell known from unknown people"),
    "evaluate": (
        _evaluate,
        "measure Rank-1 and mAP: each image is a query, all others its gallery",
    ),
    "people": (_people, "list the people of a gallery"),
    "info": (_info, "show what a gallery holds"),
    "plan": (_plan, "measure time, memory and recall of each index"),
}
