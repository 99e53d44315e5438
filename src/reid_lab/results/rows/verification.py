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
        threshold: in the metric's own unit; a pair passes where it is nearer. nan where the
            calibration pairs cannot show the rate: then so is the rest, and `note` is the reason.
        calibration_far, calibration_tpr: rates of the pairs that the threshold was chosen on.
        known_far, known_tpr: rates of the known people's pairs, which were held out from that.
        dir: known queries whose nearest image is nearer than the threshold and is the right
            person: detection and identification rate at rank 1 (Phillips et al., "Evaluation
            methods in face recognition", Handbook of Face Recognition, 2011).
        miss: known queries with nothing nearer than the threshold.
        fpir: unknown people's queries with something nearer than it: false alarms.
        calibration_queries, known_queries, unknown_queries, gallery: numbers of images.
        known_far_low, known_far_high and so on: 95% confidence interval of what was tried on
            other people than the threshold was chosen on, by a bootstrap over identities. The
            threshold stays, and so does the gallery, but that for `known_far` people are drawn on
            both sides of a pair. The rates on the calibration people have none: the threshold was
            chosen so that their `calibration_far` is the wanted one.
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

    `tpr_at_fpr` is of all pairs; it has no interval, as its threshold was chosen on the same pairs.
    `fingerprint` is of the checkpoint that was tested, empty where the test read none; a gallery of
    it takes the thresholds over. Intervals are nan in older runs.
    """

    exit: str
    tpr_at_fpr: Share
    metric: str = ""
    fingerprint: str = ""


ROC = Table("roc.csv", RocRow)
OPERATING_POINTS = Table("operating_points.csv", OperatingPointRow)
