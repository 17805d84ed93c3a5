"""JSON from elsewhere as the log can hold it: without floats.

A number with a fraction or an exponent becomes text as it stands (12.50 is "12.50", and fits an argument of the kind
``decimal``), an integer beyond 64 bits its digits. So no precision is lost, and the same document always has the same
canonical bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shared.codec import canonical
from shared.errors import BadInput

_DECODER = msgspec.json.Decoder(float_hook=str)


def plain_json(data: bytes) -> Any:
    """The document. Raises ``BadInput('json.form')`` for what is no JSON, nests too deeply or cannot be signed."""
    try:
        found = _plain(_DECODER.decode(data))
        canonical(found)
        return found
    except (msgspec.DecodeError, UnicodeError, RecursionError, BadInput) as error:
        raise BadInput("json.form", f"that is no JSON: {error}", advice="send one JSON document in UTF-8") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return str(value)
    return value
