"""An HTTP service over an exported network: FastAPI, onnxruntime and SQLite, no torch.

reid-lab serve --model exported/ --people people.sqlite --gallery gallery/

`open_service` does the same; names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.serve.guard import Limits
    from reid_lab.serve.open import OpenService, open_service
    from reid_lab.serve.people_export import PeopleExport, export_people
    from reid_lab.serve.scheduler import Target

_HOMES = {
    "Limits": "guard",
    "OpenService": "open",
    "PeopleExport": "people_export",
    "Target": "scheduler",
    "export_people": "people_export",
    "open_service": "open",
}
__all__ = ["Limits", "OpenService", "PeopleExport", "Target", "export_people", "open_service"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
