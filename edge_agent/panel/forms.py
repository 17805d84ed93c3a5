"""Forms as browsers send them: fields, and one file with those that carry one. Read whole, within bounds, into memory:
what is imported is to be forgettable, and must not pass through a temporary file."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from shared.errors import BadInput

FORM_BYTES = 2 * 1024 * 1024
FILE_BYTES = 16 * 1024 * 1024
_SECONDS = 60
_FIELDS = 200
_BOUNDARY = re.compile(r'multipart/form-data; *boundary="?([A-Za-z0-9\'()+_,./:=?-]{1,70})"?')
_NAME = re.compile(rb'\bname="([^"\r\n]*)"')
_FILE = re.compile(rb'\bfilename="([^"\r\n]*)"')


@dataclass(frozen=True)
class Form:
    """``fields`` have the last value of each name, with the line ends of this system."""

    fields: dict[str, str]
    file: str = ""
    data: bytes = b""

    def get(self, name: str) -> str:
        """A line: without white space around it."""
        return self.fields.get(name, "").strip()

    def text(self, name: str) -> str:
        """Text as it was typed."""
        return self.fields.get(name, "")


async def read(request: Request) -> Form:
    """The form of a request. Raises ``BadInput``: ``panel.form``, ``api.too-large``, ``api.slow``."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip() == "application/x-www-form-urlencoded":
        body = await _body(request, FORM_BYTES)
        try:
            given = parse_qsl(
                body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_FIELDS,
                errors="strict",
            )  # fmt: skip
        except ValueError as error:  # not ASCII or not UTF-8 behind its signs, too
            raise _odd() from error
        return Form({name: _lines(value) for name, value in given})
    found = _BOUNDARY.fullmatch(kind)
    if found is None:
        raise _odd()
    return parts(await _body(request, FILE_BYTES), found[1].encode())


def parts(body: bytes, boundary: bytes) -> Form:
    """A ``multipart/form-data`` body, as RFC 7578 has it. Raises ``BadInput('panel.form')``."""
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if len(pieces) < 2 or pieces[0] or not pieces[-1].startswith(b"--") or len(pieces) > _FIELDS:
        raise _odd()
    fields: dict[str, str] = {}
    file, data = "", b""
    for piece in pieces[1:-1]:
        head, gap, value = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not gap or name is None:
            raise _odd()
        try:
            if (named := _FILE.search(head)) is not None:
                file, data = named[1].decode(), value
            else:
                fields[name[1].decode()] = _lines(value.decode())
        except UnicodeDecodeError as error:
            raise _odd() from error
    return Form(fields, file, data)


async def _body(request: Request, most: int) -> bytes:
    pieces, size = [], 0
    try:
        async with asyncio.timeout(_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    said = f"at most {most // 1024 // 1024} MiB can be sent here"
                    raise BadInput("api.too-large", said, advice="use the command line for more")
                pieces.append(piece)
    except TimeoutError as error:
        raise BadInput("api.slow", "the form took too long", advice="send it again") from error
    except ClientDisconnect as error:
        raise _odd() from error
    return b"".join(pieces)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _odd() -> BadInput:
    return BadInput("panel.form", "this form is not whole, or none of the panel's", advice="go back and send it again")
