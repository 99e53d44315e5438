"""`reid-lab soften`: equation 1 on a checkpoint's logits, as a table and a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reid_lab.checkpoint import load_model
from reid_lab.dataset.images import decode, resize
from reid_lab.dataset.transforms import normalise
from reid_lab.model import Classifier
from reid_lab.report.softened import SOFTENED, distributions, entropy, gap, softened
from tests.commands import soften
from tests.conftest import write_jpegs
from tests.methods import SIZE, method

IMAGES = [f"{number:04d}_c1_0.jpg" for number in range(5)]


def checkpoint(name: str, path: Path, enlarge: float = 1) -> Path:
    model = method(name)
    kept = {**model.hparams, "image": [*SIZE], "enlarge": enlarge}
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": kept}, path)
    return path


def test_equation_1() -> None:
    logits = np.array([[0.0, np.log(4.0), np.log(4.0)]])
    np.testing.assert_allclose(softened(logits, 1), [[1 / 9, 4 / 9, 4 / 9]])
    np.testing.assert_allclose(softened(logits, 2), [[1 / 5, 2 / 5, 2 / 5]])
    huge = softened(np.array([[1e4, 0.0]]), 1)  # no overflow
    np.testing.assert_allclose(huge, [[1, 0]], atol=1e-12)


def test_a_flat_distribution_has_no_gap_and_the_largest_entropy() -> None:
    flat, sharp = np.full(8, 1 / 8), np.eye(8)[3]
    assert (gap(flat), gap(sharp)) == pytest.approx((0, 1))
    assert (entropy(flat), entropy(sharp)) == pytest.approx((1, 0))


def test_a_teacher_s_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_jpegs(tmp_path / "images", IMAGES)
    path = checkpoint("classifier", tmp_path / "teacher.ckpt")
    words = ["--checkpoint", str(path), "--images", str(folder), "--out", str(tmp_path / "out")]
    assert soften([*words, "--temperatures", "1", "30", "--count", "3", "--device", "cpu"]) == 0
    rows = SOFTENED.read(tmp_path / "out" / "softened.csv")
    assert (tmp_path / "out" / "softened.png").read_bytes().startswith(b"\x89PNG")
    assert [*dict.fromkeys(row.image for row in rows)] == [IMAGES[0], IMAGES[2], IMAGES[4]]
    teacher = load_model(path)
    assert isinstance(teacher, Classifier)
    pixels = np.stack([resize(decode(folder / IMAGES[2]), *SIZE)])
    with torch.no_grad():
        images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        logits = teacher.outputs(images).logits["pool"]
    for temperature in (1.0, 30.0):
        found = [
            r.probability for r in rows if (r.image, r.temperature) == (IMAGES[2], temperature)
        ]
        expected = (logits / temperature).softmax(1)[0].tolist()
        assert found == pytest.approx(expected, rel=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["T = 1", "T = 30"]


def test_the_network_sees_the_centre_as_in_a_test(tmp_path: Path) -> None:
    folder = write_jpegs(tmp_path / "images", IMAGES[:1])
    path = checkpoint("bot", tmp_path / "last.ckpt", enlarge=1.25)
    words = ["--checkpoint", str(path), "--images", str(folder), "--out", str(tmp_path / "out")]
    assert soften([*words, "--temperatures", "1", "--device", "cpu"]) == 0
    model = load_model(path)
    assert model.image is not None and model.image != SIZE
    pixels = torch.from_numpy(resize(decode(folder / IMAGES[0]), *model.image))[None]
    with torch.no_grad():
        (logits,) = list(model.outputs(model.prepared(pixels)).logits.values())[-1]
    found = [row.probability for row in SOFTENED.read(tmp_path / "out" / "softened.csv")]
    assert found == pytest.approx(logits.softmax(0).tolist(), rel=1e-4)


def test_a_row_a_temperature_and_a_column_an_image() -> None:
    at = {t: softened(np.random.default_rng(0).normal(size=(2, 9)), t) for t in (1.0, 3.0, 30.0)}
    figure = distributions(["a.jpg", "b.jpg"], at)
    assert len(figure.axes) == 6
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == ["T = 1", "T = 3", "T = 30"]


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("dare", [], "has no classifier: give one of"),
        ("classifier", ["--exit", "stage1"], "exit 'stage1' has no classifier; available: pool"),
    ],
)
def test_exits_without_a_classifier(
    name: str, more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_jpegs(tmp_path / "images", IMAGES[:1])
    path = checkpoint(name, tmp_path / "last.ckpt")
    words = ["--checkpoint", str(path), "--images", str(folder), "--out", str(tmp_path / "out")]
    assert soften([*words, *more]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
