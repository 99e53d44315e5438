"""From a composed config to checked settings and the objects built from them."""

# without `from __future__ import annotations`, which would hide the module of that name
from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.config.check import ConfigError
    from reid_lab.config.overrides import composed

_HOMES = {"ConfigError": "check", "composed": "overrides"}
__all__ = ["ConfigError", "composed"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
