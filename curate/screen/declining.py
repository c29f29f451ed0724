"""Responses that decline to answer."""

import polars as pl

REFUSAL = (
    r"(?i)^\W*(?:(?:oh|well|hmm|hi|hello|thank you[^.!]{0,40}|i understand[^.!]{0,80})[,.! ]+)?"
    r"(?:(?:but|however),? )?"
    r"(?:(?:i['\u2019]?m|i am|we are|we['\u2019]re) (?:\w+ )?(?:sorry|afraid|unable|not "
    r"(?:able|comfortable|allowed|permitted|going))|"
    r"sorry|unfortunately,? i|(?:my )?apolog\w+|"
    r"i (?:can['\u2019]?t|cannot|can not|could not|couldn['\u2019]t|won['\u2019]t|will not|do not|don['\u2019]t) "
    r"(?:\w+ ){0,2}(?:help|assist|provide|answer|discuss|comply|fulfill|fulfil|create|generate|support|encourage|"
    r"condone|recommend|advise|engage|participate|offer|give|write|share|feel comfortable|do that|do this)|"
    r"as an? (?:ai|artificial|language|large language)[^.]{0,80} "
    r"(?:can['\u2019]?t|cannot|can not|do not|don['\u2019]t|am not|unable|won['\u2019]t|will not))"
)
"""How a response declines, in English and at its beginning."""
SORRY = r"(?i)\b(?:sorry|afraid|apolog|unfortunately)"
"""An apology alone is no refusal."""
DECLINES = (
    r"(?i)\b(?:can['\u2019]?t|cannot|can not|unable|not able|won['\u2019]t|will not|not comfortable|don['\u2019]t "
    r"(?:have|know|feel|think)|do not (?:have|know|feel)|decline|refuse|"
    r"against|not appropriate|inappropriate|illegal|unethical)\b"
)


def refuses(column: str) -> pl.Expr:
    """True for a response that begins by declining."""
    begin = pl.col(column).str.slice(0, 300)
    is_sorry = begin.str.slice(0, 60).str.contains(SORRY)
    return begin.str.contains(REFUSAL) & (~is_sorry | begin.str.contains(DECLINES))
