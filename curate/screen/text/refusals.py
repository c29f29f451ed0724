"""Detect responses that begin by declining."""

import polars as pl

from curate.screen.text.ngrams import normalize_texts
from curate.screen.text.words import APOSTROPHES, INVISIBLE

CANNOT = (
    r"(?:can(?:no|')?t|can not|could not|couldn't|(?:won't|will not)(?: be able to)?|unable to|not able to|"
    r"rather not|not allowed to|not going to|refuse to|(?:don't|do not) (?:think|believe) i (?:can|should))"
)
DOING = (
    r"(?:help|assist|provide|write|answer|do (?:that|this|so)|give|discuss|support|comply|fulfil|continue|create|"
    r"generate|share|tell|offer|recommend|advise|engage|take part|participate|explain|respond|process|complete|"
    r"talk|comment|address|accommodate|describe|suggest|produce|compose|(?:go|get) into|list|name|translate|guide|"
    r"show|carry out|proceed|access|perform|open)"
)
FIGURE_OF_SPEECH = (
    r"\b(?:help (?:but|myself|feeling|thinking|noticing|wondering|smiling|laughing)|tell you how|"
    rf"{DOING} (?:\w+ ){{0,5}}enough)\b"
)
"""After "I can't": "help but smile", "tell you how good it is", "recommend this enough"."""
REFUSAL = (
    rf"\bi(?: am|'m|'d| would)? ?(?:really |afraid |truly |sorry,? |but |i |simply |just )*"
    rf"{CANNOT} (?:\w+ ){{0,2}}?{DOING}\b"
    r"|\bi (?:can't|cannot|can not) in good conscience\b"
    r"|\bi (?:don't|do not) have the (?:ability|capability|capabilities) to\b"
    r"|\bi (?:don't|do not|wouldn't|would not) (?:\w+ )?feel comfortable\b"
    rf"|\bit would (?:be (?:inappropriate|irresponsible|unethical|wrong)|not be (?:appropriate|responsible|right)) "
    rf"(?:for me )?to {DOING}\b"
    r"|\b(?:i|we)(?:'m|'d|'ll| am| will| would| must| have to| need to| going to| like to| respectfully| politely"
    r"| regretfully)* decline\b"
    r"|\b(?:i am|i'm) (?:sorry|afraid),? but (?:this|that|your|the) \w+ (?:is|goes|falls|seems|involves|violates)"
    r"|\b(?:i'm|i am) not comfortable\b"
    r"|\bas an ai\b.{0,60}\b(?:can't|cannot|unable|not able|do not|don't|not allowed)\b"
    r"|\b(?:against|violates?) (?:my|our|the) (?:\w+ )?(?:guidelines|polic(?:y|ies)|principles|programming)"
    r"|\bunable to (?:assist|help|comply|fulfil|provide|answer)|\bnot (?:something|anything) i can (?:help|assist|do)"
    r"|(?:抱歉|对不起|對不起|很遗憾|很遺憾).{0,12}(?:不能|无法|無法|不可以)|我(?:不能|无法|無法)(?:帮|協|协|提供|回答|回應|回应|满足|滿足)"
    r"|申し訳.{0,20}(?:できません|できかねます|お答え|お手伝い)|お(?:答え|手伝い)(?:することは)?できません"
    r"|(?:죄송|미안).{0,20}(?:없습니다|수 없)"
    r"|\btut mir leid,? aber\b|\bdabei kann ich (?:\w+ )?nicht helfen|\bich kann (?:\w+ ){0,4}nicht (?:helfen|geben)"
    r"|\bje (?:suis )?(?:vraiment )?(?:désolée?,? mais|ne peux pas)\b"
    r"|\blo siento,? (?:pero )?no puedo\b|\bno puedo (?:ayudar|proporcionar|responder)"
    r"|\b(?:mi dispiace|spiacente),? (?:ma )?non posso\b|\bdesculpe?,? (?:mas )?não posso\b"
    r"|(?:извините|простите|к сожалению).{0,20}(?:не могу|не можем)|\bя не могу (?:помочь|ответить|предоставить)"
)
OPENING = 240
"""Signs at the start in which a refusal is looked for."""

MARKUP = f"[*_#>]|{INVISIBLE.pattern}"


def find_refusals(texts: pl.Series) -> pl.Series:
    """True for a response with a refusal in its first `OPENING` signs, in one of several languages."""
    begin = normalize_texts(texts.str.slice(0, 2 * OPENING).str.replace_all(f"[{APOSTROPHES}]", "'"))
    begin = (
        begin.str.replace_all(MARKUP, "")
        .str.replace_all(r"\s{2,}|[\s--\x20]", " ")
        .str.strip_chars(" ")
        .str.slice(0, OPENING)
    )
    return begin.str.replace_all(FIGURE_OF_SPEECH, "").str.contains(REFUSAL)
