"""Forms with a file that may be as large as a disk: read as they come, and written away in blocks.

The fields come before the file, the session's token first of all: not a byte of a file is kept for whoever lacks it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from server.console.desk import FORM_BYTES, Form
from shared.errors import BadInput, Refused

_BLOCK = 1 << 20


async def receive(request: Request, csrf: str, write: Callable[[bytes], None]) -> Form:
    """Read a ``multipart/form-data`` request: its one file goes to ``write`` piece by piece, in a thread; its fields
    come back, the file's name among them. What ``write`` raises passes through.

    Raises ``Refused('console.csrf')`` and ``BadInput('console.form')``.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise _no_form()
    reader = _Reader(csrf, write)
    parser = MultipartParser(boundary, reader.callbacks())
    block = bytearray()
    try:
        async for chunk in request.stream():
            block += chunk
            if len(block) >= _BLOCK:
                await run_in_threadpool(parser.write, bytes(block))
                block.clear()
        await run_in_threadpool(parser.write, bytes(block))
        parser.finalize()
    except FormParserError as error:
        raise _no_form() from error
    return reader.done()


class _Reader:
    """The parts of a form, as the parser tells of them."""

    def __init__(self, csrf: str, write: Callable[[bytes], None]) -> None:
        self._csrf, self._write = csrf, write
        self._fields: dict[str, str] = {}
        self._files = 0
        self._size = 0
        self._begin()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }

    def done(self) -> Form:
        self._check()
        if self._files != 1:
            raise BadInput("console.form", "No file was chosen.", advice="Choose a file and send the form again.")
        return Form(self._fields)

    def _begin(self) -> None:
        self._header, self._value, self._headers = b"", b"", dict[bytes, bytes]()
        self._name, self._is_file, self._text = "", False, b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if self._is_file:
            self._check()
            self._files += 1
            self._fields[self._name] = options[b"filename"].decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._write(data[start:end])
            return
        self._size += end - start
        if self._size > FORM_BYTES:
            raise BadInput("console.form", "The form is too large.", advice="Shorten the text and send it again.")
        self._text += data[start:end]

    def _end(self) -> None:
        if not self._is_file:
            self._fields[self._name] = self._text.decode("utf-8", "replace")

    def _check(self) -> None:
        if not self._csrf or not hmac.compare_digest(self._fields.get("csrf", "").encode(), self._csrf.encode()):
            raise Refused(
                "console.csrf",
                "This form does not belong to your session, so nothing was done.",
                advice="Go back, reload the page and send it again.",
            )


def _no_form() -> BadInput:
    return BadInput("console.form", "This is not a form with a file.", advice="Send it from the console's own page.")
