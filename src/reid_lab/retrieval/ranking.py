"""The ranks of the matches of each query, counted block by block in bounded memory.

The rank of a match is the number of gallery images that are nearer, ties broken by gallery
index. A CPU compares a row of distances with those of the query's matches, which is faster than a
sort; with many matches, and on a GPU, the row is sorted and the matches are looked up in it. Only
the few ties are compared by index.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.output.arguments import check_choice, check_type
from reid_lab.protocol import DISTRACTOR, JUNK, Hidden
from reid_lab.retrieval.checks import check_count, check_paths
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.memory import GIGABYTE, BlockPlan, tile_rows
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.processes import ALONE, Processes
from reid_lab.retrieval.space import Metric, Space

ROWS = 32  # rows that a thread ranks at a time
COMPARED = 64  # matches of a query; with more, sorting the row is faster
COUNTING = COMPARED + 5  # bytes of a thread for each gallery image: masks and a copy of the row
TIED_ROWS = 4  # compared at a time
IMAGE = 64  # bytes for each gallery image: sorted ids, masks, norms
SLOT = 200  # bytes for each match that is looked up
CUDA_SORT = 40  # bytes for each distance that a GPU sorts


def rank(
    query: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray,
    query_ids: Ids,
    gallery_ids: Ids,
    metric: Metric = "euclidean",
    hidden: Hidden = "same_person_and_camera",
    memory: float = GIGABYTE,
    processes: Processes = ALONE,
) -> Ranking:
    """Rank the gallery (G, D) for each query (Q, D).

    A match is a gallery image of the query's person that is not `hidden` (see Protocol).
    Distractors (pid 0) and junk (pid -1) have no match as queries. Queries without a match are
    excluded from the means. Ties are broken by gallery index, whatever the
    memory, device and number of threads.

    All against all: `rank(rows, rows, ids, ids, hidden="itself")`.

    Args:
        query: (Q, D), a tensor or NumPy array of real numbers; compared in float32.
        gallery: (G, D), as `query`.
        query_ids: pids, camids and paths of the queries.
        gallery_ids: pids, camids and paths of the gallery images.
        metric: `euclidean`, `cosine`, `l1` or a `Mahalanobis` metric.
        hidden: gallery images that are hidden from a query, see Protocol.
        memory: limit in bytes on the work beside the embeddings, see memory.py.
        processes: processes that share the work; each returns the whole ranking.

    Returns:
        CMC, mAP and mINP: `ranking.rank1`, `.cmc(k)`, `.mAP`, `.mINP`, `.summary()`.

    Raises:
        UserError: empty gallery, different dimensions, rows that cannot be ranked, other
            numbers of ids than of rows, too little memory, or an image without a path or with
            two pids where it is hidden from itself.
    """
    check_choice("hidden", hidden, get_args(Hidden))
    space = Space.of(query, gallery, metric)
    check_sides(space, query_ids, gallery_ids)
    if hidden == "itself":
        check_images(query_ids, gallery_ids)
    work = rank_work(query_ids, gallery_ids, space.gallery.is_cuda)
    spare = BlockPlan.of(len(gallery_ids), memory, work).spare
    mine = processes.share(len(space.query), tile_rows(len(gallery_ids)))
    blocks = space.part(mine).blocks(memory, work)
    found = rank_blocks(blocks, query_ids.part(mine), gallery_ids, hidden, spare)
    return Ranking.concatenate(processes.gather(found))


def check_memory(query: Ids, gallery: Ids, memory: float) -> None:
    """Check that `memory` bytes are enough for `rank` on a CPU.

    Raises:
        UserError: they are not; the message gives the bytes that are needed.
    """
    BlockPlan.of(len(gallery), memory, rank_work(query, gallery))


def check_sides(space: Space, query: Ids, gallery: Ids) -> None:
    """Check that there is one id per row.

    Raises:
        UserError: there are more or fewer ids than rows.
    """
    check_type("query_ids", query, Ids, "Ids(pids, camids, paths)")
    check_type("gallery_ids", gallery, Ids, "Ids(pids, camids, paths)")
    check_count("query", space.query, len(query))
    check_count("gallery", space.gallery, len(gallery))


def check_images(query: Ids, gallery: Ids) -> None:
    """Check that paths identify the images, so that a query can be hidden from itself.

    Raises:
        UserError: an image has no path, is listed twice or has two pids.
    """
    for name, ids in (("query", query), ("gallery", gallery)):
        if any(path is None for path in ids.paths):
            raise UserError(
                f"hidden=itself: {name} images have no paths, which identify them: give a path for "
                "each image"
            )
        check_paths(name, ids.paths, ids.boxes)
    pids = dict(zip(gallery.images.tolist(), gallery.pids.tolist(), strict=True))
    for row, (image, pid) in enumerate(
        zip(query.images.tolist(), query.pids.tolist(), strict=True)
    ):
        if pids.get(image, pid) != pid:
            raise UserError(
                f"{query.paths[row]} has pid {pid} as a query and {pids[image]} in the gallery: "
                "correct one of them"
            )


def rank_work(query: Ids, gallery: Ids, cuda: bool = False) -> int:
    """The least bytes that `rank_blocks` takes beside the blocks."""
    counting = CUDA_SORT if cuda else COUNTING
    return (IMAGE + counting) * len(gallery) + SLOT * most_images(query, gallery)


class Reranker(ABC):
    """Ranks as `rank` does, by other distances in the metric's space.

    See rerank.py and expansion.py.
    """

    name: ClassVar[str]

    def rank(
        self,
        query: Tensor,
        gallery: Tensor,
        query_ids: Ids,
        gallery_ids: Ids,
        metric: Metric = "euclidean",
        hidden: Hidden = "same_person_and_camera",
        memory: float = GIGABYTE,
        processes: Processes = ALONE,
    ) -> Ranking:
        """Rank like `ranking.rank`; `memory`: see `check_memory`."""
        if hidden == "itself":
            raise UserError(
                "re-ranking cannot be combined with hidden=itself, where each query is its own "
                "nearest neighbour: leave re-ranking out"
            )
        space = Space.of(query, gallery, metric)
        check_sides(space, query_ids, gallery_ids)
        self.check_memory(query_ids, gallery_ids, space.gallery.shape[1], memory)
        return self.rank_space(space, query_ids, gallery_ids, hidden, memory, processes)

    @abstractmethod
    def check_memory(self, query_ids: Ids, gallery_ids: Ids, dim: int, memory: float) -> None:
        """Check that `memory` bytes are enough for `rank` on a CPU.

        Raises:
            UserError: they are not.
        """

    @abstractmethod
    def rank_space(
        self,
        space: Space,
        query_ids: Ids,
        gallery_ids: Ids,
        hidden: Hidden,
        memory: float,
        processes: Processes,
    ) -> Ranking:
        """The ranking of the space's gallery for its queries."""


def rank_blocks(
    blocks: Iterable[tuple[slice, Tensor]],
    query_ids: Ids,
    gallery_ids: Ids,
    hidden: Hidden,
    spare: float,
) -> Ranking:
    """Rank the gallery by blocks of distances.

    Args:
        blocks: (rows, distances (len(rows), G)); the distances are overwritten.
        spare: working memory in bytes, at least `rank_work`.
    """
    known = MatchLookup(gallery_ids, hidden)
    threads = torch.get_num_threads()
    counting = COUNTING * len(gallery_ids)  # bytes of a thread
    spare -= IMAGE * len(gallery_ids)
    workers = max(1, min(threads, int(spare / 2 / counting)))
    found = Ranking.skipped(len(query_ids))  # small parts that stay would scatter the memory
    with ThreadPoolExecutor(workers) as pool:
        for rows, distances in blocks:
            taken = CUDA_SORT * len(gallery_ids) if distances.is_cuda else 0
            left = spare if distances.is_cuda else spare - workers * counting
            step = max(1, int(left / (taken + SLOT * most_images(query_ids, gallery_ids))))
            for some, part in _in_steps(rows, distances, step):
                known.hide_cameras(part, query_ids.camids[some])
                ranked = _rank_rows(part, *known.of(query_ids, some), known.junk, pool)
                found.put(some, ranked)
    return found


def _in_steps(rows: slice, distances: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(distances), step):
        part = distances[start : start + step]
        yield slice(rows.start + start, rows.start + start + len(part)), part


def most_images(query: Ids, gallery: Ids) -> int:
    """The most gallery images that show a query's person, at least 1."""
    people, count = gallery.pids.unique(return_counts=True)
    queried = torch.isin(people, query.pids[query.pids > DISTRACTOR])
    return max(1, int(count[queried].max())) if bool(queried.any()) else 1


class MatchLookup:
    """The gallery images sorted by person, to look up matches and hidden images of a query.

    Raises:
        UserError: an unknown `hidden`.
    """

    def __init__(self, gallery: Ids, hidden: Hidden) -> None:
        if hidden not in get_args(Hidden):
            raise UserError(f"hidden={hidden!r}: available: {', '.join(get_args(Hidden))}")
        self.hidden, self.gallery, self.camids = hidden, gallery, gallery.camids
        self.pids, self.order = gallery.pids.sort(stable=True)
        self.junk = (gallery.pids == JUNK).nonzero().flatten()

    def of(self, query: Ids, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """(q, M) each: gallery images of the query's person, ascending; matches; hidden ones.

        Distractors and junk, pids 0 and -1, have none as queries.
        """
        pids, camids = query.pids[rows].contiguous(), query.camids[rows]
        start, end = (torch.searchsorted(self.pids, pids, right=right) for right in (False, True))
        count = (end - start).masked_fill(pids <= DISTRACTOR, 0)
        slots = torch.arange(max(1, int(count.max()) if len(count) else 0))
        real = slots < count[:, None]
        index = self.order[(start[:, None] + slots).clamp(max=len(self.order) - 1)]
        if self.hidden == "nothing":
            unseen = torch.zeros_like(real)
        elif self.hidden == "itself":
            unseen = self.gallery.images[index] == query.images[rows, None]
        else:
            unseen = self.camids[index] == camids[:, None]
        return index, real & ~unseen, real & unseen

    def hide_cameras(self, distances: Tensor, camids: Tensor) -> None:
        """Under `same_camera`, hide all images of each query's camera, also of other people."""
        if self.hidden == "same_camera":
            cameras = self.camids.to(distances.device)
            for row, camera in zip(distances, camids.tolist(), strict=True):
                row.masked_fill_(cameras == camera, torch.inf)


def answerable(query: Ids, gallery: Ids, hidden: Hidden) -> Tensor:
    """(Q,) bool: queries of a person with a match, a gallery image that is not hidden."""
    shows = gallery.pids > DISTRACTOR
    people, index = gallery.pids[shows].unique(return_inverse=True)
    found = torch.isin(query.pids, people)
    if hidden == "nothing":
        return found
    of_query, of_gallery = (
        ids.images if hidden == "itself" else ids.camids for ids in (query, gallery)
    )
    own, theirs = of_query[found], of_gallery[shows]
    ends = (
        theirs.new_zeros(len(people)).scatter_reduce(0, index, theirs, end, include_self=False)
        for end in ("amin", "amax")
    )
    person = torch.searchsorted(people, query.pids[found])
    least, most = (end[person] for end in ends)
    return found.masked_scatter(found, (least != own) | (most != own))


def hidden_mask(query: Ids, gallery: Ids, hidden: Hidden) -> Tensor:
    """(Q, G) bool: gallery images that are hidden from each query, see Protocol."""
    junk = (gallery.pids == JUNK)[None]
    if hidden == "nothing":
        return junk.expand(len(query), -1)
    if hidden == "itself":
        return (query.images[:, None] == gallery.images[None]) | junk
    same_camera = query.camids[:, None] == gallery.camids[None]
    if hidden == "same_camera":
        return same_camera | junk
    return (same_camera & (query.pids[:, None] == gallery.pids[None])) | junk


def _rank_rows(
    distances: Tensor,
    index: Tensor,
    match: Tensor,
    hidden: Tensor,
    junk: Tensor,
    pool: ThreadPoolExecutor,
) -> Ranking:
    device = distances.device
    index, match, hidden = index.to(device), match.to(device), hidden.to(device)
    row, slot = hidden.nonzero(as_tuple=True)
    distances[row, index[row, slot]] = torch.inf
    distances.index_fill_(1, junk.to(device), torch.inf)
    far = distances.gather(1, index).masked_fill(~match, torch.inf)
    far, order = far.sort(dim=1, stable=True)
    ranks = ranks_of(distances, far, index.gather(1, order), pool)
    return Ranking.of_ranks(ranks, match.sum(1))


def ranks_of(distances: Tensor, far: Tensor, index: Tensor, pool: ThreadPoolExecutor) -> Tensor:
    """(q, M) 1-based ranks in `distances` (q, G) of the images `index`, at distances `far`.

    Ascending in `far` (q, M), ties by `index`; infinity is padding.
    """
    nearer, tied = _count(distances, far, pool)
    column = torch.arange(distances.shape[1], device=distances.device)
    for slot in tied.any(0).nonzero().flatten().tolist():
        for rows in tied[:, slot].nonzero().flatten().split(TIED_ROWS):
            as_far = distances[rows] == far[rows, slot, None]
            nearer[rows, slot] += (as_far & (column < index[rows, slot, None])).sum(1)
    return nearer + 1


def _count(distances: Tensor, far: Tensor, pool: ThreadPoolExecutor) -> tuple[Tensor, Tensor]:
    """(q, M) number of distances in a row below `far`, ascending; and whether several equal it."""
    if distances.is_cuda:
        ascending = distances.sort(1).values
        nearer = torch.searchsorted(ascending, far)
        after = (nearer + 1).clamp(max=ascending.shape[1] - 1)
        tied = (ascending.gather(1, after) == far) & torch.isfinite(far) & (after > nearer)
        return nearer, tied
    parts = zip(*(x.tensor_split(len(x) // ROWS + 1) for x in (distances, far)), strict=True)
    counted = list(pool.map(lambda part: _count_rows(*(x.numpy() for x in part)), parts))
    nearer_rows, tied_rows = zip(*counted, strict=True)
    return torch.from_numpy(np.concatenate(nearer_rows)), torch.from_numpy(
        np.concatenate(tied_rows)
    )


def _count_rows(distances: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`_count` of a few rows as arrays, on a CPU; zero where `far` is padding."""
    nearer, tied = np.zeros(far.shape, np.int64), np.zeros(far.shape, bool)
    for i, real in enumerate(np.isfinite(far)):
        if real.any():
            nearer[i, real], tied[i, real] = _count_row(distances[i], far[i, real])
    return nearer, tied


def _count_row(row: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`_count` of a row (G,) for `far` (M,), M > 0."""
    row = row[row <= far[-1]]  # the others are behind all matches
    if len(far) > COMPARED:
        ascending = np.sort(row)
        nearer, upto = (ascending.searchsorted(far, side) for side in ("left", "right"))
        return nearer, upto - nearer > 1
    mask = row < far[:, None]
    nearer = np.array([np.count_nonzero(each) for each in mask])
    np.equal(row, far[:, None], out=mask)
    if np.count_nonzero(mask) == len(far):  # each equals itself alone
        return nearer, np.zeros(len(far), bool)
    return nearer, np.array([np.count_nonzero(each) > 1 for each in mask])
