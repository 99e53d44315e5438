"""Requirements of triplet losses on training batches."""

from __future__ import annotations

from reid_lab.dataset import ReidDataModule
from reid_lab.errors import UserError


class SettingError(UserError):
    """Settings of triplets do not fit the training batches."""


def check_pk_batches(data: object) -> None:
    """Check that a `ReidDataModule` returns PK batches; other data modules are not checked.

    Raises:
        SettingError: its batches are random images, most of which have no positive.
    """
    if isinstance(data, ReidDataModule) and data.batch_size is not None:
        raise SettingError(
            f"dataset.batch_size={data.batch_size}: triplets need PK batches, dataset.k images of "
            "each of dataset.p people, and in batches of any images most have no positive; give "
            f"dataset.batch_size=null dataset.p={data.p} dataset.k={data.k}, or other p and k"
        )
