"""Tell what the error of an endpoint means, by its status and by the wordings that engines use."""

import re
from typing import Literal

from curate.models.reply_body import EndpointError

OVERLOAD = {429, 500, 502, 503, 504, *range(520, 530)}
TRANSIENT = {408, 409, 425, *OVERLOAD}
GONE = {502, 503, 521, 522, 523, 529}
"""What a server that starts again, or what stands before it, says for a while: twice as many tries, over a minute."""
CHARGED = {504, 524}
"""What stands before a server did not wait for an answer that may be charged."""

Meaning = Literal["no_key", "no_credit", "unknown_model", "prompt_too_long", "refused"]
"""Why trying again is of no use.

no_key           the key, the account or the place it is used from has no access
no_credit        the account has nothing left to pay with
unknown_model    the endpoint has no such model
prompt_too_long  the prompt leaves no room for a response in the model's context
refused          the content of the prompt, or of what the model wrote to it, was stopped by a filter
"""

NO_KEY = (
    r"invalid_api_key|api_key_invalid|authentication_error|unauthenticated",
    r"(invalid|incorrect|missing|expired|revoked|no|not? valid)( or (missing|invalid|expired))? (x-)?api[ -]?key",
    r"api[ -]?key( provided)? (is |was )?(not valid|invalid|incorrect|missing|expired|not found|revoked)",
    r"(account|organi[sz]ation).{0,60}(disabled|suspended|deactivated|terminated|banned|blocked)",
)
"""Whatever the status."""

NO_ACCESS = (
    r"\bkeys?\b|api_?key|\bbearer\b|credential|authenti|authori[sz]|\btoken\b|permission|\baccess\b|\brole\b|\bscope",
    r"country|region|territory|location|ip address",
    r"\baccount|organi[sz]ation|\bproject\b|subscri|\bplan\b|\btier\b|billing|gated|licen[cs]e|\bterms\b",
    r"not (\w+ )?(allowed|permitted|entitled|eligible|available|enabled)",
)
"""Of a 403. Without such words it may be about the one prompt."""

NO_CREDIT = (r"insufficient_quota|insufficient (balance|credit|funds)|credit balance is too low",)

RATE = (
    r"tokens? per (min|hour|day|second)|requests? per (min|hour|day|second)|\b[tr]p[mdhs]\b",
    r"rate.?limit|throttl|too many requests|resource_exhausted|please wait|try again (later|in)|overloaded",
    r"quota|monthly|daily|spend|budget|\bcredits?\b",
)
"""A limit of the account or of the moment, whatever else the text says."""

OUTPUT_LIMIT = (
    r"maximum (allowed )?number of (output|completion) tokens|at most \d+ (output|completion) tokens",
    r"less than the .?context.window|output.token.limit",
    r"\bmax_(\w+_)?tokens['\"`]?( is| are| was)? too (large|big|high|many)(?!.*context)",
    r"^(?!.*(context|prompt|input)).*\bmax(imum)?[ _](\w+[ _])?tokens.{0,40}(range|exceed|larger|greater|less than)",
)
"""More is asked for than the model ever writes, however short the prompt."""

PROMPT_TOO_LONG = (
    # OpenAI, Azure, vLLM, SGLang, llama.cpp, Ollama, LM Studio, Anthropic, Fireworks, DeepSeek and those behind routers
    r"context[ _-]?(length|window|size|limit|overflow)|maximum context",
    r"\b(prompt|input|message|conversation|history|text)\w*\b.{0,80}\btoo (long|large|big)\b",
    r"\brequest (entity |body |payload )?(is |was )?too (long|large|big)\b",
    # Gemini, vLLM, TensorRT-LLM, MLC, Cohere, watsonx, Copilot
    r"\b(prompt|input(?! should)|message|sequence|conversation|(?<!output )(?<!completion )token)\w*\b.{0,80}"
    r"(exceed|(long|larg|great)er than|more than|over the).{0,80}(max|limit|context|allow|length)",
    r"(exceed|over|above|more than).{0,40}(max\w*|model|allowed|limit\w*).{0,30}(input|prompt|token|length)",
    # Bedrock, Cohere, Replicate
    r"too many (\w+ )?tokens|string.too.long|string_above_max_length",
    # vLLM and TensorRT-LLM: what the prompt leaves
    r"max_(completion_|new_)?tokens\W{1,3}must be (at least|greater than|>).{0,20}got (0|-\d+)",
    r"max_(completion_|new_)?tokens\W{0,5}-\d",
    # TGI
    r"inputs?\W{0,3} tokens \+|inputs?\W{0,3} must have less than",
    r"(reduce|shorten|trim|truncate) (the |your )?((length|number|size) of (the |your )?)?(\w+ )?"
    r"(prompt|messages?|input|conversation)",
    # xAI, Alibaba
    r"maximum prompt length|range of input length|prompt_too_long|request_too_large|max_prompt_tokens",
    r"超长|过长|超过.{0,20}(长度|上下文|token)",
)
CONTEXT = re.compile(
    r"(?:context (?:length|window|size)|model(?:'s)? length)(?:[ :(]|is|of|only|limit)*(\d[\d,]{2,})", re.IGNORECASE
)
"""The tokens that a model's context holds."""

REFUSED = (
    r"content[ _-]?(policy|filter|management|safety|security|moderation)|moderat|\bflagged\b|responsible.?ai",
    r"data_?inspection|inappropriate|prohibited_content|block_?reason|invalid_prompt|guardrail|usage polic|high.risk",
    r"\bunsafe\b|safety (system|filter|setting|polic|check|reason)|content exists risk|(input|output|new)_sensitive",
    r"(harmful|sensitive|illegal|prohibited|offensive|toxic|disallowed) (content|word|info|material|text)",
    r"blocked.{0,40}(safety|content|polic)|violat.{0,60}(polic|guideline|terms)|sensitive_words?",
    r"敏感|违规|不安全|违反",
)


def error_meaning(error: EndpointError, most_tokens: int) -> Meaning | None:
    """Why trying again is of no use; None for an error that may pass, or that is about something else.

    `most_tokens` is what the response was allowed.
    """
    status, words = error.status, error.words
    if status in TRANSIENT:
        if re.search("insufficient_quota", words):
            return "no_credit"
        # llama.cpp and Ollama answer with 500 to what no other try can help.
        is_long = status == 500 and not says(RATE, words) and is_prompt_too_long(words, most_tokens)
        return "prompt_too_long" if is_long else None
    if status == 401 or says(NO_KEY, words):
        return "no_key"
    if status == 402 or says(NO_CREDIT, words):
        return "no_credit"
    if status == 404:
        return "unknown_model"
    if says(RATE, words):
        return None
    if status == 413 or is_prompt_too_long(words, most_tokens):
        return "prompt_too_long"
    if says(REFUSED, words):
        return "refused"
    return None


def is_about_access(error: EndpointError) -> bool:
    """A 403 that every other prompt would meet too."""
    return error.status == 403 and says(NO_ACCESS, error.words)


def is_busy(error: EndpointError) -> bool:
    """A limit a minute, as an error says that has no status of its own."""
    return says(RATE, error.words)


def is_prompt_too_long(words: str, most_tokens: int) -> bool:
    if says(OUTPUT_LIMIT, words) or not says(PROMPT_TOO_LONG, words):
        return False
    # Where the response alone is allowed as much as the context holds, every prompt is too long.
    context = CONTEXT.search(words)
    return not context or int(context[1].replace(",", "")) > most_tokens


def says(patterns: tuple[str, ...], words: str) -> bool:
    return any(re.search(pattern, words, re.IGNORECASE | re.DOTALL) for pattern in patterns)
