"""`reid-lab gallery evaluate` against the naive loop, for a gallery and for a file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_lab.errors import UserError
from reid_lab.gallery.evaluate import LabelledEmbeddings, evaluated
from reid_lab.gallery_format.embedding_files import EmbeddedImages, write_embeddings
from tests.commands import gallery as main
from tests.gallery.test_accept_thresholds import made, vectors
from tests.retrieval.people import euclidean, ids, naive


@pytest.mark.parametrize("hidden", ["itself", "same_person_and_camera", "same_camera"])
def test_a_gallery_equals_the_naive_loop(tmp_path: Path, hidden: str) -> None:
    gallery = made(tmp_path / "gallery")
    (row,) = evaluated(LabelledEmbeddings.of_gallery(gallery), "euclidean", hidden)
    rows, who = vectors()
    seen = np.arange(len(rows) + 6) // 12 % 3 + 1
    every = LabelledEmbeddings.of_gallery(gallery).exits[gallery.card.exit]
    assert len(every) == len(rows) + 1  # the distractor; five unknown people are left out
    g = ids(np.append(who + 1, 0), np.append(seen[: len(rows)], seen[-1]))
    q = ids(who + 1, seen[: len(rows)])
    expected = naive(euclidean(*map(torch.tensor, (rows, every))), q, g, hidden)  # type: ignore[arg-type]
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert (row["queries"], row["skipped"]) == (len(rows), 0)


def test_a_file_has_a_row_for_each_exit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, who = vectors()
    exits = {"early": rows[:, :3], "last": rows}
    paths = np.array([f"{i}.jpg" for i in range(len(rows))])
    names = np.array([f"person {pid}" for pid in who])
    file, out = tmp_path / "people.npz", tmp_path / "found.csv"
    write_embeddings(file, EmbeddedImages("a", exits, paths, names))
    assert main(["evaluate", str(file), "--out", str(out), "--metric", "cosine"]) == 0
    assert "72 queries, 72 images, 12 people" in capsys.readouterr().out
    with out.open() as opened:
        found = list(csv.DictReader(opened))
    assert [row["exit"] for row in found] == ["early", "last"]
    unit = torch.tensor(rows) / torch.tensor(rows).norm(dim=1, keepdim=True)
    g = ids(who + 1, who)
    expected = naive(euclidean(unit, unit), g, g, "itself")
    assert float(found[1]["mAP"]) == pytest.approx(expected["mAP"], abs=1e-9)
    assert float(found[0]["mAP"]) < float(found[1]["mAP"])
    for row in found:
        low, mean, high = (float(row[f"mAP{end}"]) for end in ("_low", "", "_high"))
        assert low < mean < high
    (few, _) = evaluated(LabelledEmbeddings.of_file(file), "euclidean", most=10)
    assert few["queries"] == 10
    monkeypatch.setattr("reid_lab.gallery.evaluate.MOST_PEOPLE", 11)
    assert "rank1_low" not in evaluated(LabelledEmbeddings.of_file(file), "euclidean")[0]
    write_embeddings(file, EmbeddedImages("a", exits, paths))
    with pytest.raises(UserError, match="does not say who the people are"):
        LabelledEmbeddings.of_file(file)
