"""A reader of the docs: the folder that they type in, and what happens to what they type."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from reid_lab.cli.main import RUN, main
from reid_lab.dataset.synthetic import Recipe, render
from tests.conftest import MINI, SMALL, write_jpegs
from tests.methods import SIZE, method, on_backbone, save
from tests.printed import OURS, typed, words_of
from tests.recipes import model_of

# what is not typed, and why
LEFT_OUT = {
    "make demo": "installs; the reader of gallery/first_steps.md types its other line",
    "make test": "runs this",
    "pip install": "installs",
    "weights fetch": "downloads, see tests/backbone/weights/test_wheels.py",
    "tensorflow": "needs TensorFlow",
    "hydra/launcher=": "starts processes, see tests/run/test_launchers.py",
    "reid-lab serve": "a server, see tests/serve",
    "export-people": "needs people of a server, see tests/serve/test_export_people.py",
    "--labels labelled": "needs people of a server, see tests/gallery/test_labels.py",
    "http://host": "a server of Milvus, see tests/gallery/test_vectors.py",
    "people_fiftyone/load.py": "needs FiftyOne",
    "import fiftyone": "needs FiftyOne",
    "callbacks.stream.cost=latency": "tests a whole demo, see tests/callbacks/test_budget.py",
    "--int8": "quantises and times, see tests/export",
    "frontier runs/ exported/": "draws the export before, see tests/export/test_formats.py",
    "onnx,tflite": "needs another torch, see tests/export/test_tflite.py",
    "exported/tflite": "needs another torch, see tests/export/test_tflite.py",
    "trtexec": "needs TensorRT",
    "Tensorrt": "needs TensorRT",
    "--allocator compare": "starts six processes, see tests/profiling/test_cost_cli.py",
    "experiments.frontier_synthetic": "trains for hours, see tests/frontier/test_synthetic.py",
    "track_by_appearance.py": "see tests/test_examples.py",
}
# what a reader writes in place of these words
PLACEHOLDERS = {
    "runs/A/TIME": "multirun/*/0",
    "runs/B/TIME": "multirun/*/1",
    "runs/demo/TIME": "runs/demo/*",
    "runs/before/TIME": "runs/before/*",
    "runs/finetune/TIME": "runs/finetune/*",
    "runs/osnet/TIME": "runs/osnet/*",
    "multirun/TIME": "multirun/*",
    "runs/dare_market/RUN": "runs/dare_market/*",
    "runs/bot_market/RUN": "runs/bot_market/*",
    "RUN": "runs/dare_market/*",
}

# what is typed in place of a text of the pages
INSTEAD = {
    "~/.cache/reid_lab/synthetic-b905fb3a": "data/market1501",  # see test_pages
    "height=128, width=64": f"height={SIZE[0]}, width={SIZE[1]}",
    "0.6 * ": "0.9 * ",  # budgets: 0.6 of this small network ends before its first exit
}

# measured elsewhere
SLOW = ("attention", "conditions", "dimensions", "ranked_lists", "throughput", "verification")
# appended to a command, so that it takes a second: fewer steps and passes, smaller networks
QUICK_RUN = (
    *SMALL,
    "trainer.max_steps=1",
    "trainer.log_every_n_steps=1",
    *(f"callbacks.{name}=null" for name in SLOW),
    *(f"hydra/{logs}_logging=none" for logs in ("job", "hydra")),  # they would replace pytest's
)
QUICK_BACKBONE = ("backbone=small", "backbone.width=4")
QUICK_MODEL = {
    "dare": ("model.hidden=16", "model.dim=8"),
    "bot": ("model.dim=8",),
    "han": ("model.dim=8",),
}
QUICK_SWEEP = {  # two jobs
    "+sweep=deep_supervision": ("seed=0",),
    "+sweep=han_table9": ("model.hard=true", "model.channel=true"),
}
QUICK_COST = ("--repeats=1", "--seconds=0.01", "--batch-size=1")
# 16 people to find, whose numbers reach the 30 of gallery/first_steps.md
RECIPE = {**MINI, "test_identities": 16}
MARKET = "data/Market-1501-v15.09.15"
QUICK_PEOPLE = (f"dataset.root={MARKET}", *(f"dataset.recipe.{k}={v}" for k, v in RECIPE.items()))

PEOPLE = ("Anna", "Ann Lee", "ben", "chloé", "dan", "eva", "finn", "gül")
CAMERAS = ("door", "yard")


def shortened(words: list[str]) -> list[str]:
    """The command on less data."""
    backbone = backbone_of(words)
    if words[0] == "doctor":
        return [*words, "dataset.p=auto"]
    if words[0] == "cost":
        return [*words, *QUICK_COST, *(() if "--checkpoint" in words else backbone)]
    if words[0] != RUN or {"--help", "--cfg"} & {*words}:
        return words
    tested = "task=test" in words or "+sweep=transfer" in words
    if tested and "ckpt_path=last" not in words:  # the network is the checkpoint's
        return [*words, *QUICK_RUN]
    recipes = [word.removeprefix("+experiment=") for word in words if word[:12] == "+experiment="]
    size = QUICK_MODEL.get(model_of(recipes[0]) if recipes else "dare", ())
    jobs = [more for sweep, own in QUICK_SWEEP.items() if sweep in words for more in own]
    people = (
        ()
        if any(word.startswith(("dataset=", "dataset.root=")) for word in words)
        else QUICK_PEOPLE
    )
    return [*words, *QUICK_RUN, *backbone, *size, *jobs, *people]


def backbone_of(words: list[str]) -> tuple[str, ...]:
    """Overrides for a small network, or of the one that is named without its weights."""
    named = [word for word in words if word.startswith("backbone=")]
    given = [word for word in words if word.lstrip("~+").startswith("backbone")]
    if "+experiment=bot_market" in words:  # its network has a last stride
        named = named or ["backbone=resnet50"]
    if named and not any(word.startswith("backbone.weights=") for word in given):
        return ("backbone.weights=null",)
    return () if given else QUICK_BACKBONE


class Reader:
    """Types scripts in the current folder, and stops where one fails."""

    def __init__(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)
        # what Python on the pages takes to be there
        self.names: dict[str, Any] = {
            "frame": noise[0],
            "boxes": [[0, 0, 20, 40], [10, 10, 30, 60]],
            "pixels": noise,
            "batches": [noise, noise],
            "confident": lambda exit, rows: np.arange(len(rows)) % 2 == 0,
        }

    def type(self, script: str) -> None:
        """Our commands in this process, what stands between them in bash."""
        between: list[str] = []
        for line in typed(script):
            if any(part in line for part in LEFT_OUT):
                continue
            if not OURS.match(line):
                between.append(here(line))
                continue
            bash(between)
            between.clear()
            self.command(line)
        bash(between)

    def command(self, line: str) -> None:
        # a best checkpoint needs held-out people, of whom there are too few
        line = line.replace("=/data/", "=data/").replace("/best.ckpt", "/last.ckpt")
        words = words_of(line)
        words = [path for word in words for path in paths(word)]
        assert main(shortened(words)) == 0, line
        if words[0] == RUN and (made := [*Path().glob("runs/*/*/checkpoints/last.ckpt")]):
            shutil.copy(max(made, key=lambda path: path.stat().st_mtime), "last.ckpt")

    def python(self, code: str) -> None:
        if not any(part in code for part in LEFT_OUT):
            exec(here(code), self.names)


def here(text: str) -> str:
    """`text` with the reader's folders and budgets in place of those on the page."""
    for printed, ours in INSTEAD.items():
        text = text.replace(printed, ours)
    return text


def bash(lines: list[str]) -> None:
    subprocess.run(["bash", "-euc", "\n".join(lines)], check=True)


def paths(word: str) -> list[str]:
    """What a shell makes of `*`, and a reader of a placeholder."""
    for placeholder, pattern in PLACEHOLDERS.items():
        key, equals, value = word.rpartition("=")
        if value.startswith(placeholder) and (not equals or "/" in placeholder):
            return [key + equals + found(pattern)[0] + value.removeprefix(placeholder)]
    return found(word) if "*" in word else [word]


def found(pattern: str) -> list[str]:
    return sorted(path.as_posix() for path in Path().glob(pattern))


def prepare(root: Path) -> Path:
    """What the pages take to be there: data sets, folders of images, files and checkpoints."""
    render(root / "data/market1501", Recipe(**RECIPE), progress=False)
    (root / MARKET).symlink_to("market1501")
    write_people(root / "data/mine", root / "data/mine/images.csv")
    write_people(root / "people", root / "list.csv")
    for person in PEOPLE:  # every network finds them, so that new ones are not worse
        first, *others = sorted((root / "people" / person).iterdir())
        for path in others:
            shutil.copy(first, path)
    for folder in ("more", "new", "queries", "images"):
        shutil.copytree(root / "people/ben", root / folder)
    for folder, camera in (("door", 1), ("yard", 2), ("camera1", 1), ("camera2", 2)):
        for person in PEOPLE:  # a folder for each tracklet
            (root / folder / person).mkdir(parents=True)
            for path in (root / "people" / person).glob(f"*_c{camera}_*"):
                shutil.copy(path, root / folder / person)
    write_jpegs(root, ["someone.jpg", "frame.jpg", "staff/1.jpg", "staff/2.jpg"])
    (root / "boxes.csv").write_text("left,top,right,bottom\n0,0,6,12\n2,1,8,16\n")
    save(method("dare"), root / "last.ckpt")
    new = method("dare")
    with torch.no_grad():
        next(new.parameters()).mul_(2)
    save(new, root / "new.ckpt")
    ours = torch.load(save(on_backbone("osnet_x0_25", "bot"), root / "ours.ckpt"))
    of_run = {"pytorch-lightning_version": pl.__version__, "epoch": 0, "global_step": 0}
    torch.save(ours | of_run, root / "ours.ckpt")
    return root


def write_people(root: Path, table: Path) -> None:
    """A folder for each person, two images in each of two cameras, and the table of them."""
    rows = [
        (root / person / f"{camera}_c{number}_00{image}.jpg", person, camera)
        for person in PEOPLE
        for number, camera in enumerate(CAMERAS, 1)
        for image in (1, 2)
    ]
    write_jpegs(root, [path.relative_to(root).as_posix() for path, *_ in rows])
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "pid", "camid", "tracklet"))
        for path, person, camera in rows:
            writer.writerow((path.relative_to(table.parent), person, camera, f"{person} {camera}"))
