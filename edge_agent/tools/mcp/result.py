"""What a tool answered, as the details of a receipt: plain, bounded, no floats. It goes into the signed log.

Text is kept up to a number of bytes; structured content up to as many again, or not at all. Pictures, sounds and
resources are not kept: their kind, size and SHA-256 say what was there. Fractions become text.
"""

from __future__ import annotations

import base64
import binascii
import json
from decimal import Decimal
from typing import Any

from edge_agent.tools.mcp.messages import PARTS
from edge_agent.tools.mcp.schema import clean
from shared.codec import canonical, hex_sha256

_LONG = 1 << 63


def details(result: dict[str, Any], most: int) -> dict[str, Any]:
    """The details of ``result``, a ``CallToolResult`` as JSON; ``most`` bytes of text, as it will be written, and of
    structured content as many again."""
    content = [part for part in result.get("content") or [] if isinstance(part, dict)]
    text = "\n".join(str(part.get("text", "")) for part in content if part.get("type") == "text")
    others = [_part(part) for part in content if part.get("type") != "text"]
    found: dict[str, Any] = {}
    structured = result.get("structuredContent")
    if structured is not None:
        found |= _structured(structured, most)
    if text and not ("structured" in found and _same(text, structured)):
        found["text"] = kept = _fitting(_sound(text), most)
        if len(kept) < len(text):
            found["cut"] = {"characters": len(text), "sha256": hex_sha256(_sound(text).encode())}
    if others:
        found["parts"] = others[:PARTS]
    if len(others) > PARTS:
        found["parts_left_out"] = len(others) - PARTS
    return found


def _structured(value: Any, most: int) -> dict[str, Any]:
    encoded = json.dumps(value, sort_keys=True).encode()
    if len(encoded) <= most:
        found = plain(value)
        if len(canonical(found)) <= most:  # fractions grow as text
            return {"structured": found}
    return {"structured_left_out": {"bytes": len(encoded), "sha256": hex_sha256(encoded)}}


def _fitting(text: str, most: int) -> str:
    """The beginning of ``text`` that takes at most ``most`` bytes in the log: some characters take six there."""
    text = text[:most]
    while (size := len(canonical(text))) > most:
        text = text[: min(len(text) - 1, len(text) * most // size)]
    return text


def said(result: dict[str, Any]) -> str:
    """What the tool says went wrong: one line."""
    texts = [str(part.get("text", "")) for part in result.get("content") or [] if isinstance(part, dict)]
    return clean(" ".join(texts), 300) or "it gives no reason"


def plain(value: Any) -> Any:
    """JSON-plain without floats: fractions and whole numbers too large for 64 bits become text."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -_LONG <= value < _LONG else str(value)
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    if isinstance(value, str):
        return _sound(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {_sound(str(key)): plain(item) for key, item in value.items()}


def _same(text: str, structured: Any) -> bool:
    """Whether the text only says again what the structured content says, as the protocol advises servers to do."""
    if isinstance(structured, dict) and list(structured.values()) == [text]:
        return True
    try:
        return bool(json.loads(text) == structured)
    except (ValueError, RecursionError):
        return False


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = str(part.get("type", ""))
    if kind == "resource_link":
        return {"type": "link", "uri": _short(part.get("uri")), "name": _short(part.get("name"))}
    holder = part.get("resource") if kind == "resource" else part
    holder = holder if isinstance(holder, dict) else {}
    found = {"type": clean(kind, 40), "mime": _short(holder.get("mimeType"))}
    if "uri" in holder:
        found["uri"] = _short(holder["uri"])
    data = _bytes(holder)
    return found | {"bytes": len(data), "sha256": hex_sha256(data)}


def _bytes(holder: dict[str, Any]) -> bytes:
    coded = holder.get("data") or holder.get("blob")
    if isinstance(coded, str):
        try:
            return base64.b64decode(coded, validate=True)
        except (binascii.Error, ValueError):
            return coded.encode("utf-8", "replace")
    return _sound(str(holder.get("text") or "")).encode()


def _short(value: Any) -> str:
    return clean(str(value or ""), 200)


def _sound(text: str) -> str:
    """Text that has a UTF-8 form: half of a surrogate pair has none."""
    return text.encode("utf-8", "replace").decode()
