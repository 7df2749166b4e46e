"""Reads a request's body, JSON or multipart, into checked fields and the bytes of an uploaded picture."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mobile_multimodal.errors import did_you_mean
from mobile_multimodal.serving.http.problems import MalformedBodyError, SchemaError, UnsupportedMediaTypeError
from mobile_multimodal.serving.pictures.picture_input import THREAD_BYTES

Fields = TypeVar("Fields")

_UPLOADED: Final = "(uploaded)"  # stands for the file where the fields expect text
_MAX_FORM_FIELDS: Final = 100
_MAX_TOLD: Final = 10  # of the problems in a body
_SHOWN_CHARACTERS: Final = 80  # of a name that the client made up
_TOLD_CHARACTERS: Final = 240  # of one problem
# Each value of JSON takes 32 bytes and more once it is parsed, and each problem with one ten times that: 50 MB of
# commas would take gigabytes. No request has a hundredth of these, and base64 has none.
_MAX_COMMAS: Final = 100_000
_JSON_FIELDS: Final = frozenset({"parameters"})
_LIST_FIELDS: Final = frozenset({"options"})


@dataclass(frozen=True, kw_only=True)
class Body(Generic[Fields]):
    """The checked fields, and the picture that came as a file."""

    fields: Fields
    upload: bytes | None = None


class BodyReader(Generic[Fields]):
    """Reads bodies of one type."""

    def __init__(self, fields_type: Any, *, takes_form: bool = True) -> None:
        self._adapter: TypeAdapter[Fields] = TypeAdapter(fields_type)
        self._takes_form = takes_form
        self._schema: dict[str, Any] | None = None

    async def read(self, request: Request) -> Body[Fields]:
        """The body of a request.

        Raises UnsupportedMediaTypeError, MalformedBodyError (not what its type says), SchemaError; while reading,
        what BodyLimits raises.
        """
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type == "application/json":
            return Body(fields=await self._of_json(await _read_all(request)))
        if self._takes_form and content_type == "multipart/form-data":
            return await self._of_form(request)
        expected = "application/json" + (" or multipart/form-data" if self._takes_form else "")
        raise UnsupportedMediaTypeError(
            f"the body's Content-Type is {content_type[:80]!r}, expected {expected}", "set the header Content-Type"
        )

    async def _of_json(self, data: bytearray) -> Fields:
        if len(data) > THREAD_BYTES:
            return await asyncio.to_thread(self._checked_json, data)
        return self._checked_json(data)

    def _checked_json(self, data: bytearray) -> Fields:
        commas = data.count(b",")
        if commas > _MAX_COMMAS:
            raise MalformedBodyError(
                f"the body has {commas} commas, expected at most {_MAX_COMMAS}", "the fields are in /openapi.json"
            )
        try:
            # Strict: "5" is no number in JSON, which has numbers.
            return self._adapter.validate_json(data, strict=True)
        except ValidationError as error:
            raise self._error_of(error) from None  # pydantic's words would show the body

    async def _of_form(self, request: Request) -> Body[Fields]:
        parser = _InMemoryParser(
            request.headers, request.stream(), max_files=1, max_fields=_MAX_FORM_FIELDS, max_part_size=THREAD_BYTES
        )
        try:
            form = await parser.parse()
        except (MultiPartException, ValueError) as error:  # ValueError: a header of a part that is no text
            message = getattr(error, "message", str(error))
            raise MalformedBodyError(
                f"the body is no multipart form: {message}", "send one file `image` and the other fields as text"
            ) from error
        try:
            values, upload = await _values_of(form)
        finally:
            await form.close()
        try:
            return Body(fields=self._adapter.validate_python(values), upload=upload)
        except ValidationError as error:
            raise self._error_of(error) from None

    def _error_of(self, error: ValidationError) -> MalformedBodyError | SchemaError:
        found = error.errors(include_url=False, include_input=False)
        if found[0]["type"] == "json_invalid":
            return MalformedBodyError(
                f"the body is no JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}", "check what was sent"
            )
        told = "; ".join(_words_of(details)[:_TOLD_CHARACTERS] for details in found[:_MAX_TOLD])
        unknown = [details for details in found if details["type"] == "extra_forbidden"]
        hint = "the fields of each request are in /openapi.json"
        if unknown:
            name = str(unknown[0]["loc"][-1])[:_SHOWN_CHARACTERS]
            near = did_you_mean(name, self._known_fields(unknown[0]["loc"]))
            hint = near or hint
        return SchemaError(told, hint)

    def _known_fields(self, place: tuple[int | str, ...]) -> list[str]:
        """The names at the place of an unknown one; of a union, those of all its members."""
        if self._schema is None:
            self._schema = self._adapter.json_schema(mode="validation")
        schema = self._schema
        definitions = [*schema.get("$defs", {}).values(), schema]
        if len(place) > 1 and place[-2] == "parameters":
            definitions = [entry for entry in definitions if entry.get("title", "").endswith("Parameters")]
        return sorted({name for entry in definitions for name in entry.get("properties", {})})


class _InMemoryParser(MultiPartParser):
    """Keeps a picture in memory, which BodyLimits bounds: private pictures do not touch the disk."""

    spool_max_size = 1 << 31


async def _read_all(request: Request) -> bytearray:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return body


async def _values_of(form: FormData) -> tuple[dict[str, Any], bytes | None]:
    values: dict[str, Any] = {}
    upload: bytes | None = None
    for name, value in form.multi_items():
        if name in values and name not in _LIST_FIELDS:
            raise SchemaError(f"field {name[:80]!r} is there twice, expected once", "leave one out")
        if isinstance(value, UploadFile):
            if name != "image":
                raise SchemaError(f"field {name[:80]!r} is a file, expected the file in field 'image'", "rename it")
            upload = await value.read()
            if not upload:
                raise SchemaError("field 'image' is an empty file, expected a picture", "check how it was sent")
            values[name] = _UPLOADED
        elif name in _LIST_FIELDS:
            values.setdefault(name, []).append(value)
        elif name in _JSON_FIELDS:
            try:
                values[name] = from_json(value)
            except ValueError as error:
                raise MalformedBodyError(
                    f"field {name!r} is no JSON: {error}", 'for example {"num_beams": 1}'
                ) from error
        else:
            values[name] = value
    return values, upload


def _words_of(details: ErrorDetails) -> str:
    place = ".".join(str(part)[:_SHOWN_CHARACTERS] for part in details["loc"])
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        return f"unknown field {place!r}"
    if details["type"] == "union_tag_not_found":
        return f"field {details['ctx']['discriminator']} is missing"
    if details["type"] == "union_tag_invalid":
        return f"field {details['ctx']['discriminator']} is unknown, expected {details['ctx']['expected_tags']}"
    if details["type"] == "missing":
        return f"field {place!r} is missing"
    if message.startswith("Input should be "):
        message = f"expected {message.removeprefix('Input should be ')}"
    return f"field {place!r}: {message}" if place else message
