"""The rows of the tables of verification, and these tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reid_lab.results.cells import Share, Signed
from reid_lab.results.table import Table


@dataclass(frozen=True, kw_only=True)
class RocRow:
    """`roc.csv`: false and true match rate of all pairs at `threshold`.

    The shares of impostor pairs (two people) and of genuine pairs (one person) nearer than it.
    """

    exit: str
    fmr: Share
    tmr: Share
    threshold: Signed


@dataclass(frozen=True, kw_only=True)
class OpenSetPoint:
    """The effect of the threshold for a target false match rate; shares are 0 to 1.

    Attributes:
        fmr: target share of impostor pairs nearer than the threshold.
        threshold: threshold in the metric's unit; nearer pairs pass. nan if the calibration pairs
            cannot show the rate: then all values are nan, and `note` gives the reason.
        calibration_fmr, calibration_tmr: rates of the pairs that the threshold was chosen on.
        known_fmr, known_tmr: rates of the known people's pairs, which were held out from that.
        tpir: true-positive identification rate at rank 1: known queries whose nearest image is
            nearer than the threshold and is the right person (ISO/IEC 19795-1; the detection and
            identification rate of Phillips et al., "Evaluation methods in face recognition",
            Handbook of Face Recognition, 2011).
        miss: known queries without an image nearer than the threshold.
        fpir: false-positive identification rate: queries of unknown people with an image nearer
            than it, false alarms.
        calibration_queries, known_queries, unknown_queries, gallery: numbers of images.
        known_fmr_low, known_fmr_high and so on: 95% confidence intervals of the rates of other
            people than the calibration people, by a bootstrap over identities. The threshold and
            the gallery are fixed, except that for `known_fmr` people are drawn on both sides of a
            pair. The calibration rates have no intervals, as the threshold was chosen to give the
            target `calibration_fmr`.
    """

    fmr: Share
    threshold: Signed
    calibration_fmr: Share
    calibration_tmr: Share
    known_fmr: Share
    known_tmr: Share
    tpir: Share
    miss: Share
    fpir: Share
    calibration_queries: int
    known_queries: int
    unknown_queries: int
    gallery: int
    note: str = ""
    known_fmr_low: Share = math.nan
    known_fmr_high: Share = math.nan
    known_tmr_low: Share = math.nan
    known_tmr_high: Share = math.nan
    tpir_low: Share = math.nan
    tpir_high: Share = math.nan
    miss_low: Share = math.nan
    miss_high: Share = math.nan
    fpir_low: Share = math.nan
    fpir_high: Share = math.nan


@dataclass(frozen=True, kw_only=True)
class OperatingPointRow(OpenSetPoint):
    """`operating_points.csv`: a threshold chosen for the false match rate `fmr`.

    `tmr_at_fmr` is for all pairs; it has no interval, as its threshold was chosen on the same
    pairs. `fingerprint` is that of the tested checkpoint, empty if there was none; its galleries
    take over the thresholds. Intervals are nan in older runs.
    """

    exit: str
    tmr_at_fmr: Share
    metric: str = ""
    fingerprint: str = ""


# columns of older files -> their names
FORMER = {"fpr": "fmr", "tpr": "tmr", "far": "fmr", "tpr_at_fpr": "tmr_at_fmr", "dir": "tpir"}
FORMER |= {"calibration_far": "calibration_fmr", "calibration_tpr": "calibration_tmr"}
FORMER |= {"known_far": "known_fmr", "known_tpr": "known_tmr"}
FORMER |= {
    f"{old}_{end}": f"{FORMER[old]}_{end}"
    for old in ("known_far", "known_tpr", "dir")
    for end in ("low", "high")
}
ROC = Table("roc.csv", RocRow, renamed=FORMER)
OPERATING_POINTS = Table("operating_points.csv", OperatingPointRow, renamed=FORMER)
