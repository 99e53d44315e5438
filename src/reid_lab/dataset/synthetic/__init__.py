"""Synthetic pedestrians in the Market-1501 folder layout.

No download, no GPU: every picture is drawn from a seed. People walk through a few cameras
that differ in viewpoint, light, and quality; some people are look-alikes who share garment
colours and differ in details, so colour alone does not solve the task.

    from reid_lab.dataset.synthetic import Recipe, render
    root = render("data/synthetic", Recipe(train_identities=50, test_identities=50), workers=2)
"""

from reid_lab.dataset.synthetic.contact_sheet import contact_sheet
from reid_lab.dataset.synthetic.recipe import Recipe
from reid_lab.dataset.synthetic.writer import render

__all__ = ["Recipe", "render", "contact_sheet"]
