"""Find personal data and secrets in texts, name their kind, and replace them.

What belongs to nobody is left alone: addresses at example.com, 555 and toll-free numbers, private, local and
documentation networks, keys that documentation shows.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from curate.store.store import Part
from schemas.names import PERSONAL_DATA, PersonalData
from schemas.tables import Dropped, Pair

EMAIL = re.compile(
    r"(?<![\w.+%-])[a-z0-9_](?:[\w.+%'-]{0,62}[a-z0-9_])?@((?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24})(?![\w-])", re.A | re.I
)
NOBODYS_DOMAIN = re.compile(
    r"(?:^|\.)(?:example|test|invalid|localhost|local)$|(?:^|\.)(?:example|sample)\d*\.|^(?:your|my|some|the)?-?"
    r"(?:domain|company|email|website|site|organi[sz]ation|business|school|university|companyname|yourcompany)\."
    r"[a-z.]+$|^[xyz]{2,}\.|^(?:abc|foo|bar|test)\.",
    re.I,
)
FILE_ENDING = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|js|ts|css|html?|java|cpp|json|xml|txt|exe|dll)$", re.I)
NOBODYS_USER = re.compile(r"(?:git|no-?reply|x{3,}|your[._-]?(?:e?mail|name)|you|user(?:name)?|e?mail)@", re.I)

DIGITS = re.compile(
    r"(?<![\w.,/:=#$€£¥@%&+-])(?:\+|\(\+?)?[0-9](?:[ .\u00a0()-]{0,2}[0-9]){6,18}"
    r"(?![\w%@]|[.,/:-][0-9]|[ ]?[=*\u00d7])",
    re.A,
)
"""Seven to nineteen digits and what phone and card numbers are grouped with."""
CALLED = re.compile(
    r"(?:\b(?:telephone|phone|tel|cell(?:phone)?|mobile|mob|call(?:ed|ing)?|dial(?:ed)?|ring|fax"
    r"|text (?:me|us|him|her|them|to)|whats ?app|sms"
    r"|contact|handy|telefon|t[eé]l[eé]phone|tel[eé]fono|number is)\b|电话|手机|電話)"
    r"(?:[ \t:\uff1a#.(“\"'`*=-]|\b(?:numbers?|no|nr|is|was|at|us|me"
    r"|on|him|her|them|to|it|phone|mobile|cell)\b){0,12}$",
    re.I,
)
"""What a number is called before it, with nothing but small words between."""
CALLING_CODE = re.compile(
    r"1|7|20|27|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-689][0-9]|3[578][0-9]|42[0139]|50[0-9]|59[0-9]|"
    r"67[0-9]|68[0-9]|69[0-2]|85[0-6]|88[06]|96[0-8]|97[0-7]|99[2-8]"
)
NORTH_AMERICA = re.compile(r"(?:\+?1([ .-]))?(?:\(([2-9]\d\d)\) ?|([2-9]\d\d)([ .-]))([2-9]\d\d)([ .-])(\d{4})", re.A)
NATIONAL = re.compile(
    r"\(?0\d{2,5}\)?[ -/]\d{3,4}[ -]\d{3,4}|\(?0\d{1,4}\)?[ -]\d{6,8}|0[1-9](?:([ .-])\d\d)(?:\1\d\d){3}"
    r"|\(0\d{1,3}\) ?\d{3,4}[ -]\d{3,4}|04\d\d \d{3} \d{3}|0\d{1,3}-\d{3,4}-\d{4}",
    re.A,
)
"""Britain and Germany, France, Australia, Japan."""
LONGEST_PHONE = 13
"""Digits with the calling code. Fifteen are allowed, but longer ones than thirteen are sums and ids."""
FREE_AREAS = {"800", "833", "844", "855", "866", "877", "888", "900", "555"}
NOBODYS_NUMBER = re.compile(r"1234567|2345678|(\d)\1{5}|^447700900|^07700900|^44207946|^0207946")

CARD = re.compile(r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}")  # fmt: skip
CARD_GROUPS = ([16], [15], [4, 4, 4, 4], [4, 6, 5], [4, 6, 4], [4, 4, 4, 4, 3])
CALLED_CARD = re.compile(r"\b(?:card|visa|mastercard|amex|credit|debit)\b[^\n]{0,24}$", re.I)

IPV4 = re.compile(r"(?<![\w.-])(?<![\w.]:)\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d|-\d)", re.A)
IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-f]{3}:[0-9a-f:]{2,34}(?![\w.]*\w*:)(?![\w])", re.A | re.I)
NUMBERED = re.compile(
    r"(?:\b(?:versions?|v|ver|release|firmware|build|update|section|chapter|clause|figure|table|driver|kernel)\b|§)"
    r"[ .:#]*$",
    re.I,
)
NETWORKED = re.compile(r"\b(?:ip|ipv4|address|host|server|ping|gateway|dns)\b[^\n]{0,24}$", re.I)
WELL_KNOWN = {"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "123.45.67.89", "123.123.123.123"}
"""Resolvers that everybody uses, and what is written where any address would do."""

KEY = re.compile(
    r"(?<![\w-])(?:sk-[\w-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{36,}|github_pat_\w{22,}|hf_[A-Za-z0-9]{30,}"
    r"|AIza[\w-]{35}|xox[abeprs]-[\w-]{10,}|[sr]k_(?:live|test)_\w{16,}|glpat-[\w-]{20,}|npm_\w{36}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})(?![\w-])",
    re.A,
)
PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,10} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?P<whole>.{0,8000}?)-----END [A-Z0-9 ]{1,40}-----|(?P<cut>[\w+/=\s\\]{0,8000}))",
    re.A | re.S,
)
LEAST_SIGNS = 12
"""Distinct signs of a key; `sk-xxxxxxxxxxxxxxxxxxxx` stands for one."""

WINDOW = 40
"""Characters before a number that tell what it is."""

KIND = rf"\[(?:{'|'.join(PERSONAL_DATA)})\]"
STRING_OR_KIND = re.compile(rf'"(?:[^"\\]|\\.)*"|(?P<kind>{KIND})', re.S)
"""A text of JSON, or a kind that stands in the place of a number."""
CUT_ESCAPE = re.compile(rf"(?<!\\)((?:\\\\)*)\\({KIND})")
"""The sign before an escape whose letter was taken for one of an address, as in \\nann@example.org."""

Span = tuple[int, int, PersonalData]


@dataclass(frozen=True)
class RedactConfig:
    """Version of the search; nothing else decides what is replaced."""

    version: int = 2
    """Raised when the same texts would be written otherwise."""


def redact_pairs(pairs: pl.DataFrame, cfg: RedactConfig) -> Part:
    """The pairs with personal data replaced by its kind in all turns, both responses and their reasoning; ids stay."""
    turns = pairs.select("messages").with_row_index("row").explode("messages").unnest("messages")
    texts = redact_texts(turns["content"])
    calls = ((turns["role"] == "tool_call") & (texts != turns["content"])).arg_true()
    if calls.len():
        texts = texts.clone().scatter(calls, [mend_json(text) for text in texts[calls]])
    redacted = turns.with_columns(texts).group_by("row", maintain_order=True)
    messages = redacted.agg(messages=pl.struct("role", "content"))["messages"]
    sides = ("chosen", "rejected", "chosen_reasoning", "rejected_reasoning")
    rows = pairs.with_columns(messages, *(redact_texts(pairs[name]) for name in sides))
    return Part(rows.pipe(Pair.cast), Dropped.create_empty())


def mend_json(text: str) -> str:
    """JSON in which kinds were put, mended where one is in the place of a number or behind half an escape."""
    whole = CUT_ESCAPE.sub(r"\1\2", text)
    return STRING_OR_KIND.sub(lambda match: f'"{match[0]}"' if match["kind"] else match[0], whole)


def personal_kinds(texts: pl.Series) -> pl.Series:
    """The kinds in each text, in the order of `PERSONAL_DATA`; a list of strings, empty for a null."""
    found = candidate_texts(texts)
    kinds = [kinds_in(text, signs) for text, signs in zip(found["text"], found["signs"], strict=True)]
    rows = pl.DataFrame({"row": found["row"], "kinds": kinds}, schema={"row": pl.UInt32, "kinds": pl.List(pl.String)})
    joined = pl.DataFrame({"text": texts}).with_row_index("row").join(rows, on="row", how="left", maintain_order="left")
    return joined["kinds"].fill_null([]).alias(texts.name)


def redact_texts(texts: pl.Series) -> pl.Series:
    """The texts with personal data replaced by its kind, as in [email]; null stays null."""
    found = candidate_texts(texts)
    if found.is_empty():
        return texts
    changed = pl.Series([mask_personal(text) for text in found["text"]], dtype=pl.String)
    # A series is changed in place, and the texts of the caller must stay as they are.
    return texts.clone().scatter(found["row"], changed)


def mask_personal(text: str) -> str:
    """A text with personal data replaced by its kind; doing it again changes nothing."""
    # What stood beside a number, and kept it from being one, may be gone with the first round.
    while spans := spans_in(text, FINDERS):
        parts, end = [], 0
        for start, stop, kind in spans:
            parts += [text[end:start], f"[{kind}]"]
            end = stop
        text = "".join([*parts, text[end:]])
    return text


def kinds_in(text: str, signs: Iterable[str] | None = None) -> list[PersonalData]:
    """The kinds in a text, in the order of `PERSONAL_DATA`, of those that `signs` tell of; of all by default."""
    found = {kind for _, _, kind in spans_in(text, FINDERS if signs is None else signs)}
    return [kind for kind in PERSONAL_DATA if kind in found]


def candidate_texts(texts: pl.Series) -> pl.DataFrame:
    """row, text and signs of the texts that may hold any of the kinds."""
    signs = [pl.when(pl.col("text").str.contains(sign, literal=sign == "@")).then(pl.lit(sign)) for sign in FINDERS]
    rows = pl.DataFrame({"text": texts}).with_row_index("row")
    return rows.with_columns(signs=pl.concat_list(signs).list.drop_nulls()).filter(pl.col("signs").list.len() > 0)


def spans_in(text: str, signs: Iterable[str]) -> list[Span]:
    """Spans of personal data: begin, end and kind, in order and apart from each other."""
    spans = sorted((start, -stop, kind) for sign in signs for start, stop, kind in FINDERS[sign](text))
    apart: list[Span] = []
    for start, stop, kind in spans:
        if not apart or start >= apart[-1][1]:
            apart.append((start, -stop, kind))
    return apart


def find_keys(text: str) -> Iterator[Span]:
    """Keys of well-known services, web tokens and private keys."""
    for match in KEY.finditer(text):
        key = match.group()
        is_shown = "EXAMPLE" in key or len(set(key)) < LEAST_SIGNS or not any(sign.isdigit() for sign in key)
        if not is_shown:
            yield (*match.span(), "api_key")
    for match in PRIVATE_KEY.finditer(text):
        if len(set(match["whole"] or match["cut"] or "")) >= LEAST_SIGNS:
            yield (*match.span(), "api_key")


def find_emails(text: str) -> Iterator[Span]:
    """Addresses that can be somebody's."""
    if "@" not in text:
        return
    for match in EMAIL.finditer(text):
        domain = match.group(1)
        is_nobodys = NOBODYS_DOMAIN.search(domain) or FILE_ENDING.search(domain) or NOBODYS_USER.match(match.group())
        if not is_nobodys:
            yield (*match.span(), "email")


def find_numbers(text: str) -> Iterator[Span]:
    """Card and phone numbers."""
    for match in DIGITS.finditer(text):
        for start, stop in digit_readings(text, *match.span()):
            written, before = text[start:stop], text[max(0, start - WINDOW) : start]
            if is_card(written, before):
                yield start, stop, "card_number"
                break
            if is_phone(written, before):
                yield start, stop, "phone"
                break


def digit_readings(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The digits from `start` to `stop`, then without what a blank parts from their end, begin or both.

    Another number may stand beside: "room 5 415-867-5309 24 hours".
    """
    first, last = text.find(" ", start, stop) + 1, text.rfind(" ", start, stop)
    yield start, stop
    if first:
        yield start, last
        yield first, stop
    if start < first < last:
        yield first, last


def is_card(written: str, before: str) -> bool:
    """True for the length, grouping and first digits of a card, with a right check digit.

    One digit in ten is right by chance, so a length that few cards have must be called a card.
    """
    digits = re.sub(r"\D", "", written)
    if not CARD.fullmatch(digits) or len(set(digits)) < 2 or re.search(r"[.()+]", written):
        return False
    groups = [len(group) for group in re.split(r"[ \u00a0-]", written)]
    is_usual = groups in CARD_GROUPS or (len(groups) == 1 and CALLED_CARD.search(before))
    return bool(is_usual) and passes_luhn(digits)


def passes_luhn(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1, annex B: every second digit from the right is doubled."""
    values = [int(digit) for digit in reversed(digits)]
    return sum(values[::2] + [sum(divmod(2 * value, 10)) for value in values[1::2]]) % 10 == 0


def is_phone(written: str, before: str) -> bool:
    """True for a number that can be somebody's phone, by its form or by what stands before it."""
    digits = re.sub(r"\D", "", written)
    # Every bracket is closed, and there is no more than one.
    brackets = written.count("("), written.count(")")
    if NOBODYS_NUMBER.search(digits) or len(set(digits)) < 3 or brackets not in ((0, 0), (1, 1)):
        return False
    if match := NORTH_AMERICA.fullmatch(written):
        area, exchange = match.group(2) or match.group(3), match.group(5)
        # Blanks alone part any numbers in a row.
        is_formed = match.group(2) or match.group(4) != " " or written.startswith("+") or CALLED.search(before)
        is_even = match.group(2) or match.group(4) == match.group(6)
        return bool(is_formed and is_even) and area not in FREE_AREAS and exchange != "555"
    if written.startswith(("+", "(+")):
        return (
            9 <= len(digits) <= LONGEST_PHONE
            and bool(CALLING_CODE.match(digits))
            and not re.match(r"1(?:\d{3})?555|1800", digits)
        )
    if NATIONAL.fullmatch(written):
        return 9 <= len(digits) <= 12 and not is_number_series(written)
    is_date = re.fullmatch(r"(?:19|20)\d\d[ .-]\d{1,2}[ .-]\d{1,2}|\d{1,2}[ .-]\d{1,2}[ .-](?:19|20)\d\d", written)
    is_free = (digits.removeprefix("1")[:3] in FREE_AREAS and len(digits) > 7) or digits.startswith("555")
    return (
        bool(CALLED.search(before))
        and 7 <= len(digits) <= LONGEST_PHONE
        and not is_date
        and not is_free
        and not is_number_series(written)
    )


def is_number_series(written: str) -> bool:
    """True for numbers that only rise, or numbers of one or two digits: a list, and not one number."""
    groups = [int(group) for group in re.findall(r"\d+", written)]
    return len(groups) > 3 and (groups == sorted(groups) or max(groups) < 10)


def find_addresses(text: str) -> Iterator[Span]:
    """Addresses of the public internet, of version 4."""
    for match in IPV4.finditer(text):
        written = match.group()
        before = text[max(0, match.start() - WINDOW) : match.start()]
        # Four small numbers are a version or a section far more often than an address.
        is_small = all(len(part) == 1 for part in written.split("."))
        if NUMBERED.search(before) or (is_small and not NETWORKED.search(before)):
            continue
        if is_public(written):
            yield (*match.span(), "ip_address")


def find_ipv6_addresses(text: str) -> Iterator[Span]:
    """Addresses of the public internet, of version 6."""
    for match in IPV6.finditer(text):
        written = match.group().rstrip(":")
        if sum(map(bool, written.split(":"))) >= 3 and is_public(written):
            yield match.start(), match.start() + len(written), "ip_address"


def is_public(written: str) -> bool:
    """True for an address that is neither private, local, reserved, for documentation nor well known."""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast and written not in WELL_KNOWN


FINDERS: dict[str, Callable[[str], Iterator[Span]]] = {
    "sk-|AKIA|ASIA|gh[pousr]_|github_pat_|hf_|AIza|xox|[sr]k_live|[sr]k_test|glpat-|npm_|eyJ|PRIVATE KEY": find_keys,
    "@": find_emails,
    r"[0-9](?:[ .\x{a0}()-]{0,2}[0-9]){6}": find_numbers,
    r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]": find_addresses,
    r"[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{2}": find_ipv6_addresses,
}
"""What a text has that may hold the kind: polars looks for it, and only where it is Python for the kind."""
