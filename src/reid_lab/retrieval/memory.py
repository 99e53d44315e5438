"""How ranking keeps to its memory limit.

The limit covers blocks of distances and the work on them. It excludes the embeddings (float32, in
the metric's space: a copy if they are given in another form), the results, and buffers of libraries
such as BLAS, a few MB per thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from reid_lab.retrieval.checks import check_bytes

GIGABYTE = 10**9
TILE_BYTES = 1 << 27
TILES = (512, 256, 128, 64)


@dataclass(frozen=True)
class BlockPlan:
    """The distances of `rows` queries are held at once, from matrix products of `tile` queries.

    `spare`: bytes for the work on them.
    """

    tile: int
    rows: int
    spare: float

    @staticmethod
    def of(gallery: int, memory: float, work: float = 0) -> BlockPlan:
        """Plan for `gallery` images and work that needs at least `work` bytes.

        Raises:
            UserError: `memory` is not a number of bytes, or too few for one tile and the work.
        """
        tile, row = tile_rows(gallery), 4 * gallery
        what = f"the distances of {tile} queries to {gallery:,} gallery images and work on them"
        memory = check_bytes(memory, BlockPlan.least(gallery, work), what)
        fitting = [r for r in TILES if r >= tile and r * row + max(work, r * row / 2) <= memory]
        rows = fitting[0] if fitting else tile
        return BlockPlan(tile, rows, memory - rows * row)

    @staticmethod
    def least(gallery: int, work: float) -> float:
        """The smallest sufficient number of bytes."""
        return tile_rows(gallery) * 4 * gallery + work


def tile_rows(gallery: int) -> int:
    """Queries per matrix product: fewer for a large gallery, independent of the memory.

    BLAS libraries choose the order of summation by the shapes. More than 512 queries are no faster
    on a CPU.
    """
    return next((rows for rows in TILES if rows * gallery * 4 <= TILE_BYTES), TILES[-1])
