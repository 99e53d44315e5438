"""Deprecated: see `reid-lab workspace`."""
