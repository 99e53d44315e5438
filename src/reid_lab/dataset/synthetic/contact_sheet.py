"""A contact sheet of synthetic people."""

from __future__ import annotations

from PIL import Image

from reid_lab.dataset.synthetic.image import ImageKey, render_image
from reid_lab.dataset.synthetic.keys import Population
from reid_lab.dataset.synthetic.plan import seen_by
from reid_lab.dataset.synthetic.recipe import Recipe

GAP = 2  # pixels between images


def contact_sheet(recipe: Recipe, rows: int = 8, columns: int = 12) -> Image.Image:
    """Render the first `rows` test people, one per row, in their cameras in turn.

    Neighbouring rows are often look-alikes.

    Raises:
        ValueError: fewer than one row or column.
    """
    if rows < 1 or columns < 1:
        raise ValueError(f"rows={rows}, columns={columns}: both must be 1 or more")
    wide, high = recipe.width + GAP, recipe.height + GAP
    image = Image.new("RGB", (columns * wide - GAP, rows * high - GAP), "white")
    for row in range(rows):
        cameras = seen_by(recipe, Population.TEST, row)
        for column in range(columns):
            take, camera = divmod(column, len(cameras))
            pixels = render_image(recipe, ImageKey(Population.TEST, row, cameras[camera], take))
            image.paste(Image.fromarray(pixels), (column * wide, row * high))
    return image
