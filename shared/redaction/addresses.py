"""Where somebody or something can be reached: e-mail, network and postal addresses; and secrets that open a door.

An ``@`` is looked for first and the address read around it; nothing here looks back further than a fixed distance.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from shared.redaction.finding import Span

_LOCAL = re.compile(r"(?:[\w!#$%&'*+/=?^`{|}~-]|\.(?!\.)){1,64}\Z")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_][^\W_]{1,23}(?![\w])")
_AT = re.compile(r"[\[(] ?[Aa][Tt] ?[\])]")
_SPELT = re.compile(
    r"(?<![\w.])([\w.+-]{1,64})[ ]?[\[(][ ]?at[ ]?[\])][ ]?(?:[\w-]{1,63}(?:\.|"
    r"[ ]?[\[(][ ]?dot[ ]?[\])][ ]?)){1,4}[a-z]{2,24}(?!\w)",
    re.I,
)


def emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(0, at - 64), at)
        domain = _DOMAIN.match(text, at + 1)
        if local and domain:
            start = local.start()
            while start < at and text[start] in ".'`|/={}":  # quotes and brackets before an address
                start += 1
            if start < at and not (
                text[start - 1 : start] == ":" and "://" in text[max(0, start - 140) : start].split()[-1]
            ):
                yield Span(start, domain.end(), "EMAIL", "email", 990)
        at = text.find("@", at + 1)
    for match in _SPELT.finditer(text) if _AT.search(text) else ():
        yield Span(*match.span(), "EMAIL", "email.spelt", 880)


# --- networks -----------------------------------------------------------------------------------------------------

_IPV4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|[.-]\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:]{0,5}:)[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_MAC = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w]|[:-]\w)")
_VERSION = re.compile(
    r"(?:versions?|v|ver|release|build|section|§|rev|firmware|chapter|clause|part|item)[ .:#]{0,3}\Z", re.I
)


def networks(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        if not _VERSION.search(text, max(0, match.start() - 14), match.start()) and _somewhere(match[0]):
            yield Span(*match.span(), "IP", "ip.v4", 930)
    for match in _IPV6.finditer(text):
        if len(match[0]) > 4 and _somewhere(match[0]):
            yield Span(*match.span(), "IP", "ip.v6", 950)
    for match in _MAC.finditer(text):
        yield Span(*match.span(), "MAC", "mac", 960)


def _somewhere(text: str) -> bool:
    """Whether it is an address that belongs to one machine: neither loopback, nor a mask, nor unspecified."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or text.startswith("255."))


# --- secrets ------------------------------------------------------------------------------------------------------

_USERINFO = re.compile(r"(?<![\w+.-])[A-Za-z][A-Za-z0-9+.-]{1,15}://([^\s/@:]{1,128}:[^\s/@]{1,256})@")
_PARAMETER = re.compile(
    r"[?&;#](?:[\w.-]{0,40}(?:token|secret|passw(?:or)?d|pwd|signature|apikey|api[_-]key|credential|session(?:_?id)?)|"
    r"key|sig|auth|code|sid|jwt)=([^\s&#\"'<>]{4,2048})",
    re.I,
)
_KEYS = re.compile(
    r"(?<![\w-])(?:sk-[\w-]{16,200}|(?:sk|pk|rk)_(?:live|test)_\w{10,200}|gh[pousr]_\w{20,255}|github_pat_\w{20,255}|"
    r"glpat-[\w-]{16,64}|"
    r"xox[abeoprs]-[\w-]{10,255}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}|ya29\.[\w-]{20,500}|npm_\w{30,60}|"
    r"pypi-[\w-]{30,500}|"
    r"SG\.[\w-]{16,64}\.[\w-]{16,64}|hf_\w{20,64}|eyJ[\w-]{8,4096}\.eyJ[\w-]{4,8192}\.[\w-]{0,2048}|"
    r"age1[a-z0-9]{50,62}|"
    r"AGE-SECRET-KEY-1[A-Z0-9]{50,60})"
)
_BLOCK = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----")
_BLOCK_END = re.compile(r"-----END [A-Z ]{0,30}PRIVATE KEY-----")
_TOLD = re.compile(
    r"(?<!\w)(?:passw(?:or)?d|pwd|passphrase|passwort|kennwort|mot de passe|contraseña|secret(?:[ _-]?key)?|"
    r"api[ _-]?key|"
    r"access[ _-]?(?:key|token)|auth[ _-]?token|client[ _-]?secret|private[ _-]?key)[\"']?"
    r"(?:[ ]{0,3}[:=][ ]{0,3}|[ ](?:is|ist|est|es)[ ]:?)[\"']?(?!required\b|needed\b|not\b|the\b|your\b|a\b|an\b|"
    r"expired\b|wrong\b)([^\s\"',;]{4,256})"
    r"|(?<!\w)PIN(?:[ ](?:code|is)){0,2}[ ]?[:=]?[ ]?(\d{4,8})(?!\w)"
    r"|(?<!\w)Bearer[ ]([\w.~+/=-]{12,4096})"
    r"|(?<!\w)(?:one-time|verification|security|confirmation|2fa)[ ](?:pass)?code[ ]?(?:is|:)[ ]?(\d{4,8})(?!\w)",
    re.I,
)


def secrets(text: str) -> Iterator[Span]:
    address = "://" in text
    for match in _USERINFO.finditer(text) if address and "@" in text else ():
        yield Span(*match.span(1), "SECRET", "secret.url", 980)
    parameters = set()
    for match in _PARAMETER.finditer(text) if address else ():
        if _in_url(text, match.start()):
            parameters.add(match.start(1))
            yield Span(*match.span(1), "SECRET", "secret.parameter", 900)
    for match in _KEYS.finditer(text):
        yield Span(*match.span(), "SECRET", "secret.key", 980)
    at = 0
    while block := _BLOCK.search(text, at):
        end = _BLOCK_END.search(text, block.end())
        at = end.end() if end else len(text)  # a block without an end is taken to the end: it was cut
        yield Span(block.start(), at, "SECRET", "secret.block", 995)
    for match in _TOLD.finditer(text):
        group = next(number for number in range(1, 5) if match[number] is not None)
        value = match[group].rstrip(".")
        said = "=" not in match[0] and ":" not in match[0][: match.start(group) - match.start()]
        if match.start(group) in parameters or (group == 1 and said and not _DIGIT.search(value)):
            continue  # "the secret is out" tells none
        yield Span(match.start(group), match.start(group) + len(value), "SECRET", "secret.said", 870)


_DIGIT = re.compile(r"\d")


def _in_url(text: str, place: int) -> bool:
    start = max(0, place - 1000)
    start = max(start, *(text.rfind(mark, start, place) for mark in (" ", "\n", "\t", '"', "<", "(")))
    return re.search(r"(?:https?|wss?|ftp)://", text[start:place]) is not None


# --- postal -------------------------------------------------------------------------------------------------------

_STREET = (
    r"(?:street|st|avenue|ave?|road|rd|boulevard|blvd|drive|dr|lane|ln|court|ct|place|pl|terrace|ter|parkway|pkwy|way|"
    r"circle|cir|highway|hwy|square|sq|close|crescent|cres|gardens|mews|row|plaza|trail|trl|alley|expressway)"
)
_NOT_STREET = (
    r"(?:on|at|in|the|for|to|of|and|or|with|from|by|per|new|existing|no|not|feet|foot|ft|inch|story|storey|unit|units|"
    r"family|car|sf|sq|bed|bath|windows?|doors?|more|days?|hours?|minutes?|years?|months?|weeks?|people|a|an|is|was|"
    r"that|this)"
)
_NAME_WORD = rf"(?!{_NOT_STREET}\b)(?:[^\W\d_][\w'.-]{{0,24}}|\d{{1,3}}(?:st|nd|rd|th))"
_AMERICAN = re.compile(
    rf"(?<![\w.$€£-])(?:(?:flat|apt\.?|apartment|unit|"
    rf"suite)[ ]\w{{1,5}},[ ])?\d{{1,5}}(?:-\d{{1,5}})?[A-Z]?,?[ ](?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|"
    rf"West)\.?[ ])?{_NAME_WORD}(?:[ ]{_NAME_WORD}){{0,2}}[ ]{_STREET}(?![\w])\.?(?:[ ](?-i:NE|NW|SE|SW|N|S|E|"
    rf"W)(?!\w))?"
    r"(?:,?[ ](?:apt|apartment|unit|suite|ste|flat|floor|fl|#)\.?[ ]?#?[\w-]{1,6}(?!\w))?"
    r"(?:,?[ ][^\W\d_][\w.'-]{1,20}(?:[ ][^\W\d_][\w.'-]{1,20}){0,2},?[ ][A-Z]{2}[ ]\d{5}(?:-\d{4})?(?!\d))?",
    re.I,
)
_GERMAN = re.compile(
    r"(?<!\w)(?:[A-ZÄÖÜ][\wäöüß-]{1,30}(?:straße|strasse|str\.|weg|platz|allee|gasse|ufer|damm|ring)|"
    r"[A-ZÄÖÜ][\wäöüß]{2,20}[ -](?:Straße|Strasse|Str\.|Weg|Platz|Allee|Gasse|Ufer|Damm))[ ]\d{1,4}[ ]?[a-z]?(?!\w)"
    r"(?:,?[ ](?:D-)?\d{5}[ ][A-ZÄÖÜ][\wäöüß-]{1,30}(?:[ ](?:am|an der|im)[ ][A-ZÄÖÜ][\wäöüß]{1,20})?)?"
)
_FRENCH = re.compile(
    r"(?<!\w)\d{1,4}(?:[ ]?(?:bis|ter))?,?[ ](?:rue|avenue|av\.|boulevard|bd|place|chemin|allée|impasse|quai|calle|"
    r"via|viale|piazza|rua|avenida|plaza)"
    r"[ ](?:(?:de|du|des|de la|de l'|la|le|les|d')[ ]?)?[\w'’-]{2,25}(?:[ ](?:de[ ])?[A-ZÀ-Þ][\w'’-]{1,25}){0,2}"
    r"(?:,?[ ]\d{5}[ ][A-ZÀ-Þ][\w'’-]{1,25})?"
)
_SOUTHERN = re.compile(
    r"(?<!\w)(?:Calle|C/|Via|Viale|Piazza|Rua|Avenida|Avda\.|Paseo)[ ](?:(?:de|del|da|do|"
    r"la)[ ]){0,2}[A-ZÀ-Þ][\w'’-]{1,25}(?:[ ][\w'’-]{2,25}){0,2},?[ ](?:n[º°.][ ]?)?\d{1,4}(?!\w)"
)
_BOX = re.compile(r"(?<!\w)(?:P\.?[ ]?O\.?[ ]?Box|Postfach|BP)[ ]\d{1,7}(?!\w)", re.I)
_POSTCODE = re.compile(
    r"(?<!\w)(?:GIR 0AA|[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}|[ABCEGHJ-NPRSTVXY]\d[A-Z] \d[A-Z]\d)(?!\w)"
)
_ZIP = re.compile(r"(?<!\w)[A-Z][\w.'-]{1,20}(?:[ ][A-Z][\w.'-]{1,20}){0,2},[ ][A-Z]{2}[ ]\d{5}(?:-\d{4})?(?!\w)")
_LIVES = re.compile(
    r"(?<!\w)(?:(?:home|postal|mailing|shipping|billing|delivery|street|residential|current)?[ ]?address(?:[ ]is|"
    r"[ ]?:)|"
    r"(?:lives?|living|resid(?:es?|ing)|wohnhaft|wohnt|habite|demeurant|domiciled)[ ](?:at|in der|am|au)|(?:ship|"
    r"deliver|mail|send it)[ ]to:?|anschrift:|adresse[ ]?:)"
    r"[ ]{0,3}((?=[^\n;]{0,20}\d)[\w#][\w #.'/-]{3,60}(?:,[ ](?!and\b|but\b|who\b|so\b)[\w #.'/-]{2,40}){0,4})",
    re.I,
)


def postal(text: str) -> Iterator[Span]:
    taken = []
    for rule, pattern, confidence in (
        ("address.street", _AMERICAN, 850),
        ("address.german", _GERMAN, 880),
        ("address.french", _FRENCH, 850),
        ("address.southern", _SOUTHERN, 820),
        ("address.box", _BOX, 900),
        ("address.postcode", _POSTCODE, 800),
        ("address.zip", _ZIP, 850),
    ):
        for match in pattern.finditer(text):
            taken.append(match.span())
            yield Span(*match.span(), "ADDRESS", rule, confidence)
    for match in _LIVES.finditer(text):
        said = match[1].rstrip(" .-'/,")
        start, end = match.start(1), match.start(1) + len(said)
        told = any(other < end and start < until for other, until in taken)
        if not told and "@" not in text[match.end(1) : match.end(1) + 1] and "://" not in said:
            yield Span(start, end, "ADDRESS", "address.said", 830)
