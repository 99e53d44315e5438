"""How ranking keeps to its memory limit.

The limit bounds what is allocated beside the embeddings (float32, as the metric sees them: a copy
where they come in another form) and the results: blocks of distances and the work on them. Not
in them: buffers that libraries keep, such as a BLAS's, of a few MB a thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from reid_lab.retrieval.checks import check_bytes

GIGABYTE = 10**9
TILE_BYTES = 1 << 26
TILES = (512, 256, 128, 64)


@dataclass(frozen=True)
class BlockPlan:
    """`rows` queries' distances are held at once, from matrix products of `tile` queries.

    `spare`: bytes for the work on them.
    """

    tile: int
    rows: int
    spare: float

    @staticmethod
    def of(gallery: int, memory: float, work: float = 0) -> BlockPlan:
        """For `gallery` images and work that takes `work` bytes at the very least.

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
        """The fewest bytes that are enough."""
        return tile_rows(gallery) * 4 * gallery + work


def tile_rows(gallery: int) -> int:
    """Queries in one matrix product: fewer for a large gallery, independent of the memory.

    BLAS libraries choose their order of summation by the shapes. More than 512 make a CPU's
    product no faster.
    """
    return next((rows for rows in TILES if rows * gallery * 4 <= TILE_BYTES), TILES[-1])
