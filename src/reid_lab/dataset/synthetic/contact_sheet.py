"""A contact sheet, for documents and eyes."""

from __future__ import annotations

from PIL import Image

from reid_lab.dataset.synthetic.image import ImageKey, render_image
from reid_lab.dataset.synthetic.keys import Population
from reid_lab.dataset.synthetic.plan import seen_by
from reid_lab.dataset.synthetic.recipe import Recipe

GAP = 2  # pixels between pictures


def contact_sheet(recipe: Recipe, rows: int = 8, columns: int = 12) -> Image.Image:
    """A contact sheet of the first `rows` test people, one a row, each through their cameras.

    Neighbouring rows are often look-alikes. Raises ValueError for less than one row or column.
    """
    if rows < 1 or columns < 1:
        raise ValueError(f"rows={rows}, columns={columns}: give 1 or more of each")
    wide, high = recipe.width + GAP, recipe.height + GAP
    image = Image.new("RGB", (columns * wide - GAP, rows * high - GAP), "white")
    for row in range(rows):
        cameras = seen_by(recipe, Population.TEST, row)
        for column in range(columns):
            take, camera = divmod(column, len(cameras))
            pixels = render_image(recipe, ImageKey(Population.TEST, row, cameras[camera], take))
            image.paste(Image.fromarray(pixels), (column * wide, row * high))
    return image
