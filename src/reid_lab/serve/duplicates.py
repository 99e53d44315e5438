"""Images that were enrolled before, found by their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from reid_lab.serve.rows import Rows

SAME_IMAGE = 1e-4  # largest distance of one image's embeddings in two batches, by length
PRODUCT_ERROR = 1e-3  # error of a squared distance by matrix product, by squared length


class Duplicate(BaseModel):
    """An image that was added a second time."""

    image: Annotated[int, Field(description="number of the image that was added")]
    of: Annotated[int, Field(description="number of the same image, added before")]
    pid: Annotated[str, Field(description="whose image that is; another person: a mistake?")]


def duplicates(rows: Rows, exit: str, images: Sequence[int]) -> list[Duplicate]:
    """The first copy, and the first one of another person, of each image with these ids."""
    found, all_rows = [], rows.exits[exit]
    for new in np.flatnonzero(np.isin(rows.ids, images)).tolist():
        row = all_rows[new].astype(np.float64)
        squared = rows.distances(exit, all_rows[new : new + 1])[0, :new]  # ids ascend
        near = np.flatnonzero(squared <= PRODUCT_ERROR * (row @ row))
        apart = np.linalg.norm(all_rows[near].astype(np.float64) - row, axis=1)
        copies = near[apart <= SAME_IMAGE * np.linalg.norm(row)]
        _, first = np.unique(rows.people[copies] == rows.people[new], return_index=True)
        for copy in sorted(copies[first].tolist()):
            pid = rows.pids[rows.people[copy]]
            found.append(Duplicate(image=int(rows.ids[new]), of=int(rows.ids[copy]), pid=pid))
    return found
