"""Load the teacher of a student, and check what its kept outputs require."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig

from reid_lab.checkpoint import check_normalised, fingerprint_of_state, read_checkpoint, revive
from reid_lab.config.make import image_size, make
from reid_lab.dataset import Transforms
from reid_lab.errors import UserError
from reid_lab.model.distilled import Distilled
from reid_lab.model.teacher import Teacher


def give_teacher(student: Distilled, cfg: DictConfig) -> None:
    """Load a student's teacher.

    Raises:
        UserError: the teacher cannot be loaded, or does not fit the student.
    """
    if cfg.model.cache is not None:
        check_not_augmented(cfg)
    teacher = None if cfg.model.teacher is None else load_teacher(cfg.model.teacher)
    if teacher is not None and cfg.channels_last:
        teacher.module.to(memory_format=torch.channels_last)
    student.learn_from(teacher, image_size(cfg))


def load_teacher(checkpoint: str) -> Teacher:
    """Load any checkpoint of reid_lab as a teacher; it must have the same normalisation of images.

    Raises:
        UserError: not a checkpoint of this suite, or one with another normalisation.
    """
    path = Path(checkpoint).expanduser()
    state = read_checkpoint(path)
    kept = state["hyper_parameters"]
    check_normalised(kept, f"model.teacher={path}")
    if "image" not in kept:
        raise UserError(f"model.teacher={path} does not hold an image size: train it again")
    model = revive(state, f"model.teacher={path}")
    return Teacher(model, tuple(kept["image"]), str(path), fingerprint_of_state(state))


def check_not_augmented(cfg: DictConfig) -> None:
    """Check that training images are not augmented, as the cache of a teacher's outputs requires.

    Raises:
        UserError: they are augmented, or the student teaches itself.
    """
    transforms = make(cfg, "dataset.transforms")
    tested = {
        key: getattr(transforms, key) for key in ("height", "width", "test_crop", "test_views")
    }
    if transforms != Transforms(**tested, enlarge=1, flip=0, erase=0):
        raise UserError(
            f"model.cache={cfg.model.cache}: a teacher's outputs can be kept where each image is "
            "always shown the same; set dataset.transforms.enlarge=1 flip=0 erase=0 and no patch "
            "or colour jitter, or model.cache=null"
        )
    if cfg.model.teacher is None:
        raise UserError("model.cache: a student that teaches itself changes; set model.cache=null")
