"""Numbers that are somebody's: phones, accounts, cards, identity numbers, plates, dates of birth.

Every pattern is bounded, so that its time is linear in the text. A number alone proves little, so each needs a check
digit, a form that nothing else has, or a word before it that says what it is (``SSN``, ``Tel.``); and a word that says
it is something else (``order no.``) speaks against it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from shared.redaction.checksums import (
    IBAN_LENGTHS,
    birth_date,
    card,
    codice_fiscale,
    digits,
    iban,
    luhn,
    mod_11_10,
    verhoeff,
    vin,
    weighted,
)
from shared.redaction.finding import Span
from shared.redaction.worded import Begins, Worded, begins

_BEFORE = 40  # characters in which a word says what the number after it is

_OTHER = re.compile(
    r"(?:\b(?:orders?|invoices?|inv|permits?|applications?|ref|references?|parts?|sku|items?|models?|serial|lot|"
    r"batch|case|"
    r"tickets?|po|tracking|parcel|isbn|ean|upc|gtin|versions?|build|articles?|docket|pin|parcels?|receipt|quote|job|"
    r"asset|"
    r"product|drawing|sheet|spec|rev|revision|section|code|contract|project|bestell\w*|rechnung\w*|artikel\w*)"
    r"[ .]{0,2}(?:no|nr|num|number|nummer|id|code)?|#)[.:#= ]{0,3}(?:(?:is|was|ist)[ ])?\Z",
    re.I,
)
_NUMBER_WORD = (
    r"(?:[ -]?(?:number|nummer|num|nr|no|id|#)(?![a-z]))?\.?[ ]?(?:(?:is|was)(?![a-z])|:|=|#|-|(?=\())?[ ]{0,3}"
)


def _said(text: str, start: int, words: re.Pattern[str]) -> bool:
    return words.search(text, max(0, start - _BEFORE), start) is not None


def _words(*words: str) -> Worded:
    """Words that say what the number right after them is."""
    longest_first = sorted(words, key=len, reverse=True)
    return Worded("|".join(longest_first), rf"(?i:(?![a-z]){_NUMBER_WORD})", before=r"(?<![\w/])")


def _after(words: Worded, form: re.Pattern[str], text: str, places: Begins) -> Iterator[re.Match[str]]:
    """Where ``form`` stands right after one of the words."""
    for word in words.found(text, places):
        if match := form.match(text, word.end()):
            yield match


# --- phones -------------------------------------------------------------------------------------------------------

_EXTENSION = r"(?:[ ]?,?[ ]?(?:x|ext\.?|extension|Durchwahl|poste)[ ]?\d{1,5}(?!\w))?"
_NANP = re.compile(
    r"(?<![\w.+-])(?:\+?1[ .-]{1,2}|\+1)?(?:\([2-9]\d\d\)[ -]{0,2}|[2-9]\d\d[ .-]{1,2})[2-9]\d\d[ .-]{1,2}\d{4}"
    rf"(?![\w-]|\.\d){_EXTENSION}"
)
_ABROAD = re.compile(
    r"(?<![\w+])(?:\+|00(?=[1-9]\d{0,2}[ ./-]))[1-9]\d{0,2}(?:[ ./-]{0,2}\(0\))?(?:[ ./-]{0,2}\(?\d\)?){6,13}(?![\w])"
    rf"{_EXTENSION}"
)
_TRUNK = re.compile(
    r"(?<![\w.+/-])(?<!\d )(?:\(0[1-9]\d{0,4}\)|0[1-9]\d{0,4})(?:[ /-]{1,3}|"
    r"(?<=\d)\.)\d{2,8}(?:[ .-]\d{2,6}){0,4}(?![\w]|[./-]\d)"
    rf"{_EXTENSION}"
)
_MOBILE = re.compile(r"(?<![\w.+/-])(?:07\d{9}|0[67]\d{8}|01[5-7]\d{8,9})(?![\w]|[./-]\d)")
_LOOSE = re.compile(r"(?<![\w.+/-])\(?\d(?:[ ()./-]{0,2}\d){5,13}(?![\w]|[./-]\d)" + _EXTENSION)
_PHONE = _words(
    r"tel(?:e(?:phone|fon)\w*)?",
    *("phone", "telephone", r"ph", r"mob(?:ile)?"),
    *(
        r"cell(?:ular)?",
        r"fax",
        r"call(?:ed)?(?:[ ](?:me|us|him|her|them))?(?:[ ](?:at|on|back on|back at))?",
        r"handy",
    ),
    *(r"ring", r"text(?:[ ](?:me|us))?(?:[ ](?:at|on))?", r"dial", r"reach(?:ed|able)?[ ]?\w{0,5}[ ](?:at|on|under)"),
    *(r"whats ?app", r"signal", r"sms", r"rufnummer", r"mobil", r"tél(?:éphone|éfono)?", "teléfono", r"portable"),
    *(r"hotline", r"callback", r"voicemail", r"pager"),
)
_DATE_LIKE = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{2,4}|\d{4}([./-])\d{1,2}\2\d{1,2}")
# Assigned country calling codes of one or two digits; every other first two digits begin a code of three.
_CALLING = frozenset(
    (
        *(1, 7, 20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58),
        *(60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98),
    )
)
_CALLING_3 = frozenset((21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67, 68, 85, 87, 88, 96, 97, 99))


def phones(text: str) -> Iterator[Span]:
    for match in _NANP.finditer(text):
        if not _said(text, match.start(), _OTHER):
            yield Span(*match.span(), "PHONE", "phone.nanp", 920)
    for match in _ABROAD.finditer(text):
        number = digits(match[0].partition("x")[0]).removeprefix("00")
        two = int(number[:2])
        if 8 <= len(number) <= 17 and (number[0] in "17" or two in _CALLING or two in _CALLING_3):
            yield Span(*match.span(), "PHONE", "phone.international", 950)
    for match in _TRUNK.finditer(text):
        long_enough = 9 <= len(digits(match[0])) <= 13
        if long_enough and not _DATE_LIKE.match(match[0]) and not _said(text, match.start(), _OTHER):
            yield Span(*match.span(), "PHONE", "phone.national", 850)
    for match in _MOBILE.finditer(text):
        if not _said(text, match.start(), _OTHER):
            yield Span(*match.span(), "PHONE", "phone.mobile", 750)
    for match in _after(_PHONE, _LOOSE, text, begins(text)):
        if not _DATE_LIKE.fullmatch(match[0]):
            yield Span(*match.span(), "PHONE", "phone.said", 880)


# --- accounts and cards -------------------------------------------------------------------------------------------

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.+])(?<!\d[-/])\d(?:[ -]?\d){12,18}(?![\w]|[./-]\d)")
_GROUPS = re.compile(
    r"\d+|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5}|\d{4}([ -])\d{4}\3\d{4}\3\d{4}\3\d{1,3}"
)
_CARD_WORD = _words("card", "visa", "mastercard", "amex", "american express", "pan", "kreditkarte")
_ACCOUNT = re.compile(
    r"(?<!\w)(?:(?:bank |checking |savings |current )?acc(?:oun)?t|konto|a/c|sort code|routing|aba|blz)"
    r"(?:[ -]?(?:no|nr|num|number|nummer))\.?[ ]?(?:is|:|=|#)?[ ]{0,3}(\d(?:[ -]?\d){5,16})(?![\w]|[./-]\d)",
    re.I,
)


def accounts(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        end, count = match.start(), 0
        while count < length and end < len(text) and (text[end] in " -" or text[end].isalnum()):
            count += text[end] not in " -"
            end += 1
        number = re.sub("[ -]", "", text[match.start() : end]).upper()
        if count and number.isascii() and iban(number) and not text[end : end + 1].isalnum():
            yield Span(match.start(), end, "IBAN", "iban.mod97", 995)
    for match in _CARD.finditer(text):
        good = card(digits(match[0])) and _GROUPS.fullmatch(match[0])
        if good and (
            not _said(text, match.start(), _OTHER)
            or _CARD_WORD.pattern.search(text, max(0, match.start() - _BEFORE), match.start())
        ):
            yield Span(*match.span(), "CARD", "card.luhn", 970)
    for match in _ACCOUNT.finditer(text):
        yield Span(*match.span(1), "ACCOUNT", "account.said", 850)


# --- identity numbers ---------------------------------------------------------------------------------------------

_Check = Callable[[str], bool]


def _ssn(number: str) -> bool:
    area, group, serial = number[:3], number[3:5], number[5:]
    if area[0] == "9":  # ITIN
        return 50 <= int(group) <= 65 or 70 <= int(group) <= 88 or int(group) in (90, 91, 92, 94, 95, 96, 97, 98, 99)
    return area not in ("000", "666") and group != "00" and serial != "0000" and number != "123456789"


def _cpf(number: str) -> bool:
    first = sum(int(char) * (10 - i) for i, char in enumerate(number[:9])) * 10 % 11 % 10
    second = sum(int(char) * (11 - i) for i, char in enumerate(number[:10])) * 10 % 11 % 10
    return len(set(number)) > 1 and number[9:] == f"{first}{second}"


def _born(number: str) -> bool:
    return birth_date(number[0:2], number[2:4], number[4:6])


def _born_first_day(number: str) -> bool:
    return birth_date(number[4:6], number[2:4], number[0:2])


def _fodselsnummer(number: str) -> bool:
    return (
        weighted(number, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1), 11) == 0
        and weighted(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1), 11) == 0
    )


def _chinese(number: str) -> bool:
    total = sum(int(char) * (2 ** (17 - i) % 11) for i, char in enumerate(number[:17])) % 11
    return number[17] == "10X98765432"[total] and birth_date(number[8:10], number[10:12], number[12:14])


def _hetu(number: str) -> bool:
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits(number[:-1])) % 31] == number[-1] and _born_first_day(number)


def _nir(number: str) -> bool:
    plain = number.replace("2A", "19").replace("2B", "18")
    return plain.isdigit() and 97 - int(plain[:13]) % 97 == int(plain[13:])


def _dni(number: str) -> bool:
    plain = number[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(plain) % 23] == number[-1]


def _belgian(number: str) -> bool:
    return 97 - int(number[:9]) % 97 == int(number[9:]) or 97 - int("2" + number[:9]) % 97 == int(number[9:])


def _plate(number: str) -> bool:
    return 4 <= len(number) <= 9 and not number.isdigit() and not number.isalpha()


def _any(number: str) -> bool:
    return bool(number)


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.+-])(?:{pattern})(?![\w]|[.-]\d)", re.I)


_SSN_WORD = _words(
    "ssn", "social", r"soc\.? ?sec\.?", r"social[ -]security", "itin", "tin", r"tax(?:payer)?[ -]?id", "ss"
)
# (rule, kind, form, check of the upper-case letters and digits, a word that must stand before or None, confidence)
_IDS: list[tuple[str, str, re.Pattern[str], _Check, Worded | None, int]] = [
    ("us.ssn", "SSN", _form(r"\d{3}-\d{2}-\d{4}"), _ssn, None, 960),
    ("us.ssn-said", "SSN", _form(r"\d{3}[ .]?\d{2}[ .]?\d{4}"), _ssn, _SSN_WORD, 940),
    (
        "us.ein",
        "TAX-ID",
        _form(r"\d{2}-?\d{7}"),
        _any,
        _words("ein", "fein", r"employer i\w{0,20}", r"tax[ -]?id"),
        900,
    ),
    (
        "uk.nino",
        "NATIONAL-ID",
        _form(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]"),
        _any,
        None,
        930,
    ),
    (
        "uk.nhs",
        "NATIONAL-ID",
        _form(r"\d{3}[ -]?\d{3}[ -]?\d{4}"),
        lambda n: weighted(n, (10, 9, 8, 7, 6, 5, 4, 3, 2, 1), 11) == 0,
        _words("nhs"),
        960,
    ),
    ("es.dni", "NATIONAL-ID", _form(r"(?:\d{8}|[XYZ]-?\d{7})-?[A-Z]"), _dni, None, 900),
    ("fr.nir", "NATIONAL-ID", _form(r"[12] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d"), _nir, None, 970),
    ("it.cf", "NATIONAL-ID", _form(r"[A-Z]{6}\d\d[ABCDEHLMPRST]\d\d[A-Z]\d{3}[A-Z]"), codice_fiscale, None, 990),
    (
        "de.tax",
        "TAX-ID",
        _form(r"[1-9]\d ?\d{3} ?\d{3} ?\d{3}"),
        mod_11_10,
        _words(r"steuer\S{0,24}", r"tax\S{0,24}", "tin", r"idnr\.?"),
        960,
    ),
    (
        "nl.bsn",
        "NATIONAL-ID",
        _form(r"\d{9}"),
        lambda n: weighted(n, (9, 8, 7, 6, 5, 4, 3, 2, -1), 11) == 0,
        _words("bsn", r"burgerservice\w*", r"sofi\w*"),
        970,
    ),
    (
        "pl.pesel",
        "NATIONAL-ID",
        _form(r"\d{11}"),
        lambda n: weighted(n, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), 10) == 0,
        _words("pesel"),
        970,
    ),
    (
        "se.personnummer",
        "NATIONAL-ID",
        _form(r"(?:19|20)?\d{6}[-+]\d{4}"),
        lambda n: luhn(n[-10:]) and _born(n[-10:]),
        None,
        930,
    ),
    ("fi.hetu", "NATIONAL-ID", _form(r"\d{6}[-+A-FYXWVU]\d{3}[0-9A-Y]"), _hetu, None, 970),
    ("dk.cpr", "NATIONAL-ID", _form(r"\d{6}-?\d{4}"), _born_first_day, _words("cpr", "personnummer"), 930),
    ("no.fnr", "NATIONAL-ID", _form(r"\d{6} ?\d{5}"), _fodselsnummer, None, 900),
    ("be.rrn", "NATIONAL-ID", _form(r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d"), _belgian, None, 980),
    (
        "ch.ahv",
        "NATIONAL-ID",
        _form(r"756\.?\d{4}\.?\d{4}\.?\d\d"),
        lambda n: weighted(n, (1, 3) * 6 + (1,), 10) == 0,
        None,
        970,
    ),
    ("br.cpf", "NATIONAL-ID", _form(r"\d{3}\.\d{3}\.\d{3}-\d\d"), _cpf, None, 980),
    ("br.cpf-said", "NATIONAL-ID", _form(r"\d{11}"), _cpf, _words("cpf"), 970),
    (
        "in.aadhaar",
        "NATIONAL-ID",
        _form(r"[2-9]\d{3} ?\d{4} ?\d{4}"),
        verhoeff,
        _words(r"aadh?aa?r", "uidai", "uid"),
        970,
    ),
    ("in.pan", "NATIONAL-ID", _form(r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]"), _any, None, 850),
    ("cn.id", "NATIONAL-ID", _form(r"[1-9]\d{16}[\dX]"), _chinese, None, 970),
    (
        "ca.sin",
        "NATIONAL-ID",
        _form(r"\d{3}[ -]?\d{3}[ -]?\d{3}"),
        luhn,
        _words("sin", r"social insurance", "nas"),
        960,
    ),
    (
        "passport",
        "NATIONAL-ID",
        _form(r"[A-Z]{0,2}\d{6,9}[A-Z]?|[CFGHJK][0-9CFGHJKLMNPRTVWXYZ]{8}"),
        _any,
        _words("passport", "pass", "reisepass", "passeport", "pasaporte"),
        900,
    ),
    (
        "licence",
        "NATIONAL-ID",
        _form(r"(?=[A-Z0-9-]{0,20}\d)[A-Z0-9](?:-?[A-Z0-9]){5,19}"),
        _any,
        _words(r"driv(?:er'?s?|ing) licen[cs]e", r"f[uü]hrerschein", "dl"),
        880,
    ),
    ("vin", "VEHICLE", _form(r"[A-HJ-NPR-Z0-9]{17}"), lambda n: not n.isalpha() and vin(n), None, 950),
    (
        "plate",
        "VEHICLE",
        re.compile(r"[A-ZÄÖÜ0-9]{1,4}(?:[ -]?[A-Z0-9]{1,4}){1,2}(?![\w-])"),
        _plate,
        _words(
            r"plates?",
            r"reg(?:istration|\.)?",
            "vrm",
            "kennzeichen",
            "immatriculation",
            "matr[ií]cula",
        ),
        880,
    ),
]


# Where a number may begin. Most texts have few such places, so all forms are tried there and nowhere else.
_BEGINS = re.compile(r"(?<![\w.+-])(?=(?:[A-Za-z]{0,6}|[A-Za-z]{2} )\d)")


def identities(text: str) -> Iterator[Span]:
    starts, places = [match.start() for match in _BEGINS.finditer(text)], begins(text)
    for rule, kind, form, check, words, confidence in _IDS:
        for match in (
            _after(words, form, text, places) if words else filter(None, (form.match(text, at) for at in starts))
        ):
            if words is None and _said(text, match.start(), _OTHER):
                continue
            number = match[0].upper()
            if check(number if rule == "fi.hetu" else re.sub(r"[^0-9A-Z]", "", number)):
                yield Span(*match.span(), kind, rule, confidence)


# --- dates of birth -----------------------------------------------------------------------------------------------

_MONTH = (
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mär|mai|okt|dez|janv|févr|avr|juin|juil|août|déc)"
    r"[a-zéû]{0,8}\.?"
)
_DATE = (
    r"(?:\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?[ ](?:of[ ])?{_MONTH},?[ ]\d{{4}}|{_MONTH}[ ]\d{{1,2}}(?:st|nd|rd|th)?,?[ ]\d{{4}})"
)
_BORN = re.compile(
    r"(?<!\w)(?:d\.?o\.?b\.?|date[ ]of[ ]birth|birth[ -]?da(?:te|y)|born|geb(?:oren|urtsdatum|urtstag|\.)|n[ée]e?|"
    rf"naissance|nacimiento|naci[dó][oa]?)(?:[ ](?:in[ ]\w{{2,20}}[ ])?(?:is|was|on|am|le|el|"
    rf"the))?[ ]?[:=(,-]?[ ]{{0,3}}({_DATE})(?!\w)",
    re.I,
)


def births(text: str) -> Iterator[Span]:
    for match in _BORN.finditer(text):
        yield Span(*match.span(1), "BIRTHDATE", "birth.said", 930)
