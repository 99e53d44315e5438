"""Compare an export with PyTorch: embeddings, accuracies, speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.images import Images
from reid_lab.errors import with_options
from reid_lab.model import ReidModule
from reid_lab.results.rows.accuracy import ExitRow
from reid_lab.retrieval import Embeddings, Exit, Ids, evaluate
from reid_lab.runtime.manifest import ExportError
from reid_lab.runtime.model import Model, Values

BATCHES = (1, 3, 5)  # batch sizes of random images
ROUNDS = 5  # rounds of a speed ratio
Embed = Callable[[np.ndarray], Values]
Accuracies = dict[str, dict[str, float]]  # exit -> mAP, rank1


def by_torch(method: ReidModule) -> Embed:
    """Pixels (N, H, W, 3) uint8 -> exit -> (N, D), embedded by PyTorch."""

    @torch.inference_mode()
    def embed(pixels: np.ndarray) -> Values:
        images = method.prepared(torch.from_numpy(pixels))
        return {name: rows.float().numpy() for name, rows in method.exits(images)}

    return embed


def differences(method: ReidModule, model: Model) -> dict[str, dict[str, float]]:
    """Exit -> largest difference from PyTorch, whole and chained, over random images.

    `absolute`, and `relative` to the exit's largest value.
    """
    rng, reference = np.random.default_rng(0), by_torch(method)
    found = {name: {"absolute": 0.0, "relative": 0.0} for name in method.exit_names}
    for count in BATCHES:
        pixels = rng.integers(0, 256, (count, *model.image, 3), np.uint8)
        wanted, whole = reference(pixels), model.embed(pixels)
        for name, rows in wanted.items():
            for given in (whole[name], model.embed_until(pixels, name)):
                gap = float(np.abs(given - rows).max())
                largest = max(float(np.abs(rows).max()), 1e-12)
                kept = found[name]
                # unlike max, np.maximum keeps NaN
                kept["absolute"] = float(np.maximum(kept["absolute"], gap))
                kept["relative"] = float(np.maximum(kept["relative"], gap / largest))
    return found


def check_differences(
    found: Mapping[str, Mapping[str, float]], tolerance: float, what: str = "onnxruntime"
) -> None:
    """Check that the export, run by `what`, returns the embeddings of PyTorch's network.

    Raises:
        ExportError: an exit differs by more than `tolerance`, or is not finite.
    """
    far = {n: gap["relative"] for n, gap in found.items() if not gap["relative"] <= tolerance}
    if far:
        listed = ", ".join(f"{name} {gap:.2g}" for name, gap in far.items())
        texts = [
            f"{what}'s embeddings differ from PyTorch's by more than {given} "
            f"{tolerance:g} of their largest value: {listed}. Nothing was written; raise it only "
            "if the accuracies agree"
            for given in ("tolerance", "--tolerance")
        ]
        raise with_options(ExportError(texts[0]), texts[1])


@dataclass(frozen=True, eq=False)
class TestImages:
    """The test split, each image once as pixels (H, W, 3) at the network's size."""

    data: ReidDataModule
    mul_adds: Mapping[str, int]
    batch_size: int
    shared_exit: str | None  # of the method

    def rows(self, embed: Embed) -> list[ExitRow]:
        """The accuracies of each exit by the data set's protocol.

        Raises:
            ExportError: embeddings that cannot be ranked.
        """
        query, gallery = self.data.splits("test")
        parts = [embed(pixels) for pixels in self._batches(len(query) + len(gallery))]
        q = len(query)
        rows = {
            name: torch.from_numpy(np.concatenate([part[name] for part in parts]))
            for name in self.mul_adds
        }
        exits = {
            name: Exit(rows[name][:q], rows[self.shared_exit or name][q:], cost)
            for name, cost in self.mul_adds.items()
        }
        embeddings = Embeddings(Ids.of(query), Ids.of(gallery), exits)
        try:
            table = evaluate(embeddings, protocol=self.data.benchmark.protocol).table()
        except ValueError as error:
            raise ExportError(f"the test split cannot be ranked: {error}") from error
        return [ExitRow(**row) for row in table]

    def _batches(self, count: int) -> Iterator[np.ndarray]:
        yield from batches(self.data.images_of("test"), range(count), self.batch_size)


def accuracies_of(rows: Iterable[ExitRow]) -> Accuracies:
    """Exit -> `mAP` and `rank1`."""
    return {row.name: {"mAP": row.mAP, "rank1": row.rank1} for row in rows}


def batches(images: Images, indices: range | np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Images at `indices` as pixels (n, H, W, 3), decoded by threads."""
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(indices), size):
            found = list(pool.map(images.__getitem__, indices[start : start + size]))
            yield np.ascontiguousarray(np.stack(found).transpose(0, 2, 3, 1))


def check_accuracies(
    torchs: Accuracies, found: Accuracies, tolerance: float, what: str = "onnxruntime"
) -> None:
    """Check that the accuracies of the export equal those of PyTorch's network.

    Raises:
        ExportError: mAP or Rank-1 of an exit differs by more than `tolerance`.
    """
    far = [
        f"{name} {metric} {value:.4f} against {found[name][metric]:.4f}"
        for name, row in torchs.items()
        for metric, value in row.items()
        if not abs(value - found[name][metric]) <= tolerance  # NaN is far
    ]
    if far:
        texts = [
            f"{what} ranks the test split otherwise than PyTorch, by more than "
            f"{given} {tolerance:g}: {'; '.join(far)}. Nothing was written"
            for given in ("map_tolerance", "--map-tolerance")
        ]
        raise with_options(ExportError(texts[0]), texts[1])


def speed_ratio(model: Model, than: Model, images: int) -> float:
    """Images/s of `model` over those of `than`: batches of `images`, by turns, each one's best."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, *model.image, 3), np.uint8)
    best = {model: np.inf, than: np.inf}
    for _ in range(ROUNDS + 1):  # the first round warms up and is never the best
        for one in best:
            start = time.perf_counter()
            one.embed(pixels)
            best[one] = min(best[one], time.perf_counter() - start)
    return best[than] / best[model]
