"""Pages that are copied from the top down: what they print is run, each in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import reid_lab.run.run  # noqa: F401 - imported, its runs write no reports, see `without_report`
from reid_lab.config.overrides import composed
from tests.backbone.weights.golden import state_of
from tests.backbone.weights.test_mobilenet import slim_arrays
from tests.export.conftest import operators_once  # noqa: F401
from tests.printed import blocks, typed
from tests.reader import INSTEAD, LEFT_OUT, Reader, prepare

# on as few people as a test has
pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:verification:UserWarning"),
]

ROOT = Path(__file__).parents[1]
GALLERY = "reid-lab gallery build --checkpoint last.ckpt --images people/ --out gallery/"
# the pages, and what their readers have typed before
PAGES = {
    "README.md": "",
    "docs/quickstart.md": "rm -r people queries",
    "docs/concepts/exits.md": "",
    "docs/concepts/budgets.md": "reid-lab export --checkpoint last.ckpt --out exported",
    "docs/own_images.md": "",
    "docs/training.md": """
        python -m reid_lab +experiment=demo
        cp last.ckpt a.ckpt
        cp last.ckpt b.ckpt
        ln -s market1501 data/cuhk03_np
    """,
    "docs/networks.md": "",
    "docs/weights.md": "",
    "docs/doctor.md": "",
    "docs/cost.md": "",
    "docs/embed.md": "",
    "docs/gallery/first_steps.md": """
        rm -r people queries camera1 camera2
    """,
    "docs/gallery/build.md": "",
    "docs/gallery/search.md": GALLERY,
    "docs/gallery/accept_thresholds.md": GALLERY,
    "docs/gallery/link.md": f"""
        {GALLERY}
        reid-lab gallery calibrate gallery/
        reid-lab embed --checkpoint last.ckpt --images list.csv --pool tracklet --out one.npz
        cp one.npz two.npz
    """,
    "docs/gallery/upgrade.md": f"""
        {GALLERY}
        reid-lab embed --checkpoint last.ckpt --images people/ --out people.npz
    """,
    "docs/gallery/milvus.md": f"""
        {GALLERY}
        reid-lab embed --checkpoint last.ckpt --images queries/ --out queries.npz
    """,
    "docs/gallery/fiftyone.md": GALLERY,
    "docs/frontier.md": f"""
        python -m reid_lab +experiment=dare_market dataset.root=/data/Market-1501-v15.09.15
        mkdir seeds
        for copy in runs/demo runs/bot_market seeds/dare seeds/bot; do
            cp -r runs/dare_market $copy
        done
        ln -s {ROOT}/experiments experiments
    """,
    "docs/export.md": """
        reid-lab gallery build --checkpoint last.ckpt --images people/ --out people.gallery
    """,
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("reader"))


@pytest.fixture
def reader(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    shutil.copytree(prepared, tmp_path / "reader", symlinks=True)
    monkeypatch.chdir(tmp_path / "reader")
    monkeypatch.setattr("reid_lab.__main__.raise_on_signals", lambda: None)
    monkeypatch.setattr("logging.raiseExceptions", True)  # restored afterwards
    monkeypatch.setattr("sys.argv", ["reid-lab"])
    return Reader()


@pytest.mark.usefixtures("operators_once", "undrawn")
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_prints_can_be_typed(page: str, reader: Reader) -> None:
    if page == "docs/weights.md":
        write_weights()
    reader.type(PAGES[page])
    found = list(blocks((ROOT / page).read_text("utf-8")))
    for block in found:
        if block.text.startswith("path,"):  # shown below the command that reads it
            Path("staff.csv").write_text(block.text, "utf-8")
    for block in found:
        if block.is_script:
            reader.type(block.text)
        elif block.language == "python":
            reader.python(block.text)


def write_weights() -> None:
    """Files of other toolboxes."""
    osnet = {"state_dict": state_of("torchreid_osnet_x0_25"), "epoch": 60, "rank1": 0.943}
    torch.save(osnet, "osnet_x0_25_market.pth.tar")
    torch.save({"model": state_of("fastreid_r50")}, "market_bot_R50.pth")
    np.savez("mobilenet_v1_0.25_128.npz", **slim_arrays(0.25))


def test_the_demos_people_are_where_the_pages_say() -> None:
    assert Path(composed(["+experiment=demo"]).dataset.root).name in "".join(INSTEAD)


def test_what_is_left_out_is_printed() -> None:
    printed = [
        line
        for page in PAGES
        for block in blocks((ROOT / page).read_text("utf-8"))
        if block.is_script or block.language == "python"
        for line in typed(block.text)
    ]
    assert [part for part in LEFT_OUT if not any(part in line for line in printed)] == []
