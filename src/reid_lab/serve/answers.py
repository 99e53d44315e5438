"""The JSON answers of the routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from reid_lab.openset.thresholds import Kind
from reid_lab.openset.verdicts import Verdict
from reid_lab.serve.duplicates import Duplicate
from reid_lab.serve.frontier import ServedAccuracy
from reid_lab.serve.in_force import UpgradeName, UpgradeState
from reid_lab.serve.people import Match
from reid_lab.serve.scheduler import Target


class ErrorText(BaseModel):
    status: Annotated[int, Field(description="the HTTP status")]
    message: Annotated[str, Field(description="what was given, what is allowed, how to fix it")]


class ErrorAnswer(BaseModel):
    """The one form of all errors."""

    error: ErrorText


class SpentAnswer(BaseModel):
    """The exit and the cost of a query."""

    exit: Annotated[str, Field(description="whose embedding was used")]
    mul_adds: Annotated[float, Field(description="that were spent; of a track, on all images")]
    ms: Annotated[float, Field(description="from the arrival of the request to the answer")]
    late_ms: Annotated[float, Field(description="behind the deadline; 0 if in time")]


class EmbeddedAnswer(SpentAnswer):
    embeddings: Annotated[dict[str, list[float]], Field(description="by exit")]


class EmbedAnswer(BaseModel):
    results: Annotated[list[EmbeddedAnswer], Field(description="one for each image or box")]


class RateAnswer(BaseModel):
    """A false-accept rate that is shown: FPIR of searches, FMR of pairs."""

    rate: Annotated[float, Field(description="that asked for, or the next that can be shown")]
    kind: Annotated[Kind, Field(description="what it is a share of")]
    source: Annotated[str, Field(description="whose images the threshold was fitted on")]
    people: Annotated[int, Field(description="how many people these are")]
    coarse: Annotated[bool, Field(description="too few images or people show the rate")]


class VerdictAnswer(SpentAnswer):
    verdict: Annotated[
        Verdict | None, Field(description="ambiguous: two people are near; null: no threshold")
    ]
    threshold: Annotated[
        float | None, Field(description="nearer people are known, for the verdict")
    ]
    false_accept_rate: Annotated[RateAnswer | None, Field(description="of that threshold")]


class FoundAnswer(VerdictAnswer):
    spread: Annotated[
        float | None,
        Field(description="of a track: the mean distance of its images to their mean embedding"),
    ]
    matches: Annotated[list[Match], Field(description="the nearest images, nearest first")]


class SearchAnswer(BaseModel):
    results: Annotated[list[FoundAnswer], Field(description="one for each image, box, or track")]


class ComparedAnswer(VerdictAnswer):
    distance: Annotated[float | None, Field(description="from the person's nearest image")]
    accepted: Annotated[
        bool | None, Field(description="whether that is below pair_threshold; null: there is none")
    ]
    pair_threshold: Annotated[
        float | None, Field(description="for a comparison with one person, for accepted")
    ]
    pair_false_accept_rate: Annotated[RateAnswer | None, Field(description="of pair_threshold")]


class VerifyAnswer(BaseModel):
    results: Annotated[list[ComparedAnswer], Field(description="one for each image or box")]


class EnrollAnswer(BaseModel):
    pid: Annotated[str, Field(description="the person's name")]
    images: Annotated[list[int], Field(description="numbers of the images that were added")]
    duplicates: Annotated[list[Duplicate], Field(description="those that were there already")]


class PersonAnswer(BaseModel):
    pid: Annotated[str, Field(description="the person's name")]
    images: Annotated[int, Field(description="how many are known")]
    image: Annotated[int, Field(description="the number of the first one")]


class PeopleAnswer(BaseModel):
    people: Annotated[list[PersonAnswer], Field(description="in the order of their names")]
    next: Annotated[str | None, Field(description="start of the next part; null: the last one")]


class RemovedAnswer(BaseModel):
    pid: Annotated[str, Field(description="the person's name")]
    removed: Annotated[int, Field(description="how many images")]


class LabelAnswer(BaseModel):
    label: Annotated[int, Field(description="its number")]


class KeptLabel(BaseModel):
    label: Annotated[int, Field(description="its number")]
    pid: Annotated[str, Field(description="the person's name")]
    correct: Annotated[bool, Field(description="whether the image is of that person")]
    exit: Annotated[str, Field(description="whose distance it is, by the model of that time")]
    distance: Annotated[float, Field(description="of the image from the person's nearest")]
    time: Annotated[float, Field(description="when it was kept, in seconds since 1970")]


class LabelsAnswer(BaseModel):
    labels: list[KeptLabel]


class HealthAnswer(BaseModel):
    status: Literal["ok"]
    version: Annotated[str, Field(description="of reid-lab")]
    model: Annotated[str, Field(description="fingerprint of the current export")]
    target: Annotated[Target, Field(description="what a query may spend")]
    upgrade: Annotated[UpgradeName, Field(description="state of the last upgrade (POST /model)")]


class UpgradeAnswer(BaseModel):
    model: Annotated[str, Field(description="fingerprint of the current export")]
    upgrade: Annotated[UpgradeState, Field(description="of the last upgrade")]


class ExitAnswer(BaseModel):
    name: Annotated[str, Field(description="of the exit")]
    mul_adds: Annotated[float, Field(description="of an image that leaves there")]
    ms: Annotated[float, Field(description="of an image there, in a full batch, as measured")]
    alone_ms: Annotated[float, Field(description="of a single image there, as measured")]
    queries: Annotated[int, Field(description="that left there")]


class StatusAnswer(BaseModel):
    model: Annotated[str, Field(description="the export's fingerprint")]
    precision: Annotated[str, Field(description="of the network")]
    card: Annotated[dict[str, str], Field(description="what is known of its training")]
    image: Annotated[tuple[int, int], Field(description="height and width of the network's input")]
    exits: Annotated[list[ExitAnswer], Field(description="cheapest first")]
    target: Annotated[Target, Field(description="what a query may spend")]
    budget_ms: Annotated[float, Field(description="current mean budget of a query")]
    waiting: Annotated[int, Field(description="images that wait")]
    late: Annotated[int, Field(description="queries that were behind their deadline")]
    in_flight: Annotated[int, Field(description="images of requests that are not answered yet")]
    refused: Annotated[int, Field(description="requests that would have waited too long")]
    max_wait_ms: Annotated[float | None, Field(description="beyond which they are refused")]
    mean_mul_adds: Annotated[float | None, Field(description="of all queries; null: none yet")]
    mean_ms: Annotated[
        float | None, Field(description="the same in ms, as measured in full batches")
    ]
    planned_ms: Annotated[
        float | None,
        Field(description="expected of an image in full batches at the mean budget; null: none"),
    ]
    whole_ms: Annotated[float, Field(description="the same if all images take the last exit")]
    upgrade: Annotated[UpgradeState, Field(description="of the last upgrade (POST /model)")]
    frontier: Annotated[list[ServedAccuracy], Field(description="of the network's test (--run)")]
    people: Annotated[int, Field(description="known people")]
    images: Annotated[int, Field(description="known images")]
