"""Names of people, by what stands around them.

No list holds everybody's name, so a name is known by its company: a title before it, a form's label, a greeting, who
signed, an e-mail address beside it, a common given name in it. A name found once is a name wherever it stands again,
and so is its surname.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from shared.redaction.finding import Span
from shared.redaction.given import GIVEN
from shared.redaction.worded import Worded, begins

_UP = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶĹĻĽŁŃŅŇŐŒŔŘŚŞŠŢŤŪŮŰŲŴŶŹŻŽ"
_LOW = "a-zß-öø-ÿāăąćčďđēėęěğģīįıķĺļľłńņňőœŕřśşšţťūůűųŵŷźżžșț"
_TOKEN = (
    rf"(?:(?:O'|D'|L'|Mc|Mac|Al-|El-)?[{_UP}][{_LOW}]{{1,20}}(?:[-'](?!s\b)[{_UP}]?[{_LOW}]{{1,20}})?"
    rf"|[{_UP}]{{2,20}}(?:[-'][{_UP}]{{2,20}})?)"
)
_INITIAL = rf"[{_UP}]\."
_PARTICLE = (
    r"(?:van der|van den|van de|von der|de la|de los|van|von|der|den|de|da|dos|das|do|di|del|della|du|la|le|bin|ibn"
    r"|al|el|ter|y|e)"
)
_PART = rf"(?:{_TOKEN}|{_INITIAL}|[{_UP}](?![\w.]))"
_NAME = (
    rf"(?:{_TOKEN}|{_INITIAL}[ ]?(?={_TOKEN}|{_INITIAL}|{_PARTICLE}[ ]))"
    rf"(?:[ ]?(?<=[. ])(?:{_PARTICLE}[ ](?={_TOKEN}))?{_PART}){{0,5}}"
)
_REVERSED = rf"{_TOKEN},[ ]{_TOKEN}(?:[ ]{_PART}){{0,2}}"

_STREET = re.compile(
    r"[ ](?i:street|st|avenue|ave|road|rd|boulevard|blvd|drive|dr|lane|ln|court|place|parkway|pkwy|way|square|school|"
    r"park|"
    r"hospital|university|college|library|museum|church|bank|inc|llc|ltd|gmbh|corp|corporation|company|group|"
    r"foundation|"
    r"building|tower|hall|center|centre|airport|station|bridge|institute|prize|award|act|county|city|river|lake|island|"
    r"theatre|theater|hotel|ag|plc|associates|partners|homes|house|estate|gardens|motors|foods|systems|technologies|"
    r"software|framework|edition)\b"
)
_SURNAMES = frozenset((" Hall", " Church", " Lane"))  # as often a surname, where a given name stands before it
# Words that begin with a capital where names do, and are none.
_NO_NAME = frozenset(
    """
    a all and any are as at be by can colleagues customer customers dear do each everybody everyone folks for friend
    friends from go guys he her hi hello him his hiring how i if in is it its ladies let madam manager me member my
    new no not of on or our owner please sir sirs sales service she support team thank thanks thanksgiving that the
    their them there these they this those to today tomorrow us valued we what when where who why will with world
    yes yesterday you your department office hr it billing accounting accounts help info desk monday tuesday
    wednesday thursday friday saturday sunday january february march april june july august september october
    november december city state county board council committee administration agency bureau commission division
    unit group company inc llc ltd corp building permit permits permitting street avenue road north south east west
    plan legal finance marketing engineering operations procurement payroll security management purchasing plan
    plans review number date name address email phone fax mobile signature title description status type amount
    total project order invoice unknown none n/a na tbd same see above below page section chapter version english
    spanish french german american british chinese european herr frau mr mrs ms dr prof miss morning afternoon
    evening night day again both one two three first second last next other another every some most many best kind
    regards sincerely cheers yours truly welcome congratulations happy merry christmas easter google microsoft apple
    amazon facebook twitter github linkedin youtube wikipedia linux windows android python java javascript general
    public federal national international local district central regional united states america europe germany
    france london deere chicago york boston seattle francisco angeles paris berlin madrid rome tokyo washington
    """.split()  # noqa: SIM905 - a list of words reads best as words
)

_TITLE = Worded(
    r"mr\.?|mrs\.?|ms\.?|mx\.?|dr\.?|prof\.?|rev\.?|hon\.?|sgt\.?|lt\.?|capt\.?|ald\.?|sr\.?|sra\.?|srta\.?|mme\.?|"
    r"mlle\.?|dott\.?|ing\.?|miss|professor|sir|dame|herrn?|frau|"
    r"monsieur|madame|mademoiselle|señora?|señorita|signora?|captain|sergeant|lieutenant|detective|inspector|"
    r"officer|judge|justice|councillor|councilman|councilwoman|councilmember|alderman|alderwoman|senator|nurse|"
    r"pastor|rabbi|imam|uncle|aunt",
    rf"[ ](?:(?:Dr|Prof)\.?[ ]){{0,2}}({_NAME})",
)
_FORM = (
    r"(?:applicant|co-?applicant|permit holder|full name|first name|last name|given name|family name|surname|"
    r"forename|middle name|maiden name|"
    r"nickname|legal name|name|your name|contact|contact person|point of contact|poc|owner|property owner|homeowner|"
    r"co-?owner|tenant|landlord|lessee|"
    r"lessor|patient|customer|client|buyer|seller|vendor contact|employee|staff|manager|line manager|supervisor|attn|"
    r"attention|att|c/o|cc|"
    r"bcc|from|to|sender|recipient|addressee|prepared by|submitted by|approved by|reviewed by|requested by|"
    r"reported by|signed|signed by|written by|"
    r"created by|inspected by|inspector|assigned to|assignee|reporter|requester|author|architect|engineer|contractor|"
    r"witness(?:ed by)?|payee|"
    r"beneficiary|account holder|card ?holder|emergency contact|next of kin|spouse|husband|wife|partner|father|"
    r"mother|parent|guardian|"
    r"son|daughter|child|student|teacher|doctor|physician|insured|policy ?holder|claimant|plaintiff|defendant|"
    r"attorney|lawyer|agent|driver|"
    r"guest|passenger|attendees?|participants?|present|caller|notary|trustee|executor|ansprechpartner(?:in)?|"
    r"antragsteller(?:in)?|"
    r"kund(?:e|in)|mieter(?:in)?|vermieter|eigentümer(?:in)?|nachname|vorname|nom|prénom|nombre|apellidos?|titulaire|"
    r"cliente?|titular)"
)
_LABEL = re.compile(rf"(?<![\w-])(?i:{_FORM})(?:\(s\))?(?:'s name|[ ]name)?[ ]?\Z")
_LABELLED = re.compile(rf"[:=][ \t]{{0,4}}((?!(?i:{_FORM})[ ]?[:=])(?:{_REVERSED}|{_NAME}))")
_LABEL_CHARS = 32
_AND = re.compile(rf"(?:,[ ]|[ ](?:and|or|und|oder|et|ou|y|&)[ ]|,[ ](?:and|or)[ ]|;[ ])({_NAME})")
_BY = Worded(
    r"signed(?: off)?|submitted|prepared|approved|reviewed|requested|reported|written|drafted|inspected|filed|"
    r"completed|issued|sent|authored|co-?signed|witnessed|designed|drawn|owned|managed|led|supervised|interviewed|"
    r"represented|accompanied|hired|trained|recommended|confirmed|made|paid|created|handled|conducted|countersigned|"
    r"taken|called|unterzeichnet|unterschrieben|signé",
    rf" (?i:by|von|par)[ ](?:the[ ])?(?:(?i:mr|mrs|ms|dr)\.?[ ])?({_NAME})",
)
_TOWARDS = Worded(
    r"contact|ask(?: for)?|call|phone|ring|e-?mail|text|notify|remind|tell|told|met(?: with)?|meet(?: with)?|"
    r"meeting with|spoke (?:with|to)|speak (?:with|to)|talk(?:ed)? (?:to|with)|reach out to|check with|behalf of|"
    r"care of|attention of|cc|attn|thanks to|thank|forward (?:it |this )?to|assigned to|assign (?:it |this )?to|"
    r"hand(?:ed)? (?:it )?(?:over )?to|report(?:s|ed)? to|belongs to|married to|employee|tenant|patient|client|"
    r"customer|applicant|homeowner|landlord|architect|colleague|neighbou?r|cousin|brother|sister|husband|wife|son|"
    r"daughter|boss|friend|assistant|manager|supervisor|engineer|inspector|contractor|owner|attorney|lawyer|witness|"
    r"named|interview with|letter from|e-?mail from|call from|message from|note from|complaint from|request from|"
    r"invoice from|payment from|letter to|invited|hired",
    rf"[ ]({_NAME})",
)
_GREETING = re.compile(
    rf"(?:(?<=\n)|\A|(?<=[.!?,>\"] ))[ \t]{{0,4}}(?i:dear|hi|hello|hey|good (?:morning|afternoon|evening|day)|"
    rf"liebe[r]?|hallo|guten (?:tag|morgen)|"
    rf"sehr geehrter? (?:herr|frau)|bonjour|salut|chère?|hola|estimad[oa]|querid[oa]|ciao|caro|cara|olá|prezad[oa]|"
    rf"greetings)(?:[ ]there)?,?[ ]({_NAME})"
)
_CLOSING = re.compile(
    rf"(?:(?<=\n)|(?<=[.!?] )|\A)[ \t]{{0,4}}(?i:(?:with )?(?:best|kind|warm|warmest|kindest)(?: regards| wishes)?|"
    rf"regards|sincerely(?: yours)?|yours (?:sincerely|truly|faithfully)|"
    rf"respectfully|many thanks|thanks(?: again| so much| a lot)?|thank you|cheers|best|all the best|love|"
    rf"mit freundlichen grüßen|viele grüße|liebe grüße|"
    rf"cordialement|bien à vous|saludos|atentamente|cordiali saluti|signed|"
    rf"/s/)[,.!]?[ \t]{{0,4}}[\n ]{{1,3}}(?:[-–][ ]?)?({_NAME})(?=[ \t]{{0,4}}(?:\n|\Z|[,|(]))"
)
_SELF = Worded(
    r"my name is|my name's|this is|i am|i'm|call me|i, |me llamo|je m'appelle|ich heiße|mein name ist|mi nombre es|"
    r"mi chiamo",
    rf"[ ]?({_NAME})",
)
_DOES = re.compile(
    rf"(?<![\w.])({_NAME})(?=(?:,? (?i:\(?age[d]? \d|\d\d,|said|says|wrote|writes|called|emailed|e-mailed|phoned|"
    rf"asked|asks|agreed|signed|told|replied|"
    rf"mentioned|explained|confirmed|lives|lived|resides|was born|is allergic|has diabetes|works (?:at|for|as|in)|"
    rf"worked|joined|resigned|"
    rf"left a|will call|would like|wants|prefers|is our|is the (?:owner|tenant|applicant|contact|manager)|came in|"
    rf"visited|complained|reported|submitted|applied|requested|paid|owes)\b|"
    rf"'s (?i:phone|number|email|e-mail|address|wife|husband|son|daughter|mother|father|house|account|salary|"
    rf"birthday|passport|file|record|doctor|manager|office|team|car)\b))"
)
_MAILED = re.compile(rf"(?<!\w)(\"?)({_REVERSED}|{_NAME})\1[ ]?[<(\[](?:mailto:)?[\w.+'-]{{1,64}}@")
_PHONED = re.compile(
    rf"(?<![\w.])({_NAME})(?=(?:,[ ]|[ ]?[(:][ ]?|[ ][-|][ ]|[ ](?:on|at)[ ])(?:\+|\(?\d{{3}}\)?[ .-]\d{{3}}|(?i:tel|"
    rf"phone|mobile|cell|ph|fax)\b))"
)
_ROLE = re.compile(rf"(?<!\w)(?i:the|our|my|his|her|their) [a-z]{{3,20}}, ({_NAME})(?=[,.])")
_INITIALLED = re.compile(
    rf"(?<![\w.])(?!U\.[ ]?S\.|N\.[ ]?Y\.|D\.[ ]?C\.)((?:{_INITIAL}[ ]?){{2,3}}(?:{_PARTICLE}[ ])?{_TOKEN})(?!\w)"
)
_CAPITALS = re.compile(rf"(?<![\w.@-]){_PART}(?:[ ](?:{_PARTICLE}[ ])?{_PART}){{1,3}}(?![\w@])")

# (rule, pattern, group, at least so many words, confidence)
_CONTEXTS: tuple[tuple[str, Worded | re.Pattern[str], int, int, int], ...] = (
    ("name.title", _TITLE, 1, 1, 920),
    ("name.label", _LABELLED, 1, 1, 900),
    ("name.by", _BY, 1, 1, 850),
    ("name.towards", _TOWARDS, 1, 2, 800),
    ("name.greeting", _GREETING, 1, 1, 880),
    ("name.closing", _CLOSING, 1, 1, 870),
    ("name.self", _SELF, 1, 2, 860),
    ("name.does", _DOES, 1, 2, 800),
    ("name.mailed", _MAILED, 2, 1, 930),
    ("name.role", _ROLE, 1, 2, 760),
    ("name.phoned", _PHONED, 1, 2, 820),
    ("name.initials", _INITIALLED, 1, 2, 770),
)
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
# Contexts too weak for a text that is all in capitals, unless a given name begins it.
_WEAK = frozenset(("name.towards", "name.does", "name.phoned", "name.self", "name.role", "name.by", "name.initials"))
_AGAIN_CHARS = 4  # a shorter surname alone is too often a word
_AGAIN = 200  # names that are looked for again


def names(text: str) -> list[Span]:
    """Every name found, and where it or its surname stands again."""
    found = [*_by_context(text), *_by_given(text)]
    return [*found, *_again(text, found)]


def _by_context(text: str) -> Iterator[Span]:
    places, mailed = begins(text), "@" in text
    for rule, pattern, group, words, confidence in _CONTEXTS:
        if rule == "name.mailed" and not mailed:
            continue
        for match in pattern.found(text, places) if isinstance(pattern, Worded) else pattern.finditer(text):
            place = match.start()
            if rule == "name.label" and not _LABEL.search(text, max(0, place - _LABEL_CHARS), place):
                continue
            least = 1 if is_given(match[group]) else words
            span = checked(text, *match.span(group), rule, confidence, least)
            if span is None:
                continue
            yield span
            if rule in ("name.label", "name.by", "name.towards"):  # "Attendees: Ann Lee, Bo Chen and Cy Diaz"
                at = span.end
                while more := _AND.match(text, at):
                    other = checked(text, *more.span(1), rule, confidence - 50, 1 if is_given(more[1]) else 2)
                    if other is None:
                        break
                    yield other
                    at = other.end


def _by_given(text: str) -> Iterator[Span]:
    """A common given name and what follows it: ``... with Maria Keller about ...``."""
    for match in _CAPITALS.finditer(text):
        at = match.start()
        for word in _WORD.finditer(match[0]):
            if word[0].casefold() in GIVEN:
                span = checked(text, at + word.start(), match.end(), "name.given", 780, 2)
                if span is not None:
                    yield span
                break


def is_given(name: str) -> bool:
    return name.split(" ", 1)[0].rstrip(",.").casefold() in GIVEN


def checked(text: str, start: int, end: int, rule: str, confidence: int, least: int) -> Span | None:
    """The span cut to what can be a name of at least ``least`` words, or nothing: shop names, streets and ordinary
    words are none."""
    words = list(_WORD.finditer(text, start, end))
    count = 0
    for word in words:
        if word[0].casefold() in _NO_NAME:
            break
        count += 1
    if count == 0 or count < least:
        return None
    if rule in _WEAK and text[start:end].isupper() and not is_given(text[start:end]):
        return None
    end = words[count - 1].end() if count < len(words) else end
    while text[end - 1] in " ,":
        end -= 1
    inner = rule in ("name.given", "ner.person") and _STREET.search(text, start, end)
    if count == len(words) and (_STREET.match(text, end) or (inner and inner[0] not in _SURNAMES)):
        return None
    if all(len(word[0]) == 1 for word in words[:count]):
        return None
    return Span(start, end, "NAME", rule, confidence)


def _again(text: str, found: list[Span]) -> Iterator[Span]:
    wanted: dict[str, int] = {}
    for span in found:
        said = text[span.start : span.end]
        parts = [part for part in re.split(r"[ ,]+", said) if part]
        wanted.setdefault(said, span.confidence)
        surname = parts[0] if "," in said else parts[-1]
        for part in (surname, *(part for part in parts if part.casefold() in GIVEN)):
            plain = part.strip(".")
            if plain.isupper() and span.confidence < 850:
                continue  # in capitals every word looks like a surname
            if len(plain) >= _AGAIN_CHARS and plain[0].isupper() and plain.casefold() not in _NO_NAME:
                wanted.setdefault(plain, min(span.confidence, 760))
        if len(wanted) > _AGAIN:
            break
    if not wanted:
        return
    every = "|".join(re.escape(name) for name in sorted(wanted, key=lambda name: (-len(name), name)))
    known = {(span.start, span.end) for span in found}
    for match in re.finditer(rf"(?<![\w@.-])(?:{every})(?![\w@]|-\w)", text):
        if match.span() not in known and not _STREET.match(text, match.end()):
            yield Span(*match.span(), "NAME", "name.again", wanted[match[0]])
