"""The JSON schema of a tool's input as the arguments of an action, and an action's arguments as the JSON to send.

An action stands in signed bytes, where no floats stand, and each of its arguments has one kind. So a JSON ``number`` is
a decimal as text, ``"12.50"``, here and inside of lists and objects too, and is sent as the number it says. What may be
of several kinds (``anyOf`` text or list, or anything at all) is text that holds JSON. Everything else maps one to one.
Whether arguments fit the schema's finer rules is for the worker to say, which has a validator.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Literal, NoReturn

from edge_agent.tools import Argument, Kind
from shared.errors import BadInput

Shape = Literal["text", "integer", "boolean", "decimal", "list", "object", "json"]

ABOUT_CHARS = 200
_SHAPES: dict[str, Shape] = {
    "string": "text",
    "integer": "integer",
    "boolean": "boolean",
    "number": "decimal",
    "array": "list",
    "object": "object",
}
_DEPTH = 16  # references and alternatives within each other
_DECIMAL = re.compile(r"-?[0-9]{1,300}(\.[0-9]{1,300})?")


def arguments(schema: dict[str, Any]) -> dict[str, Argument]:
    """What a tool with this input schema takes. Raises ``BadInput('mcp.schema')`` where it is none for an object."""
    root = _resolve(schema, schema)
    properties, required = root.get("properties", {}), root.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        _unfit("properties or required are none")
    return {name: _argument(node, schema, name in required) for name, node in properties.items()}


def _argument(node: Any, root: dict[str, Any], required: bool) -> Argument:
    shape = shape_of(node, root)
    kind: Kind = "text" if shape == "json" else shape
    resolved = _resolve(node, root)
    said = [clean(str(resolved.get("description") or ""), ABOUT_CHARS)]
    if shape == "json":
        said.append("(JSON as text)")
    if isinstance(choices := resolved.get("enum"), list):
        said.append(clean(f"(one of {', '.join(str(choice) for choice in choices[:20])})", ABOUT_CHARS))
    return Argument(kind, required, " ".join(part for part in said if part))


def clean(text: str, most: int) -> str:
    """One printable line of at most ``most`` characters: the words are a stranger's, and may hold control codes."""
    line = "".join(one if one.isprintable() else " " for one in text)
    line = re.sub(r" +", " ", line).strip()
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def shape_of(node: Any, root: dict[str, Any]) -> Shape:
    """The one kind that a schema allows besides null, or ``json`` for several or unknown ones."""
    types = _types(node, root, 0) - {"null"}
    if types == {"integer", "number"}:
        types = {"number"}
    return _SHAPES.get(types.pop(), "json") if len(types) == 1 else "json"


def _types(node: Any, root: dict[str, Any], depth: int) -> set[str]:
    """The JSON types that a schema allows; empty where it does not say."""
    node = _resolve(node, root)
    if depth > _DEPTH:
        return set()
    said = node.get("type")
    if isinstance(said, str):
        return {said}
    if isinstance(said, list):
        return {one for one in said if isinstance(one, str)}
    for name in ("anyOf", "oneOf"):
        if isinstance(node.get(name), list):
            found = [_types(one, root, depth + 1) for one in node[name]]
            return set().union(*found) if all(found) else set()
    for one in node.get("allOf") or []:
        if found_here := _types(one, root, depth + 1):
            return found_here
    values = [node["const"]] if "const" in node else node.get("enum")
    return {_type_of(value) for value in values} if isinstance(values, list) else set()


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _resolve(node: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Follow references within the document; others are not followed, and nothing is fetched."""
    for _ in range(_DEPTH):
        if not isinstance(node, dict):
            return {}
        place = node.get("$ref")
        if not isinstance(place, str) or not place.startswith("#"):
            return node
        node = _at(root, place)
    return {}


def _at(root: Any, place: str) -> Any:
    for part in place.removeprefix("#").strip("/").split("/") if len(place) > 1 else ():
        key = part.replace("~1", "/").replace("~0", "~")
        root = root.get(key) if isinstance(root, dict) else None
    return root


# --- what is sent -------------------------------------------------------------------------------------------------


def to_json(schema: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """An action's arguments as the JSON that the tool expects. Raises ``BadInput``: ``mcp.number`` for a decimal that
    no JSON number holds exactly, ``mcp.arguments`` for text that should hold JSON and does not."""
    properties = _resolve(schema, schema).get("properties", {})
    sent: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        node = properties.get(name)
        is_json = shape_of(node, schema) == "json" and isinstance(value, str)
        sent[name] = _read(name, value) if is_json else _convert(value, node, schema, 0)
    return sent


def _convert(value: Any, node: Any, root: dict[str, Any], depth: int) -> Any:
    node = _branch(value, _resolve(node, root), root)
    if depth > 64:
        raise BadInput("mcp.arguments", "they nest too deeply", advice="send less")
    if isinstance(value, str):
        wanted = shape_of(node, root) == "decimal" and _DECIMAL.fullmatch(value)
        return number(value) if wanted else value
    if isinstance(value, list):
        firsts = node.get("prefixItems")
        nodes = firsts if isinstance(firsts, list) else []
        rest = node.get("items")
        kinds = [*nodes[: len(value)], *[rest] * (len(value) - len(nodes))]
        return [_convert(item, kind, root, depth + 1) for item, kind in zip(value, kinds, strict=True)]
    if isinstance(value, dict):
        known, other = node.get("properties") or {}, node.get("additionalProperties")
        return {name: _convert(item, known.get(name, other), root, depth + 1) for name, item in value.items()}
    return value


def _branch(value: Any, node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Of alternatives, the one that is meant for a value like this; ambiguous ones are left as they are."""
    wanted = "array" if isinstance(value, list) else "object" if isinstance(value, dict) else ""
    for name in ("anyOf", "oneOf", "allOf"):
        if wanted and isinstance(node.get(name), list):
            fitting = [one for one in node[name] if wanted in _types(one, root, 0)]
            if len(fitting) == 1:
                return _resolve(fitting[0], root)
    return node


def _read(name: str, text: str) -> Any:
    try:
        return json.loads(text, parse_float=number, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput("mcp.arguments", f"{name} is not JSON: {error}", advice="give JSON as text") from error


def number(text: str) -> int | float:
    """The JSON number for a decimal. Raises ``BadInput('mcp.number')`` where a double would not hold it exactly as it
    stands: an amount that arrives as another amount is worse than none."""
    exact = Decimal(text)
    if "." not in text and "e" not in text.lower():
        return int(text)
    near = float(text)
    if near in (float("inf"), float("-inf")) or Decimal(repr(near)) != exact:
        raise BadInput("mcp.number", f"{text} is no exact JSON number", advice="give at most 15 digits")
    return near


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _unfit(said: str) -> NoReturn:
    raise BadInput("mcp.schema", f"the input schema does not fit: {said}", advice="leave the tool out, or report it")
