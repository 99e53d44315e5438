"""Checkpoints: their content, safe loading, allowed classes, fingerprints.

Checkpoints are not trusted. `torch.load` reads tensors and plain types only, every part is checked
before use, and classes in the config are looked up in an explicit list; nothing is imported because
a file names it.

`__all__` is for users; the names that are imported `as` themselves are for the other packages.
"""

from reid_lab.checkpoint.accept_thresholds import accept_thresholds_of as accept_thresholds_of
from reid_lab.checkpoint.accept_thresholds import change_checkpoint as change_checkpoint
from reid_lab.checkpoint.accept_thresholds import put_accept_thresholds as put_accept_thresholds
from reid_lab.checkpoint.accept_thresholds import read_accept_thresholds as read_accept_thresholds
from reid_lab.checkpoint.accept_thresholds import with_accept_thresholds as with_accept_thresholds
from reid_lab.checkpoint.build import NORMALISED as NORMALISED
from reid_lab.checkpoint.build import ROOMY as ROOMY
from reid_lab.checkpoint.build import check_finite as check_finite
from reid_lab.checkpoint.build import check_normalised as check_normalised
from reid_lab.checkpoint.build import load_model
from reid_lab.checkpoint.build import open_model as open_model
from reid_lab.checkpoint.build import revive as revive
from reid_lab.checkpoint.build import without_weights as without_weights
from reid_lab.checkpoint.classes import PLUGINS as PLUGINS
from reid_lab.checkpoint.classes import allowed_classes, register
from reid_lab.checkpoint.classes import check_targets as check_targets
from reid_lab.checkpoint.classes import construct as construct
from reid_lab.checkpoint.classes import import_plugins as import_plugins
from reid_lab.checkpoint.classes import stated as stated
from reid_lab.checkpoint.convert import checkpoint_of as checkpoint_of
from reid_lab.checkpoint.fingerprints import fingerprint
from reid_lab.checkpoint.fingerprints import fingerprint_of as fingerprint_of
from reid_lab.checkpoint.fingerprints import fingerprint_of_state as fingerprint_of_state
from reid_lab.checkpoint.fingerprints import fingerprint_of_variant as fingerprint_of_variant
from reid_lab.checkpoint.read import CheckpointError, read_card, read_checkpoint
from reid_lab.checkpoint.read import card_of as card_of
from reid_lab.checkpoint.read import check_plain as check_plain
from reid_lab.checkpoint.read import check_resumable as check_resumable

__all__ = [
    "CheckpointError",
    "allowed_classes",
    "fingerprint",
    "load_model",
    "read_card",
    "read_checkpoint",
    "register",
]
