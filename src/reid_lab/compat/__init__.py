"""What is used of Lightning and Hydra without being in their public API.

`pyproject.toml` allows only the minor releases for which `tests/compat` passes.
"""
