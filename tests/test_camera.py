"""docs/examples/camera.py: people in a video are found and named."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.commands import export, gallery
from tests.methods import method, save

cv2 = pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.system
SCRIPT = Path(__file__).parents[1] / "docs" / "examples" / "camera.py"
HEIGHT, WIDTH, FRAMES = 160, 240, 24


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def walkers(tmp_path_factory: pytest.TempPathFactory, people: Path) -> Path:
    """A gallery of two people, the network that made it, and a video in which one walks by."""
    root = tmp_path_factory.mktemp("camera")
    images = sorted((people / "query").glob("*.jpg"))
    first, last = images[0], images[-1]
    assert first.name[:4] != last.name[:4]
    for path, person in ((first, "Anna"), (last, "Ben")):
        (root / "people" / person).mkdir(parents=True)
        (root / "people" / person / "1.jpg").write_bytes(path.read_bytes())
    checkpoint = str(save(method("dare"), root / "last.ckpt"))
    assert export(["--checkpoint", checkpoint, "--out", str(root / "exported")]) == 0
    words = ["--images", str(root / "people"), "--out", str(root / "gallery")]
    assert gallery(["build", "--checkpoint", checkpoint, *words]) == 0
    with Image.open(last) as image:
        ben = np.asarray(image.convert("RGB").resize((48, 96)))
    writer = cv2.VideoWriter(
        str(root / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT)
    )
    for number in range(FRAMES):
        frame = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        if number >= 4:
            left, top, right, bottom = box(number)
            frame[top:bottom, left:right] = ben
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    (root / "boxes_of_test_camera.py").write_text(
        "import numpy as np\n"
        "numbers = iter(range(99))\n"
        "def people(frame):\n"
        "    n = next(numbers)\n"
        "    return np.array([[8 * n, 40, 8 * n + 48, 136]] if n >= 4 else [])\n"
    )
    return root


def box(number: int) -> tuple[int, int, int, int]:
    return 8 * number, 40, 8 * number + 48, 136


def test_a_person_is_named(
    names: dict[str, Any],
    walkers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(walkers))
    words = ["--model", str(walkers / "exported"), "--gallery", str(walkers / "gallery")]
    words += ["--video", str(walkers / "a.avi"), "--detector", "boxes_of_test_camera:people"]
    try:
        assert names["main"]([*words, "--out", str(tmp_path / "b.mp4")]) == 0
    finally:
        sys.modules.pop("boxes_of_test_camera", None)
    printed = capsys.readouterr()
    lines = [line.split("\t") for line in printed.out.splitlines()]
    assert [(int(n), tuple(map(int, place))) for n, *place, _, _ in lines] == [
        (number, box(number)) for number in range(4, FRAMES)
    ]
    assert {(verdict, who) for *_, verdict, who in lines} == {("known", "Ben")}
    assert "Ben: 20 boxes" in printed.err
    drawn = cv2.VideoCapture(str(tmp_path / "b.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES


def test_what_moves_is_found(names: dict[str, Any], walkers: Path) -> None:
    detect, found = names["Moving"](), 0
    for number, (frame, _) in enumerate(names["frames"](str(walkers / "a.avi"))):
        boxes = detect(np.ascontiguousarray(frame[..., ::-1]))
        if number < 4:
            assert not len(boxes)
            continue
        assert len(boxes) <= 1
        if len(boxes):
            inner = np.minimum(boxes[0][2:], box(number)[2:]) - np.maximum(
                boxes[0][:2], box(number)[:2]
            )
            outer = np.maximum(boxes[0][2:], box(number)[2:]) - np.minimum(
                boxes[0][:2], box(number)[:2]
            )
            found += inner.prod() / outer.prod() > 0.7
    assert found >= 15


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--video", "nowhere.mp4"], "--video nowhere.mp4 has no frame: give a video file"),
        (["--detector", "nothing:here"], "--detector nothing:here: No module named 'nothing'"),
        (["--detector", "json"], "give MODULE:FUNCTION"),
    ],
)
def test_wrong_arguments(
    names: dict[str, Any],
    walkers: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--model", str(walkers / "exported"), "--gallery", str(walkers / "gallery")]
    assert names["main"]([*given, "--video", str(walkers / "a.avi"), *words]) == 2
    assert message in capsys.readouterr().err


def test_verdicts_of_a_calibrated_gallery(names: dict[str, Any], walkers: Path) -> None:
    class Calibrated:
        card = type("Card", (), {"accept_thresholds": ("one",)})

        def verdicts(self, rows: np.ndarray, rate: float) -> list[Any]:
            assert rate == 0.03
            person = type("Person", (), {"pid": 7})
            kinds = {"unknown": (), "ambiguous": (person, person)}
            return [type("V", (), {"verdict": v, "people": p}) for v, p in kinds.items()]

        def name(self, pid: int) -> str:
            return f"person {pid}"

    found = names["name"](Calibrated(), np.zeros((2, 3)), 0.03)
    assert found == [("unknown", ""), ("ambiguous", "person 7 or person 7")]
    assert names["name"](Calibrated(), np.zeros((0, 3)), 0.03) == []
