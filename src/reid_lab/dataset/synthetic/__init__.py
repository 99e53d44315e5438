"""Synthetic pedestrians in the Market-1501 folder layout.

No download and no GPU: every image is drawn from a seed. People walk past a few cameras that differ
in viewpoint, light and image quality. Some people are look-alikes, who share garment colours and
differ in details, so that colour alone does not solve the task.

    from reid_lab.dataset.synthetic import Recipe, render
    root = render("data/synthetic", Recipe(train_identities=50, test_identities=50), workers=2)
"""

from reid_lab.dataset.synthetic.contact_sheet import contact_sheet
from reid_lab.dataset.synthetic.recipe import Recipe
from reid_lab.dataset.synthetic.writer import render

__all__ = ["Recipe", "render", "contact_sheet"]
