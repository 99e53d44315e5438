"""The card of a checkpoint: its training data and their terms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

UNKNOWN = "not known"
MAX_TEXT = 500  # characters of a value
RESEARCH = "research only, no redistribution; ask the owner"
# by the beginning of a data set's name; a summary, no advice: read the owner's licence
LICENCES = {
    "market1501": RESEARCH,
    "dukemtmc": "withdrawn by its authors in 2019",
    "cuhk03": RESEARCH,
    "msmt17": "research only, by a release agreement",
    "mars": RESEARCH,
    "viper": "released for research",
    "grid": RESEARCH,
    "veri776": "non-commercial research, on request",
    "atrw": "CC BY-NC-SA 4.0",
    "imagenet": "images for non-commercial research and education",
    "synthetic": "rendered by reid_lab, no real people",
}


@dataclass(frozen=True)
class ModelCard:
    """The origin of weights; "not known" where a file does not record it.

    Attributes:
        data: the training data set.
        data_licence: a remark on its terms, not legal advice.
        pretraining: the weights that training started from.
        pretraining_licence: a remark on their terms.
        recipe: the experiment or the toolbox that trained it.
        commit: commit of the code that trained or converted it.
    """

    data: str = UNKNOWN
    data_licence: str = UNKNOWN
    pretraining: str = UNKNOWN
    pretraining_licence: str = UNKNOWN
    recipe: str = UNKNOWN
    commit: str = UNKNOWN

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    @property
    def rows(self) -> dict[str, str]:
        """Label -> value, for display; unknown values are left out."""
        rows = {
            "trained on": self.data,
            "terms": self.data_licence,
            "pre-training": self.pretraining,
            "its terms": self.pretraining_licence,
            "recipe": self.recipe,
            "commit": self.commit,
        }
        return {label: value for label, value in rows.items() if value != UNKNOWN}

    @staticmethod
    def of(stored: Mapping[str, Any] | None) -> ModelCard | None:
        """The card in a file's content; None if there is none or it is malformed."""
        if not isinstance(stored, Mapping):
            return None
        known = {field.name for field in fields(ModelCard)}
        kept = {key: value for key, value in stored.items() if key in known}
        if not all(isinstance(v, str) and len(v) <= MAX_TEXT for v in kept.values()):
            return None
        return ModelCard(**{key: " ".join(value.split()) for key, value in kept.items()})


def licence_of(data: str) -> str:
    """A remark on the terms of a data set by its name, such as `market1501` or `cuhk03_new_x`."""
    name = re.sub(r"[^a-z0-9]", "", data.lower())
    found = [text for key, text in LICENCES.items() if name.startswith(key)]
    return found[0] if found else UNKNOWN
