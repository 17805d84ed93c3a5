"""What others wrote, as plain text: headers decoded, HTML stripped, nothing fetched and nothing run.

Mail is the most hostile thing an agent reads. Every function here takes bounded input, works in linear time and has an
answer for everything: what cannot be decoded is replaced, what is no text is left out. What is hidden from a person's
eye in HTML is left out too, so that it is not read to a planner.
"""

from __future__ import annotations

import binascii
import codecs
import html
import quopri
import re
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header
from email.policy import compat32
from email.utils import parsedate_to_datetime

HEADER_CHARS = 1000  # of one header
HEADER_NAMES = ("From", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To")

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # and what turns text around
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_ANGLED = re.compile(r"[^<>@,:;]*<([^<>@\s]{1,64}@[A-Za-z0-9.-]{1,190})>\s*")
_BARE = re.compile(r"\s*([^<>@\s,:;()]{1,64}@[A-Za-z0-9.-]{1,190})\s*")
_TAG = re.compile(r"/?([A-Za-z][A-Za-z0-9:-]{0,30})")
_TAG_END = re.compile("[>\"']")
_ATTRIBUTE = re.compile(r"""([a-zA-Z-]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_UNSEEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|(font-size|opacity)\s*:\s*0[a-z%]*\s*(;|!|$)", re.I)
_ATTRIBUTES = 2000  # characters of one tag that are looked at
_BLOCK = frozenset(
    {"address", "article", "blockquote", "br", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2", "h3", "h4", "h5",
     "h6", "header", "hr", "li", "ol", "p", "pre", "section", "table", "tbody", "tfoot", "thead", "tr", "ul"}
)  # fmt: skip
_SLOW = frozenset({"idna", "punycode", "undefined"})  # codecs that are no charsets, and take their time
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_RAW = frozenset({"script", "style", "title", "textarea", "iframe", "noembed", "noframes", "xmp"})  # no tags in them


def headers(raw: bytes) -> dict[str, str]:
    """The headers in ``HEADER_NAMES`` by lower-case name, decoded; ``from_address`` is the sender's bare address where
    the header leaves no doubt about it, else empty; ``date`` is ISO 8601 with its offset where it can be read."""
    message = message_from_bytes(raw, policy=compat32)
    given: dict[str, list[str]] = {}
    for name, value in message.raw_items():
        given.setdefault(name.lower(), []).append(str(value)[: 2 * HEADER_CHARS])
    found = {name.lower().replace("-", "_"): header(given.get(name.lower(), [""])[0]) for name in HEADER_NAMES}
    senders = given.get("from", [])
    found["from_address"] = _address(senders[0]) if len(senders) == 1 else ""
    found["date"] = _date(found["date"])
    return found


def text_of(raw: bytes, encoding: str, charset: str, *, is_html: bool) -> str:
    """One part's text: transfer encoding and charset undone, HTML stripped, lines ended by ``\\n``."""
    decoded = _chars(_bytes_of(raw, encoding.lower()), charset)
    lines = clean(stripped(decoded) if is_html else decoded.replace("\r\n", "\n").replace("\r", "\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip()


def clean(text: str) -> str:
    """Without control characters other than tabs and line ends, and without what turns the direction of text."""
    return _CONTROL.sub("", text)


def stripped(markup: str) -> str:
    """HTML as text, in one pass: blocks end lines, what is not shown is left out. What follows a tag or comment that is
    never closed is dropped, as browsers do."""
    out: list[str] = []
    at = 0
    hiding, depth = "", 0  # inside an element that is not shown, and how many of its name are open
    while True:
        start = markup.find("<", at)
        if start < 0:
            start = len(markup)
        if not hiding:
            out.append(re.sub(r"\s+", " ", _unescaped(markup[at:start])))
        if start == len(markup):
            break
        tag = _TAG.match(markup, start + 1)
        if tag is None:
            at = _past_other(markup, start)
            if at == start + 1 and not hiding:
                out.append("<")
            continue
        end = _tag_end(markup, tag.end())
        name, closing = tag[1].lower(), markup[start + 1] == "/"
        inside, at = markup[tag.end() : end - 1], end
        if name in _RAW and not closing:
            raw_end = re.compile(f"</{name}", re.I).search(markup, end)
            at = raw_end.start() if raw_end else len(markup)
        elif hiding:
            depth += (name == hiding) * (-1 if closing else 1)
            hiding = hiding if depth > 0 else ""
        elif not closing and name not in _VOID and _unseen(inside[:_ATTRIBUTES]):
            hiding, depth = name, 1
        elif name in _BLOCK:
            out.append("\n")
        elif name in ("td", "th") and closing:
            out.append("\t")
    return "\n".join(re.sub(r" +", " ", line).rstrip().lstrip(" ") for line in "".join(out).split("\n"))


def _unseen(inside: str) -> bool:
    """Whether a tag's attributes keep its element from being shown."""
    for name, value in _ATTRIBUTE.findall(inside):
        if name.lower() == "hidden" or (name.lower() == "style" and _UNSEEN.search(value.strip("\"'"))):
            return True
    return False


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a number with thousands of digits
        return text


def _past_other(markup: str, start: int) -> int:
    """Where a comment, a declaration or a stray ``<`` ends."""
    if markup.startswith("<!--", start):
        return _from(markup, "-->", start + 4, past=True)
    if markup.startswith(("<!", "<?", "</"), start):
        return _from(markup, ">", start + 2, past=True)
    return start + 1


def _tag_end(markup: str, at: int) -> int:
    """Behind the ``>`` of a tag; a ``>`` inside quotes is none."""
    while True:
        found = _TAG_END.search(markup, at)
        if found is None:
            return len(markup)
        if found[0] == ">":
            return found.end()
        at = _from(markup, found[0], found.end(), past=True)
        if at == len(markup):
            return at


def _from(text: str, mark: str, at: int, *, past: bool = False) -> int:
    found = text.find(mark, at)
    return len(text) if found < 0 else found + len(mark) * past


def _chars(raw: bytes, charset: str) -> str:
    try:
        name = codecs.lookup(charset or "utf-8").name
        return raw.decode("utf-8" if name in _SLOW else name, errors="replace")
    except (LookupError, ValueError):  # a charset nobody knows, or a codec that is none
        return raw.decode("utf-8", errors="replace")


def _bytes_of(raw: bytes, encoding: str) -> bytes:
    if encoding == "quoted-printable":
        return quopri.decodestring(raw)
    if encoding == "base64":
        kept = re.sub(rb"[^A-Za-z0-9+/]", b"", raw)
        try:
            return binascii.a2b_base64(kept[: len(kept) // 4 * 4] + _rest(kept))
        except binascii.Error:
            return b""
    return raw


def _rest(kept: bytes) -> bytes:
    """The last, incomplete group of base64 with its padding; a single character of it says nothing."""
    rest = kept[len(kept) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def header(value: str) -> str:
    """One header's text: encoded words decoded, folding undone."""
    value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        parts = [
            _chars(part, charset or "raw-unicode-escape") if isinstance(part, bytes) else part
            for part, charset in decode_header(value)
        ]
    except (MessageError, LookupError, ValueError):
        parts = [value]
    return clean(re.sub(r"\s+", " ", "".join(parts))).strip()[:HEADER_CHARS]


def _address(value: str) -> str:
    bare = _QUOTED.sub("", value.replace("\r", "").replace("\n", ""))
    found = _ANGLED.fullmatch(bare) or _BARE.fullmatch(bare)
    return clean(found[1]).lower() if found else ""


def _date(value: str) -> str:
    try:
        return parsedate_to_datetime(value).isoformat(timespec="seconds")
    except (TypeError, ValueError, IndexError, OverflowError):
        return ""
