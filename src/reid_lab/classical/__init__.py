"""What needs no network."""

from reid_lab.classical.histogram import HsvHistogram

__all__ = ["HsvHistogram"]
