"""The rows of the tables of verification, and these tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reid_lab.results.cells import Share, Signed
from reid_lab.results.table import Table


@dataclass(frozen=True, kw_only=True)
class RocRow:
    """`roc.csv`: shares of impostor and genuine pairs that are nearer than `threshold`."""

    exit: str
    fpr: Share
    tpr: Share
    threshold: Signed


@dataclass(frozen=True, kw_only=True)
class OpenSetPoint:
    """The effect of the threshold for a target false-accept rate; shares are 0 to 1.

    Attributes:
        far: target share of impostor pairs nearer than the threshold.
        threshold: threshold in the metric's unit; nearer pairs pass. nan if the calibration pairs
            cannot show the rate: then all values are nan, and `note` gives the reason.
        calibration_far, calibration_tpr: rates of the pairs that the threshold was chosen on.
        known_far, known_tpr: rates of the known people's pairs, which were held out from that.
        dir: known queries whose nearest image is nearer than the threshold and is the right
            person: detection and identification rate at rank 1 (Phillips et al., "Evaluation
            methods in face recognition", Handbook of Face Recognition, 2011).
        miss: known queries without an image nearer than the threshold.
        fpir: queries of unknown people with an image nearer than it: false alarms.
        calibration_queries, known_queries, unknown_queries, gallery: numbers of images.
        known_far_low, known_far_high and so on: 95% confidence intervals of the rates of other
            people than the calibration people, by a bootstrap over identities. The threshold and
            the gallery are fixed, except that for `known_far` people are drawn on both sides of a
            pair. The calibration rates have no intervals, as the threshold was chosen to give the
            target `calibration_far`.
    """

    far: Share
    threshold: Signed
    calibration_far: Share
    calibration_tpr: Share
    known_far: Share
    known_tpr: Share
    dir: Share
    miss: Share
    fpir: Share
    calibration_queries: int
    known_queries: int
    unknown_queries: int
    gallery: int
    note: str = ""
    known_far_low: Share = math.nan
    known_far_high: Share = math.nan
    known_tpr_low: Share = math.nan
    known_tpr_high: Share = math.nan
    dir_low: Share = math.nan
    dir_high: Share = math.nan
    miss_low: Share = math.nan
    miss_high: Share = math.nan
    fpir_low: Share = math.nan
    fpir_high: Share = math.nan


@dataclass(frozen=True, kw_only=True)
class OperatingPointRow(OpenSetPoint):
    """`operating_points.csv`: a threshold chosen for the false-accept rate `far`.

    `tpr_at_fpr` is for all pairs; it has no interval, as its threshold was chosen on the same
    pairs. `fingerprint` is that of the tested checkpoint, empty if there was none; its galleries
    take over the thresholds. Intervals are nan in older runs.
    """

    exit: str
    tpr_at_fpr: Share
    metric: str = ""
    fingerprint: str = ""


ROC = Table("roc.csv", RocRow)
OPERATING_POINTS = Table("operating_points.csv", OperatingPointRow)
