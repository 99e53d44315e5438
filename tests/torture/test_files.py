"""Files that are broken, of something else, or edited by hand: refused in one message."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.torture.bench import Bench, Case, Stage, sane_run, training

pytestmark = pytest.mark.system

Edit = Callable[[dict[str, Any]], Any]


def put(key: str, value: Any) -> Edit:
    """Set a value by its dotted key; numbers are places in a list."""

    def edit(content: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        node: Any = content
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        node[int(last) if isinstance(node, list) else last] = value

    return edit


def drop(key: str) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        del content[key]

    return edit


def replaced(value: Any) -> Edit:
    """Something else in place of the whole."""
    return lambda _: value


def noise(count: int = 4096) -> bytes:
    return np.random.default_rng(0).bytes(count)


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


def weights(change: Callable[[torch.Tensor], Any]) -> Edit:
    """Change the first matrix of the weights."""

    def edit(state: dict[str, Any]) -> None:
        name = next(name for name, w in state["state_dict"].items() if w.ndim > 1)
        state["state_dict"][name] = change(state["state_dict"][name])

    return edit


# --- checkpoints ------------------------------------------------------------------------------

MODEL, IMAGE = "hyper_parameters.model", "hyper_parameters.image"
EDITED: dict[str, Edit] = {
    "a list": replaced([1, 2]),
    "a tensor": replaced(torch.zeros(3)),
    "nothing": replaced({}),
    "a number": replaced(7),
    "no hyper_parameters": drop("hyper_parameters"),
    "no state_dict": drop("state_dict"),
    "hyper_parameters=None": put("hyper_parameters", None),
    "model=None": put(MODEL, None),
    "model={}": put(MODEL, {}),
    "model=[]": put(MODEL, []),
    "model=text": put(MODEL, "reid_lab.model.DaRe"),
    "no such class": put(f"{MODEL}._target_", "reid_lab.model.Nothing"),
    "another class": put(f"{MODEL}._target_", "torch.nn.Linear"),
    "a data set's class": put(f"{MODEL}._target_", "reid_lab.dataset.ReidDataModule"),
    "a loss as model": put(f"{MODEL}._target_", "reid_lab.loss.TripletLoss"),
    "another method": put(f"{MODEL}._target_", "reid_lab.model.Classifier"),
    "target=1": put(f"{MODEL}._target_", 1),
    "target=None": put(f"{MODEL}._target_", None),
    "lr=text": put(f"{MODEL}.lr", "fast"),
    "lr=nan": put(f"{MODEL}.lr", float("nan")),
    "dim=-1": put(f"{MODEL}.dim", -1),
    "dim=10**12": put(f"{MODEL}.dim", 10**12),
    "width=10**9": put(f"{MODEL}.backbone.width", 10**9),
    "width=text": put(f"{MODEL}.backbone.width", "wide"),
    "backbone=None": put(f"{MODEL}.backbone", None),
    "loss=None": put(f"{MODEL}.loss", None),
    "an unknown key": put(f"{MODEL}.heads", 3),
    "a deep config": put(f"{MODEL}.lr", deep(200)),
    "a long config": put(f"{MODEL}.lr", list(range(100_000))),
    "image=[0,0]": put(IMAGE, [0, 0]),
    "image=None": put(IMAGE, None),
    "image=[64]": put(IMAGE, [64]),
    "image=text": put(IMAGE, ["a", "b"]),
    "image=[-64,32]": put(IMAGE, [-64, 32]),
    "image=[10**6,10**6]": put(IMAGE, [10**6, 10**6]),
    "image=[nan,32]": put(IMAGE, [float("nan"), 32]),
    "image=[1,1]": put(IMAGE, [1, 1]),
    "normalise=text": put("hyper_parameters.normalise", "x"),
    "normalise std 0": put("hyper_parameters.normalise", {"mean": [0.5] * 3, "std": [0.0] * 3}),
    "weights a list": put("state_dict", [1, 2]),
    "weights None": put("state_dict", None),
    "no weights": put("state_dict", {}),
    "a weight too many": put("state_dict.more", torch.zeros(2)),
    "a weight is text": weights(lambda _: "x"),
    "a weight is None": weights(lambda _: None),
    "weights of another shape": weights(lambda w: w[..., :1]),
    "weights of integers": weights(lambda w: w.int()),
    "complex weights": weights(lambda w: w.to(torch.complex64)),
    "sparse weights": weights(lambda w: w.to_sparse()),
    "meta weights": weights(lambda w: w.to("meta")),
    "weights nan": weights(lambda w: w * float("nan")),
    "weights inf": weights(lambda w: w + float("inf")),
}
# what only a resumed training reads
STATES: dict[str, Edit] = {
    "global_step=text": put("global_step", "x"),
    "global_step=-1": put("global_step", -1),
    "epoch=None": put("epoch", None),
    "no global_step": drop("global_step"),
    "no optimizer": drop("optimizer_states"),
    "optimizer=text": put("optimizer_states", "x"),
    "optimizer=[]": put("optimizer_states", []),
    "optimizer of another": put("optimizer_states.0.state", {0: {"step": 1}}),
    "loops=None": put("loops", None),
    "loops={}": put("loops", {}),
    "no loops": drop("loops"),
    "callbacks=text": put("callbacks", "x"),
    "lr_schedulers=text": put("lr_schedulers", "x"),
    "version=0.0.1": put("pytorch-lightning_version", "0.0.1"),
    "version=text": put("pytorch-lightning_version", "x"),
}


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda whole: whole[: int(len(whole) * share)]


def with_noise_inside(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + noise(2000) + whole[middle + 2000 :]


def zip_of_text(_: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    return file.getvalue()


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "noise": lambda _: noise(),
    "text": lambda _: b"hello\n",
    "html": lambda _: b"<!DOCTYPE html><html>404</html>",
    "a git lfs pointer": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "half of it": cut(0.5),
    "all but its end": cut(0.999),
    "noise inside": with_noise_inside,
    "zeros": lambda whole: bytes(len(whole)),
    "another zip": zip_of_text,
    "a pickle": lambda _: pickle.dumps({"state_dict": {}, "hyper_parameters": {"model": {}}}),
}


def edited(edit: Edit) -> Callable[[Stage, Path], None]:
    def prepare(stage: Stage, work: Path) -> None:
        state = torch.load(stage.checkpoint, weights_only=True)
        other = edit(state)
        torch.save(state if other is None else other, work / "bad.ckpt")

    return prepare


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Stage, Path], None]:
    return lambda stage, work: (
        (work / "bad.ckpt").write_bytes(change(stage.checkpoint.read_bytes())) and None
    )


USES: dict[str, tuple[str, tuple[str, ...]]] = {
    "load_model": ("tests.torture.load_model", ("bad.ckpt",)),
    "gallery": (
        "reid_lab.gallery",
        ("build", "--checkpoint", "bad.ckpt", "--images", "@images", "--out", "g"),
    ),
    "export": ("reid_lab.export", ("--checkpoint", "bad.ckpt", "--out", "x")),
    "test": ("reid_lab", training("task=test ckpt_path=bad.ckpt")),
    "resume": ("reid_lab", training("ckpt_path=bad.ckpt model.iterations=3")),
    "teacher": ("reid_lab", training("model=distilled model.teacher=bad.ckpt")),
}
HARMLESS = {"image=[1,1]", "lr=nan", "lr=text", "version=0.0.1", "normalise std 0", "loss=None"}
MADE = {
    **{name: edited(edit) for name, edit in EDITED.items()},
    **{name: rewritten(change) for name, change in BYTES.items()},
}


def checkpoint_cases() -> list[Case]:
    """Every file by `load_model` and, in turn, by one of the others; resuming by all of its own."""
    found, others = [], [use for use in USES if use != "load_model"]
    for number, (name, prepare) in enumerate(MADE.items()):
        for use in ("load_model", others[number % len(others)]):
            module, arguments = USES[use]
            # what a file does not say in full may still serve somewhere; a run has its own config
            unread = name in EDITED and use in ("test", "resume")
            unread |= name in HARMLESS or name.startswith(("image", "normalise", "weights"))
            found.append(
                Case(
                    f"checkpoint: {name}, {use}",
                    arguments,
                    module,
                    "either" if unread else "refused",
                    prepare,
                    sane_run if use in ("test", "resume") else None,
                )
            )
    for name, edit in STATES.items():
        module, arguments = USES["resume"]
        case = Case(f"checkpoint: {name}, resume", arguments, module, "either", edited(edit))
        found.append(case)
    return found


# --- galleries and exports --------------------------------------------------------------------

QUERY = "@images/0002_c1s1_064955_01.jpg"
CARD: dict[str, Edit] = {
    "a list": replaced([]),
    "no count": drop("count"),
    "no metric": drop("metric"),
    "metric=foo": put("metric", "foo"),
    "metric=null": put("metric", None),
    "count=text": put("count", "30"),
    "count=-1": put("count", -1),
    "count=2.5": put("count", 2.5),
    "count=10**15": put("count", 10**15),
    "count=null": put("count", None),
    "count=true": put("count", True),
    "count=nan": put("count", float("nan")),
    "dim=0": put("dim", 0),
    "dim=text": put("dim", "8"),
    "dim=16": put("dim", 16),
    "dim=10**12": put("dim", 10**12),
    "dtype=float8": put("dtype", "float8"),
    "dtype=object": put("dtype", "object"),
    "dtype=float16": put("dtype", "float16"),
    "exit=bogus": put("exit", "bogus"),
    "exit=1": put("exit", 1),
    "image=[0,0]": put("image", [0, 0]),
    "image=text": put("image", "64x32"),
    "image=[128,64]": put("image", [128, 64]),
    "fingerprint=0": put("fingerprint", "0"),
    "fingerprint=null": put("fingerprint", None),
    "index=bogus": put("index", "bogus"),
    "index=hnsw without a file": put("index", "hnsw"),
    "pattern=(": put("pattern", "("),
    "format=99": put("format", 99),
    "format=text": put("format", "x"),
    "format=null": put("format", None),
    "trained=-1": put("trained", -1),
}
ROWS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "random ids": ("ids.bin", lambda whole: noise(len(whole))),
    "ids cut": ("ids.bin", cut(0.5)),
    "ids of zeros": ("ids.bin", lambda whole: bytes(len(whole))),
    "no ids": ("ids.bin", lambda _: b""),
    "random embeddings": ("embeddings.bin", lambda whole: noise(len(whole))),
    "embeddings nan": ("embeddings.bin", lambda whole: b"\xff" * len(whole)),
    "embeddings of zeros": ("embeddings.bin", lambda whole: bytes(len(whole))),
    "embeddings cut": ("embeddings.bin", cut(0.5)),
    "random paths": ("paths.bin", lambda whole: noise(len(whole))),
    "paths cut": ("paths.bin", cut(0.5)),
    "card null": ("gallery.json", lambda _: b"null"),
    "card of noise": ("gallery.json", lambda _: noise()),
    "card cut": ("gallery.json", cut(0.5)),
    "card deep": ("gallery.json", lambda _: b"[" * 100_000),
    "card of utf-16": ("gallery.json", lambda whole: whole.decode().encode("utf-16")),
}
SEARCHES: dict[str, tuple[str, tuple[str, ...]]] = {
    "runtime": ("reid_lab.runtime", ("@export", QUERY, "--gallery", "bad")),
    "search": (
        "reid_lab.gallery",
        ("search", "bad", "--checkpoint", "@checkpoint", "--image", QUERY),
    ),
    "add": ("reid_lab.gallery", ("add", "bad", "--checkpoint", "@checkpoint", "--images", "more")),
    "plan": ("reid_lab.gallery", ("plan", "bad")),
    "info": ("reid_lab.gallery", ("info", "bad")),
}


def gallery(file: str, change: Callable[[bytes], bytes]) -> Callable[[Stage, Path], None]:
    def prepare(stage: Stage, work: Path) -> None:
        shutil.copytree(stage.gallery, work / "bad")
        (work / "bad" / file).write_bytes(change((stage.gallery / file).read_bytes()))
        shutil.copytree(stage.people / "query", work / "more")

    return prepare


def as_json(edit: Edit) -> Callable[[bytes], bytes]:
    def change(whole: bytes) -> bytes:
        content = json.loads(whole)
        other = edit(content)
        return json.dumps(content if other is None else other).encode()

    return change


def gallery_cases() -> list[Case]:
    """Each by the runtime, which has a reader of its own, and by one of the other commands."""
    made = {name: ("gallery.json", as_json(edit)) for name, edit in CARD.items()} | ROWS
    found, others = [], [use for use in SEARCHES if use != "runtime"]
    for number, (name, (file, change)) in enumerate(made.items()):
        for use in ("runtime", others[number % len(others)]):
            module, arguments = SEARCHES[use]
            # some commands have no use for some keys
            refused = use == "runtime" and name.split("=")[0] not in ("index", "pattern", "trained")
            expected = "refused" if refused else "either"
            prepare = gallery(file, change)
            found.append(Case(f"gallery: {name}, {use}", arguments, module, expected, prepare))
    return found


MANIFEST: dict[str, Edit] = {
    "a list": replaced([]),
    "no exits": drop("exits"),
    "no stages": drop("stages"),
    "exits=[]": put("exits", []),
    "exits=text": put("exits", "x"),
    "stages=[]": put("stages", []),
    "exit dim=0": put("exits.0.dim", 0),
    "exit dim=text": put("exits.0.dim", "8"),
    "exit dim=10**12": put("exits.0.dim", 10**12),
    "exit of another name": put("exits.0.name", "bogus"),
    "an unknown key": put("exits.0.colour", "red"),
    "stage file=/etc/passwd": put("stages.0.file", "/etc/passwd"),
    "stage file=../..": put("stages.0.file", "../../x.onnx"),
    "stage file=null": put("stages.0.file", None),
    "stage inputs=[]": put("stages.1.inputs", []),
    "stage inputs of another": put("stages.1.inputs", ["bogus"]),
    "image=[10**6,10**6]": put("preprocessing.image", [10**6, 10**6]),
    "image=[0,0]": put("preprocessing.image", [0, 0]),
    "image=[128,64]": put("preprocessing.image", [128, 64]),
    "image=text": put("preprocessing.image", "64x32"),
    "no preprocessing": drop("preprocessing"),
    "fingerprint=0": put("fingerprint", "0"),
    "precision=float8": put("precision", "float8"),
    "format=99": put("format", 99),
    "format=null": put("format", None),
}


def export(file: str, change: Callable[[bytes], bytes]) -> Callable[[Stage, Path], None]:
    def prepare(stage: Stage, work: Path) -> None:
        shutil.copytree(stage.export, work / "bad")
        (work / "bad" / file).write_bytes(change((stage.export / file).read_bytes()))

    return prepare


def export_cases() -> list[Case]:
    made = {name: ("manifest.json", as_json(edit)) for name, edit in MANIFEST.items()}
    for name in ("empty", "noise", "half of it", "noise inside"):
        made[f"model.onnx {name}"] = ("model.onnx", BYTES[name])
        made[f"manifest {name}"] = ("manifest.json", BYTES[name])
    found = []
    for number, (name, (file, change)) in enumerate(made.items()):
        chain = "stage" in name or (number % 2 and not name.startswith("model"))
        use = ("--gallery", "@gallery") if chain else ("--out", "x.npz")
        arguments = ("bad", QUERY, *use)
        prepare = export(file, change)
        # an exit that nobody asks for may be called anything
        expected = "either" if "exit" in name or "key" in name else "refused"
        found.append(Case(f"export: {name}", arguments, "reid_lab.runtime", expected, prepare))
    return found


# --- run folders ------------------------------------------------------------------------------

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
RUNS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "binary config": ("config.yaml", lambda _: noise()),
    "empty config": ("config.yaml", lambda _: b""),
    "a list as config": ("config.yaml", lambda _: b"- 1\n"),
    "text as config": ("config.yaml", lambda _: b"hello"),
    "aliased config": ("config.yaml", lambda _: BOMB.encode()),
    "recursive config": ("config.yaml", lambda _: b"model: &a [*a]\n"),
    "deep config": ("config.yaml", lambda _: b"model: " + b"[" * 5000),
    "python object in config": ("config.yaml", lambda _: b"model: !!python/object:os.system {}\n"),
    "interpolation in config": ("config.yaml", lambda whole: whole + b"\nx: ${nowhere.else}\n"),
    "missing in config": ("config.yaml", lambda whole: whole.replace(b"lr: 0.002", b"lr: ???")),
    "model=null in config": ("config.yaml", lambda _: b"name: x\nmodel: null\ndataset: 3\n"),
    "binary summary": ("results/summary.json", lambda _: noise()),
    "empty summary": ("results/summary.json", lambda _: b""),
    "a list as summary": ("results/summary.json", lambda _: b"[]"),
    "deep summary": ("results/summary.json", lambda _: b"[" * 100_000),
    "dataset=text": ("results/summary.json", as_json(put("dataset", "market"))),
    "dataset=null": ("results/summary.json", as_json(put("dataset", None))),
    "name=3": ("results/summary.json", as_json(put("name", 3))),
    "name=../../x": ("results/summary.json", as_json(put("dataset.name", "../../x"))),
    "name of markup": ("results/summary.json", as_json(put("name", "<script>alert(1)</script>"))),
    "metrics=text": ("results/summary.json", as_json(put("metrics", "x"))),
    "mul_adds=text": ("results/summary.json", as_json(put("mul_adds", "x"))),
    "protocol=[]": ("results/summary.json", as_json(put("protocol", []))),
    "binary exits": ("results/exits.csv", lambda _: noise()),
    "empty exits": ("results/exits.csv", lambda _: b""),
    "exits without rows": ("results/exits.csv", lambda whole: whole.splitlines()[0] + b"\n"),
    "exits of another header": ("results/exits.csv", lambda _: b"a,b\n1,2\n"),
    "exits of text": ("results/exits.csv", lambda whole: whole.replace(b"0.", b"x.")),
    "exits nan": ("results/exits.csv", lambda whole: whole.replace(b"0.", b"nan")),
    "exits of negative cost": ("results/exits.csv", lambda whole: whole.replace(b",2", b",-2")),
    "exits cut": ("results/exits.csv", cut(0.7)),
    "zeros in exits": ("results/exits.csv", lambda whole: whole + b"\0\0\n"),
    "binary anytime": ("results/anytime.csv", lambda _: noise()),
    "binary stream": ("results/stream.csv", lambda _: noise()),
    "binary cost": ("results/cost.csv", lambda _: noise()),
    "binary queries": ("results/queries.json", lambda _: noise()),
    "binary attention": ("results/attention.npz", lambda _: noise()),
    "binary metrics": ("logs/version_0/metrics.csv", lambda _: noise()),
    "metrics cut": ("logs/version_0/metrics.csv", cut(0.6)),
}


def run_folder(file: str, change: Callable[[bytes], bytes]) -> Callable[[Stage, Path], None]:
    def prepare(stage: Stage, work: Path) -> None:
        for name in ("results", "logs"):
            shutil.copytree(stage.run / name, work / "bad" / name)
        shutil.copy(stage.run / "config.yaml", work / "bad")
        target = work / "bad" / file
        target.write_bytes(change(target.read_bytes() if target.is_file() else b""))

    return prepare


def run_cases() -> list[Case]:
    """Each by the frontier; every fourth is also drawn into another run's report."""
    found = []
    for number, (name, (file, change)) in enumerate(RUNS.items()):
        prepare = run_folder(file, change)
        arguments = ("bad", "@run", "--out", "out")
        found.append(
            Case(f"run: {name}, frontier", arguments, "reid_lab.frontier", prepare=prepare)
        )
        if number % 4 == 0:
            found.append(Case(f"run: {name}, compare", training("compare=[bad]"), prepare=prepare))
    return found


# --- data sets of one's own -------------------------------------------------------------------

HEADER = "path,pid,camid,split"


def table(pids: tuple[str, ...], cams: tuple[str, ...] = ("1", "2")) -> str:
    """A table of images of these people, two to train on and two to test, each in two cameras."""
    lines = [HEADER]
    for number, pid in enumerate(pids):
        parts = ("train", "train") if number < 2 else ("query", "gallery")
        for camera, part in zip(cams, parts, strict=True):
            lines.append(f"images/{number}_{camera}.jpg,{pid},{camera},{part}")
    return "\n".join(lines) + "\n"


PEOPLE = table(("1", "2", "3", "4"))
WRITTEN = PEOPLE + "images/0_3.jpg,0,1,gallery\nimages/1_3.jpg,-1,1,gallery\n"
TABLES: dict[str, str | bytes] = {
    "empty": "",
    "a header alone": HEADER + "\n",
    "binary": noise(),
    "zeros": PEOPLE + "\0\0\n",
    "utf-16": PEOPLE.encode("utf-16"),
    "latin-1": PEOPLE.replace("images/0_1", "images/\u00fc").encode("latin-1"),
    "semicolons": PEOPLE.replace(",", ";"),
    "tabs": PEOPLE.replace(",", "\t"),
    "another header": PEOPLE.replace("pid", "person"),
    "no header": PEOPLE.partition("\n")[2],
    "a short line": PEOPLE + "images/0_1.jpg\n",
    "a long line": PEOPLE + "a,b,c,d,e,f,g\n",
    "an open quote": PEOPLE + '"images/0_1.jpg,1,1,train\n',
    "a line twice": PEOPLE + PEOPLE.splitlines()[1] + "\n",
    "an unknown split": PEOPLE.replace("gallery", "galery"),
    "only train": PEOPLE.replace("query", "train").replace("gallery", "train"),
    "one camera": PEOPLE.replace(",2,", ",1,"),
    "one person": PEOPLE.replace(",2,", ",1,").replace(",3,", ",1,").replace(",4,", ",1,"),
    "a path that is not there": PEOPLE.replace("0_1.jpg", "nowhere.jpg"),
    "a path outside": PEOPLE.replace("images/0_1.jpg", "../../../../etc/passwd"),
    "an absolute path": PEOPLE.replace("images/0_1.jpg", "/etc/passwd"),
    "a folder as path": PEOPLE.replace("images/0_1.jpg", "images"),
    "backslashes": PEOPLE.replace("images/", "images\\"),
    "pid empty": PEOPLE.replace(",3,", ",,"),
    "pid nan": PEOPLE.replace(",3,", ",nan,"),
    "pid unknown": PEOPLE.replace(",3,", ",unknown,"),
    "pid 1e23": PEOPLE.replace(",3,", ",100000000000000000000000,"),
    "pid 1e23 as a float": PEOPLE.replace(",3,", ",1e23,"),
    "pid -7": PEOPLE.replace(",3,", ",-7,"),
    "pid 1.5": PEOPLE.replace(",3,", ",1.5,"),
    "pid inf": PEOPLE.replace(",3,", ",inf,"),
    "pid 2**63": PEOPLE.replace(",3,", ",9223372036854775808,"),
    "camid empty": PEOPLE.replace(",1,query", ",,query"),
    "camid -1": PEOPLE.replace(",1,query", ",-1,query"),
    "camid text": PEOPLE.replace(",1,", ",door,").replace(",2,", ",hall,"),
    "a box of words": PEOPLE.replace("split\n", "split,box\n").replace("train\n", "train,a b\n"),
    "boxes outside": PEOPLE.replace("split\n", "split,box\n")
    .replace("query\n", "query,900 900 910 910\n")
    .replace("gallery\n", "gallery,0 0 8 8\n")
    .replace("train\n", "train,0 0 8 8\n"),
    "boxes nan": PEOPLE.replace("split\n", "split,box\n").replace("n\n", "n,nan nan nan nan\n"),
}
# written by pandas, where one value was missing once; the same people as with integers
PANDAS = {
    "pids 1.0": "\n".join(
        ",".join([a, b if b == "pid" else f"{b}.0", *rest])
        for a, b, *rest in (line.split(",") for line in WRITTEN.splitlines())
    ),
    "pids": WRITTEN,
}


def listed(content: str | bytes) -> Callable[[Stage, Path], None]:
    """A data set of eight images and the table `images.csv`."""

    def prepare(stage: Stage, work: Path) -> None:
        (work / "own" / "images").mkdir(parents=True)
        sources = sorted((stage.people / "bounding_box_train").glob("0*.jpg"))
        for number in range(4):
            for camera in (1, 2, 3):
                target = work / "own" / "images" / f"{number}_{camera}.jpg"
                shutil.copy(sources[3 * number + camera - 1], target)
        data = content.encode() if isinstance(content, str) else content
        (work / "own" / "images.csv").write_bytes(data)

    return prepare


def as_with_integers(work: Path) -> str:
    (found,) = work.rglob("results/summary.json")
    gallery = json.loads(found.read_text())["dataset"]["gallery"]
    return "" if gallery["pids"] == 2 and gallery["images"] == 4 else f"gallery: {gallery}"


OWN = "dataset=csv dataset.root=own"
DOCTOR = ("dataset=csv", "dataset.root=own", "dataset.p=2", "dataset.k=2")


def table_cases() -> list[Case]:
    """Each by the doctor and by a training."""
    found = []
    for name, content in TABLES.items():
        prepare = listed(content)
        found.append(Case(f"csv: {name}, doctor", DOCTOR, "reid_lab.doctor", prepare=prepare))
        found.append(Case(f"csv: {name}", training(OWN), prepare=prepare, check=sane_run))
    for name, content in PANDAS.items():
        case = Case(
            f"csv: {name}", training(OWN), "reid_lab", "done", listed(content), as_with_integers
        )
        found.append(case)
    return found


def tree(*names: str) -> Callable[[Stage, Path], None]:
    """A folder `own` with an image under each of these names."""

    def prepare(stage: Stage, work: Path) -> None:
        (work / "own").mkdir()
        sources = sorted((stage.people / "bounding_box_train").glob("0*.jpg"))
        for number, name in enumerate(names):
            target = work / "own" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sources[number % len(sources)], target)

    return prepare


def unreadable(stage: Stage, work: Path) -> None:
    """A loop of links, a pipe, a name that is no UTF-8, and a link to nothing."""
    tree("1/c1.jpg", "1/c2.jpg", "2/c1.jpg", "2/c2.jpg")(stage, work)
    (work / "own" / "loop").symlink_to(work / "own")
    (work / "own" / "1" / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(work / "own" / "2" / "pipe.jpg")
    shutil.copy(work / "own" / "1" / "c1.jpg", os.fsencode(work / "own" / "1") + b"/c3_\xff.jpg")


TREES: dict[str, Callable[[Stage, Path], None]] = {
    "empty": tree(),
    "images without folders": tree("a.jpg", "b.jpg"),
    "one person": tree("anna/c1.jpg", "anna/c2.jpg"),
    "two people, one camera": tree("anna/c1_1.jpg", "anna/c1_2.jpg", "bob/c1_1.jpg"),
    "camera first": tree("cam1/anna.jpg", "cam2/anna.jpg", "cam1/bob.jpg", "cam2/bob.jpg"),
    "a part is empty": tree("train/a/c1.jpg", "train/b/c2.jpg", "query/c/c1.jpg"),
    "twenty people, one image each": tree(*(f"{n:02}/c1.jpg" for n in range(20))),
    "what cannot be read": unreadable,
}


def tree_cases() -> list[Case]:
    found = []
    for name, prepare in TREES.items():
        for dataset in ("folders", "market1501"):
            doctor = (f"dataset={dataset}", "dataset.root=own", "dataset.p=2", "dataset.k=2")
            title = f"folder: {name}, {dataset}"
            found.append(Case(f"{title}, doctor", doctor, "reid_lab.doctor", prepare=prepare))
        own = training("dataset=folders dataset.root=own")
        found.append(Case(f"folder: {name}, training", own, prepare=prepare))
        build = ("build", "--checkpoint", "@checkpoint", "--images", "own", "--out", "g")
        found.append(Case(f"folder: {name}, gallery", build, "reid_lab.gallery", prepare=prepare))
    return found


CASES = [
    *checkpoint_cases(),
    *gallery_cases(),
    *export_cases(),
    *run_cases(),
    *table_cases(),
    *tree_cases(),
]


@pytest.mark.torture("files", share=30)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_files(bench: Bench, case: Case, tmp_path: Path) -> None:
    bench.check(case, tmp_path)
