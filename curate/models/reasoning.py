"""Split what a model wrote into its reasoning and its response, by the marks of the engines in use."""

# ruff: noqa: RUF001  (quotation marks that look like others)

import re

from schemas.calls import Response

NAMES = r"(?:[a-z]{1,16}[:|_])?(?:think(?:ing)?|thoughts?|reasoning)(?:[:_][a-z]{1,16})?"
"""`think` of most models, `thinking`, `thought` of EXAONE, `reasoning` of Reka, `seed:think`, `longcat_think` ..."""
TOKENS = {
    "[think]": "[/think]",
    "◁think▷": "◁/think▷",
    "<|start_thinking|>": "<|end_thinking|>",
    "<|think:start|>": "<|think:end|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|channel>thought": "<channel|>",
    "[unused16]": "[unused17]",
}
"""Marks that are no tags, in small letters: Mistral, Kimi, Command A, Solar, OpenThinker, Apertus, Gemma, Pangu."""
MARK = re.compile(
    rf"<(?P<slash>/?)(?P<name>{NAMES})>|(?P<token>{'|'.join(map(re.escape, [*TOKENS, *TOKENS.values()]))})"
    r"|^[ \t]{0,8}(?P<fence>```|~~~)",
    re.IGNORECASE | re.MULTILINE,
)
MARK_SIGNS = "<[◁"
"""With which every mark but a fence begins."""
QUOTES = {"`": "`", "'": "'", '"': '"', "“": "”", "‘": "’", "«": "»", "「": "」"}
SENTENCE_END = frozenset(".!?…:;)]}>\"'”’*`。！？")

WORDED = [
    (re.compile(rf"\s*+(?:{begins})"), re.compile(parts))
    for begins, parts in (
        # Granite
        (r"Here(?: is|['’]s) my thought process:?", r"Here(?: is|['’]s) my response:?"),
        # Apriel
        (r"Here are my reasoning steps:?", r"\[BEGIN FINAL RESPONSE\]"),
        # Solar
        (r"<\|think\|>", r"<\|end\|>\s{0,9}(?:<\|begin\|>assistant\s{0,9})?<\|content\|>"),
        # Open WebUI
        (r"<details type=\"reasoning\"[^<>]*>", r"</details>"),
        # gpt-oss, with the special tokens of its channels, then without
        (
            r"(?=(?:<\|start\|>assistant\s{0,9})?<\|channel\|>"
            r"|(?:(?!<\|channel\|>)[\s\S])*?<\|end\|><\|start\|>assistant<\|channel\|>final<\|message\|>)",
            r"<\|channel\|>\s{0,9}final\b[^\n]{0,80}?<\|message\|>",
        ),
        (r"(?:assistant)?analysis(?=\S[\s\S]*?assistantfinal)", r"assistantfinal"),
        (
            r"analysis(?=(?:We|The|User|Need|I|Let|This|Ok|OK|Okay|So|It|They|First|To|Just|You|Question|Given)\b)",
            r"\Z(?!\Z)",
        ),
    )
]
"""How reasoning begins and what parts it from the response, where neither is a mark of the kind above."""
PLAIN_OPENING = re.compile(r"\s*+Here(?: is|['’]s| are) my (?:thought process|reasoning steps)")
CHANNEL_TOKENS = re.compile(
    r"(?:<\|start\|>assistant)?(?:<\|channel\|>[^\n<]{0,80}<\|message\|>)?(?:<\|(?:end|return|call)\|>)?"
)
RESPONSE_END = re.compile(r"<\|(?:return|end|END_RESPONSE|end_of_solution)\|>|\[END FINAL RESPONSE\]")
WRAPPER = re.compile(r"<(answer|response|output)>(.*?)(?:</\1>\s*)?", re.IGNORECASE | re.DOTALL)
WRAPPER_TOKEN = re.compile(r"<\|(?:START_RESPONSE|begin_of_solution)\|>")
"""What some models put around the response that follows their reasoning."""
NOT_BLANK = re.compile(r"[^\s\ufeff\u200b]|\Z")


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, response); no reasoning, and the text as it is, where nothing marks any.

    Reasoning stands first: a mark that a response quotes or explains further down belongs to the response. Where the
    opening mark is missing, as where the chat template wrote it, a closing one ends the reasoning; where the closing
    one is missing the text was cut within the reasoning, and the response is empty.
    """
    for begins, parts in WORDED:
        if begun := begins.match(text):
            parted = parts.search(text, begun.end())
            reasoning = text[begun.end() : parted.start() if parted else len(text)]
            response = RESPONSE_END.split(text[parted.end() :], maxsplit=1)[0] if parted else ""
            return CHANNEL_TOKENS.sub("", reasoning).strip(), unwrap(response)
    start, end, stop = find_block(text)
    return (text[start:end].strip(), unwrap(text[stop:])) if stop else ("", text)


def read_response(response: Response) -> tuple[str, str]:
    """(reasoning, response) of what a model said: the reasoning that came beside its text, and that within it."""
    within, text = split_reasoning(response.text)
    if not text and response.finish_reason == "stop" and PLAIN_OPENING.match(response.text):
        # Plain words are no mark: a response that ended by itself may begin with them too.
        within, text = "", response.text
    if not response.reasoning:
        return within, text
    return "\n\n".join(filter(None, (response.reasoning.strip(), within))), text.lstrip()


def is_cut_reasoning(text: str, finish_reason: str | None) -> bool:
    """The limit of tokens was used up before the response `text` began: by reasoning, shown or not."""
    return finish_reason == "length" and not text.strip()


def find_opening(prompt: str) -> str:
    """The end of a rendered prompt from the mark on that opens a reasoning there; empty where none does."""
    marks = [mark for mark in MARK.finditer(prompt) if not mark["fence"]]
    is_open = marks and closing_mark(marks[-1])[1] and not prompt[marks[-1].end() :].strip()
    return prompt[marks[-1].start() :] if is_open else ""


def find_block(text: str) -> tuple[int, int, int]:
    """Where the reasoning begins and ends, and where the response begins; zeros where no mark shows any reasoning."""
    if not any(sign in text for sign in MARK_SIGNS):
        return 0, 0, 0
    marks = list(MARK.finditer(text))
    fences, fences_left = 0, sum(bool(mark["fence"]) for mark in marks)
    start, end, stop = 0, 0, 0
    first = first_sign(text, 0)
    closing = ""
    is_inside = False
    doubtful = None
    mentioned: dict[str, re.Match[str]] = {}
    for mark in marks:
        if mark["fence"]:
            fences, fences_left = fences + 1, fences_left - 1
            continue
        name, opens = closing_mark(mark)
        if opens:
            if not is_inside and mark.start() == first and name == (closing or name):
                is_inside, closing, doubtful = True, name, None
                start = start or mark.end()
            elif not is_inside:
                mentioned[name] = mark
            continue
        if name != (closing or name) or is_quoted(text, mark):
            continue
        opening = mentioned.pop(name, None)
        # A fence that never closes was cut off with the reasoning.
        is_code = fences % 2 == 1 and fences_left > 0
        if is_inside and is_code:
            doubtful = doubtful or mark
        elif is_inside or not (is_code or is_mention(text, mark) or (opening and are_pair(text, opening, mark))):
            end, stop, closing, is_inside = mark.start(), mark.end(), name, False
            first = first_sign(text, stop)
            fences = 0
            mentioned.clear()
    if is_inside:
        return (start, doubtful.start(), doubtful.end()) if doubtful else (start, len(text), len(text))
    return start, end, stop


def closing_mark(mark: re.Match[str]) -> tuple[str, bool]:
    """The mark that closes the block this one belongs to, in small letters, and whether this one opens it."""
    if name := mark["name"]:
        return f"</{name.lower()}>", not mark["slash"]
    token = mark["token"].lower()
    return TOKENS.get(token, token), token in TOKENS


def first_sign(text: str, at: int) -> int:
    """Where the first sign that is not blank stands, from `at` on."""
    found = NOT_BLANK.search(text, at)
    return found.start() if found else len(text)


def is_quoted(text: str, mark: re.Match[str]) -> bool:
    before, after = text[mark.start() - 1 : mark.start()], text[mark.end() : mark.end() + 1]
    return bool(before) and QUOTES.get(before) == after


def is_mention(text: str, mark: re.Match[str]) -> bool:
    """A sentence speaks of the closing mark: it goes on after it, and had not ended before it."""
    before, after = text[max(0, mark.start() - 2) : mark.start()], text[mark.end() : mark.end() + 2]
    if len(before) < 2 or before[1] not in " \t" or before[0] in SENTENCE_END or before[0].isspace():
        return False
    return after[:1] in tuple(",.;:)?!") or (after[:1] == " " and after[1:].islower())


def are_pair(text: str, opening: re.Match[str], closing: re.Match[str]) -> bool:
    """The two marks show a block within a response, rather than one that speaks of the mark within the reasoning."""
    if is_at_line_edge(text, opening):
        return True
    if "\n" in text[opening.end() : closing.start()]:
        return not is_at_line_edge(text, closing)
    return text[opening.end()].isspace() == text[closing.start() - 1].isspace()


def is_at_line_edge(text: str, mark: re.Match[str]) -> bool:
    return text[mark.start() - 1 : mark.start()] in ("", "\n") or text[mark.end() : mark.end() + 1] in ("", "\n", "\r")


def unwrap(response: str) -> str:
    """The response without what some models put around it."""
    response = response.lstrip()
    if token := WRAPPER_TOKEN.match(response):
        response = RESPONSE_END.split(response[token.end() :], maxsplit=1)[0].lstrip()
    wrapped = WRAPPER.fullmatch(response)
    return wrapped[2].strip() if wrapped else response
