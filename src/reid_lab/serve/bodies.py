"""Request bodies: JSON with base64 images, or multipart forms with files. Checked by pydantic."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Annotated, Any, TypeVar

from annotated_types import Predicate
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from reid_lab.output.words import Problem
from reid_lab.serve.guard import ADMITTED, Limits, RequestError
from reid_lab.serve.problems import explained, fields_of
from reid_lab.serve.threads import in_thread

MAX_FIELDS = 20  # fields of a form, besides files
PREFIX = re.compile(r"data:image/[\w.+-]+;base64,")
BASE64 = "a file as base64, with or without data:image/...;base64, in front"
TOO_MUCH = ("Too many fields", "Part exceeded", "Field exceeded")  # messages of the parser of forms


def printable(text: str) -> bool:
    """without control characters"""  # a name is shown in tables and logs
    return not re.search(r"[\x00-\x1f\x7f]", text)


def addressable(text: str) -> bool:
    """not . or .."""  # which clients resolve in the path of a request
    return text not in (".", "..")


Text = Annotated[str, Field(max_length=200), Predicate(printable)]
Pid = Annotated[
    str, Field(min_length=1, max_length=200), Predicate(printable), Predicate(addressable)
]
Milliseconds = Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Box = Annotated[list[Coordinate], Field(min_length=4, max_length=4)]
Accepts = Annotated[
    Rate, Field(description="the share of strangers that may be named, for the verdict")
]
Deadline = Annotated[
    Milliseconds | None,
    Field(description="from the arrival to the answer; by default the service's --budget-ms"),
]
Person = Annotated[Pid, Field(description="the person's name: any text, so 40 is not 0040")]


class ImagesBody(BaseModel):
    """Images, or boxes of a frame."""

    model_config = ConfigDict(extra="forbid")
    images: Annotated[
        list[bytes],
        Field(min_length=1, description="files in a form, base64 in JSON; several are a batch"),
    ]
    boxes: Annotated[
        list[Box] | None,
        Field(description="left, top, right, bottom in pixels of the one image: each is a query"),
    ] = None
    _names: list[str] = PrivateAttr(default_factory=list)

    @property
    def queries(self) -> int:
        """Number of images or boxes to embed."""
        return len(self.images if self.boxes is None else self.boxes)

    def name(self, number: int) -> str:
        """Name of an image for messages: its file name, with its number if there are several."""
        name = self._names[number][:100] if number < len(self._names) else ""
        if not name:
            return f"image {number}"
        return name if len(self.images) == 1 else f"{name} (image {number})"


class QueryBody(ImagesBody):
    """Images that are embedded by early exit."""

    deadline_ms: Deadline = None


class EmbedBody(QueryBody):
    """Images to embed."""

    every: Annotated[bool, Field(description="at every exit, instead of one by early exit")] = False


class SearchBody(QueryBody):
    """Images to search the people for."""

    top: Annotated[int, Field(ge=1, le=100, description="nearest images in the answer")] = 5
    false_accept_rate: Accepts = 0.01
    track: Annotated[
        bool,
        Field(description="all images are of one person: one answer, by their mean embedding"),
    ] = False
    exclude_camid: Annotated[
        Text, Field(description="known images of this camera are left out, as the query's own")
    ] = ""


class VerifyBody(QueryBody):
    """Images to compare with a person."""

    pid: Person
    false_accept_rate: Accepts = 0.01


class EnrollBody(ImagesBody):
    """Images to add."""

    pid: Person
    camid: Annotated[Text, Field(description="the camera's name")] = ""


class LabelBody(ImagesBody):
    """A user's judgement of a match: whether the image shows the person."""

    pid: Person
    correct: Annotated[bool, Field(description="whether the image is of that person")]


B = TypeVar("B", bound=ImagesBody)


async def read_body(request: Request, kind: type[B], limits: Limits) -> B:
    """Parse the body of a request as `kind`.

    Raises:
        RequestError: the body is neither JSON nor a form, malformed, or has unknown or invalid
            fields.
        BusyError: there are more images than can be answered in time.
    """
    names: list[str] = []
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json":
        content = await in_thread(_of_json, await request.body())  # base64 of images
    elif media == "multipart/form-data":
        content, names = await _of_form(request, limits)
    else:
        kinds = "application/json or multipart/form-data"
        problem = Problem("content-type", media[:100], kinds, "curl -F images=@FILE sends a form")
        raise RequestError(415, problem.line)
    try:
        body = kind.model_validate(content)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestError(422, explained(errors, content, fields_of(kind), "field")) from error
    body._names = names
    _check_counts(body, limits)
    request.scope[ADMITTED].has(max(1, body.queries))
    return body


def _check_counts(body: ImagesBody, limits: Limits) -> None:
    """Raises:
    RequestError: too many images or boxes, or boxes of several images.
    """
    for name, given in (("images", body.images), ("boxes", body.boxes or ())):
        if len(given) > limits.images:
            raise _too_many(name, len(given), limits)
    if body.boxes is not None and len(body.images) > 1:
        given_count = f"boxes, and {len(body.images)} images"
        problem = Problem("boxes", given_count, "one image, a frame", "send a request for each")
        raise RequestError(422, problem.line)


def _too_many(name: str, given: object, limits: Limits) -> RequestError:
    allowed = f"at most {limits.images} (--max-images)"
    return RequestError(413, Problem(name, given, allowed, "send several requests").line)


def _of_json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise RequestError(400, "the body must be a JSON object")
    images = content.get("images")
    if isinstance(images, list):
        content["images"] = [_of_base64(image, i) for i, image in enumerate(images)]
    return content


def _of_base64(image: Any, number: int) -> bytes:
    try:
        prefix = PREFIX.match(image)
        return base64.b64decode(image[prefix.end() :] if prefix else image, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        text = isinstance(image, str)
        fix = "base64 -w0 FILE has no line breaks" if text else "send a string"
        raise RequestError(422, Problem(f"images.{number}", image, BASE64, fix).line) from error


async def _of_form(request: Request, limits: Limits) -> tuple[dict[str, Any], list[str]]:
    """The fields of a form, and the file names of its images."""
    content: dict[str, Any] = {}
    names: list[str] = []
    try:
        async with request.form(max_files=limits.images, max_fields=MAX_FIELDS) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    content.setdefault(name, []).append(await value.read())
                    names += [value.filename or ""] * (name == "images")
                elif name in content:
                    raise RequestError(422, f"{name[:100]}: given twice")
                else:
                    content[name] = _boxes(value) if name == "boxes" else value
    except RequestError:
        raise
    except Exception as error:  # the parser raises errors of many kinds for arbitrary bytes
        why = str(getattr(error, "detail", None) or error)
        if why.startswith("Too many files"):
            raise _too_many("images", f"more than {limits.images} files", limits) from error
        status = 413 if why.startswith(TOO_MUCH) else 400
        raise RequestError(status, f"the form cannot be read: {why[:200]}") from error
    return content, names


def _boxes(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(422, f"boxes is not JSON: {str(error)[:200]}") from error


def schema_of(kind: type[ImagesBody]) -> dict[str, Any]:
    """OpenAPI schema of a body, as JSON and as a form."""
    fields = kind.model_json_schema(ref_template="{model}")
    of_bytes = fields["properties"]["images"]
    images = {**of_bytes, "items": {"type": "string", "contentEncoding": "base64"}}
    files = {**of_bytes, "items": {"type": "string", "format": "binary"}}
    as_json = {**fields, "properties": {**fields["properties"], "images": images}}
    as_form = {**fields, "properties": {**fields["properties"], "images": files}}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": as_json},
            "multipart/form-data": {"schema": as_form},
        },
    }
