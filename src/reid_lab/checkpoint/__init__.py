"""Checkpoints: their content, safe loading, allowed classes, fingerprints.

Checkpoints are not trusted. `torch.load` reads tensors and plain types only, every part is checked
before use, and classes in the config are looked up in an explicit list; nothing is imported because
a file names it.
"""

from reid_lab.checkpoint.accept_thresholds import (
    accept_thresholds_of,
    put_accept_thresholds,
    read_accept_thresholds,
)
from reid_lab.checkpoint.build import (
    NORMALISED,
    ROOMY,
    check_finite,
    check_normalised,
    load_model,
    open_model,
    revive,
    without_weights,
)
from reid_lab.checkpoint.classes import (
    PLUGINS,
    allowed_classes,
    check_targets,
    construct,
    import_plugins,
    register,
    stated,
)
from reid_lab.checkpoint.convert import checkpoint_of
from reid_lab.checkpoint.fingerprints import (
    fingerprint,
    fingerprint_of,
    fingerprint_of_state,
    fingerprint_of_variant,
)
from reid_lab.checkpoint.read import (
    CheckpointError,
    card_of,
    check_plain,
    check_resumable,
    read_card,
    read_checkpoint,
)

__all__ = [
    "CheckpointError",
    "NORMALISED",
    "PLUGINS",
    "ROOMY",
    "allowed_classes",
    "accept_thresholds_of",
    "card_of",
    "check_finite",
    "check_normalised",
    "check_plain",
    "check_resumable",
    "check_targets",
    "checkpoint_of",
    "construct",
    "fingerprint",
    "fingerprint_of",
    "fingerprint_of_state",
    "fingerprint_of_variant",
    "import_plugins",
    "load_model",
    "open_model",
    "put_accept_thresholds",
    "read_accept_thresholds",
    "read_card",
    "read_checkpoint",
    "register",
    "revive",
    "stated",
    "without_weights",
]
