"""Request bodies: JSON with base64 images, or multipart forms with files. Checked by pydantic."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from reid_lab.serve.guard import ADMITTED, Limits, RequestError
from reid_lab.serve.threads import in_thread

# no control characters: a name is shown in tables and logs
Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Pid = Annotated[Text, Field(min_length=1)]
Milliseconds = Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Side = Annotated[float, Field(allow_inf_nan=False)]
Box = Annotated[list[Side], Field(min_length=4, max_length=4)]
FIELDS = 20  # of a form, besides files


class ImagesBody(BaseModel):
    """`images`: files, or base64 in JSON. `boxes`: xyxy in pixels, of the one image, a frame."""

    model_config = ConfigDict(extra="forbid")
    images: Annotated[list[bytes], Field(min_length=1)]
    boxes: list[Box] | None = None
    deadline_ms: Milliseconds | None = None

    @property
    def queries(self) -> int:
        """How many images or boxes are embedded."""
        return len(self.images if self.boxes is None else self.boxes)


class EmbedBody(ImagesBody):
    """`every`: at all exits, instead of one by early exit."""

    every: bool = False


class SearchBody(ImagesBody):
    """`track`: all images are of one person, whose embeddings are averaged, at the last exit.

    `exclude_camid`: known images of this camera, mostly the queries' own, are left out.
    """

    top: Annotated[int, Field(ge=1, le=100)] = 5
    false_accept_rate: Rate = 0.01
    track: bool = False
    exclude_camid: Text = ""


class VerifyBody(ImagesBody):
    pid: Pid
    false_accept_rate: Rate = 0.01


class EnrollBody(ImagesBody):
    pid: Pid
    camid: Text = ""
    deadline_ms: None = None


class LabelBody(ImagesBody):
    """What a person said of a match: is the image of `pid`?"""

    pid: Pid
    correct: bool


B = TypeVar("B", bound=ImagesBody)


async def read_body(request: Request, kind: type[B], limits: Limits) -> B:
    """The body of a request as `kind`.

    Raises:
        RequestError: neither JSON nor a form, malformed, or with fields that are not allowed.
        BusyError: it has more images than can be answered in time.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json":
        content = await in_thread(_of_json, await request.body())  # base64 of images
    elif media == "multipart/form-data":
        content = await _of_form(request, limits)
    else:
        raise RequestError(
            415, f"content type {media[:100]!r}; supported: application/json, multipart/form-data"
        )
    try:
        body = kind.model_validate(content)
    except ValidationError as error:
        raise RequestError(422, _explained(error, kind)) from error
    if len(body.images) > limits.images:
        raise RequestError(413, f"{len(body.images)} images; a request may have {limits.images}")
    if body.boxes is not None and (len(body.images) > 1 or len(body.boxes) > limits.images):
        raise RequestError(
            422, f"boxes: of one image, and at most {limits.images}; send a request for each frame"
        )
    request.scope[ADMITTED].has(max(1, body.queries))
    return body


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
        return base64.b64decode(image, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise RequestError(422, f"images.{number} is not base64: {str(error)[:200]}") from error


async def _of_form(request: Request, limits: Limits) -> dict[str, Any]:
    content: dict[str, Any] = {}
    try:
        async with request.form(max_files=limits.images, max_fields=FIELDS) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    content.setdefault(name, []).append(await value.read())
                elif name in content:
                    raise RequestError(422, f"{name[:100]}: given twice")
                else:
                    content[name] = _boxes(value) if name == "boxes" else value
    except RequestError:
        raise
    except Exception as error:  # the parser raises errors of many kinds for arbitrary bytes
        why = getattr(error, "detail", None) or str(error)
        raise RequestError(400, f"the form cannot be read: {str(why)[:200]}") from error
    return content


def _boxes(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(422, f"boxes is not JSON: {str(error)[:200]}") from error


def _explained(error: ValidationError, kind: type[ImagesBody]) -> str:
    """Every problem in one message, and the fields that are allowed."""
    problems = []
    for part in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        place = ".".join(str(step)[:100] for step in part["loc"])
        problems.append(f"{place}: {part['msg']}")
    return f"{'; '.join(problems)}. Fields: {', '.join(kind.model_fields)}"


def schema_of(kind: type[ImagesBody]) -> dict[str, Any]:
    """OpenAPI's description of a body, as JSON and as a form."""
    fields = kind.model_json_schema(ref_template="{model}")
    images = {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    as_json = {**fields, "properties": {**fields["properties"], "images": images}}
    as_form = {**fields, "properties": {**fields["properties"], "images": files}}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": as_json},
            "multipart/form-data": {"schema": as_form},
        },
    }
