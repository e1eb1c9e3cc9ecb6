"""Whether a question can only be answered for the one who asks. It errs on the safe side: what is taken for personal is merely not shared.

"How do I reset my password?" has one answer for everybody, "What is my balance?" has not. A possessive alone does not tell them apart;
what is asked about the object does. So: a question that mentions the asker's own things, or what the asker has, did or is owed, is
personal, unless it asks for a way to do something. In other languages any word for "my" makes it personal.
"""

from __future__ import annotations

import re

_FIRST_PERSON = re.compile(r"\b(?:i|i'm|i've|i'd|i'll|im|ive|me|my|mine|myself|we|we're|we've|us|our|ours|ourselves)\b")
_OWN = re.compile(r"\b(?:my|mine|our|ours|myself|ourselves)\b")

_COURTESY = re.compile(
    r"(?<!did you )(?<!have you )\b(give|tell|show|teach|send|write|help) (?:me|us)\b(?! my\b| our\b)"
    r"|\b((?:explain|describe|teach)\b[^.?!]*) to (?:me|us)\b"
)
"""In "tell me a joke" nobody is spoken about."""

_WAY = re.compile(
    r"""
    \bhow\ (?:do|can|could|would|might|to)\b
    | \b(?:what|which)(?:'s|\ is|\ are)\ (?:the\ )?(?:best\ |right\ |correct\ |easiest\ |proper\ |fastest\ )?
      (?:way|ways|steps?|process|procedure|method|policy|rules?|difference|meaning|purpose)\b
    | \bwhere\ (?:do|can|could|should|would)\ (?:i|we|you|one)\b
    | \b(?:can|could|may|must)\ (?:i|we)\b
    | \bdo\ (?:i|we)\ (?:need|have\ to)\b
    | \b(?:what\ if|what\ happens\ if|what\ happens\ when)\ (?:i|we)\b
    | \b(?:is\ it|would\ it\ be)\ (?:possible|allowed|ok|okay|safe|legal)\b
    | \b(?:steps|ways?|instructions|guide|help|tutorial|tips|options?)\ (?:of|to|for|on|with)\b
    | \b(?:need|want|would\ like|trying|try|wish)\ to\b
    | ^(?:forgot|forgotten|lost)\b | \bi\ (?:forgot|lost)\b
    """,
    re.VERBOSE,
)

_STATE = re.compile(
    r"""
    \bhow\ (?:much|many|long|far|old|often|soon)\b[^.?!]*\b(?:i|we|my|our)\b
    | \bhow\ (?:do|does|is|are|did|will)\ (?:(?:i|we)\ (?:owe|stand|rank|score|compare|look|qualify|do)|my|our)\b
    | \b(?:what|who|which|where|when)(?:'s|'re|\ is|\ are|\ was|\ were|\ did|\ does|\ do|\ has|\ have|\ will)\ (?:my|our)\b
    | \b(?:when|what|which|who|why)\b[^.?!]{0,40}\b(?:do|did|does|have|has|am|are|is|was|were|will|should|would)\ (?:i|we|my|our)\b
      (?!\ (?:need|have\ to)\b)
    | \b(?:summari[sz]e|show|list|read|remind|tell|give|draft|review|analy[sz]e|rewrite|translate)\b[^.?!]*\b(?:me|my|us|our)\b
    | \babout\ (?:me|us|myself)\b | \b(?:did|have)\ you\b[^.?!]*\b(?:me|us|my|our)\b
    | \b(?:i|we)\ (?!need|want|tri)\w+ed\b
    | \b(?:i|we)(?:'m|'ve|\ am|\ are|\ have|\ had|\ was|\ were)\ (?!(?:to|trying|wondering|interested|looking)\b)
    """,
    re.VERBOSE,
)
"""What stays personal although the question asks for a way, too."""

_OWN_DOINGS = re.compile(
    r"""
    \b(?:did|do|does|have|has|had|was|were|am|are|is|will|should)\ (?:i|we|my|our)\b
    | \b(?:i|we)\ (?:owe|earn|spent|bought|ordered|paid|live|work|said|told|asked|wrote|sent|received|got|booked|signed|missed|made|took
        |weigh|feel|think|like|love|hate|prefer|know|remember|met|saw|went|left|own|use|take)\b
    | \b(?:me|us)\b
    """,
    re.VERBOSE,
)

_ELSEWHERE = re.compile(
    r"\b(?:mein(?:e[nmrs]?)?|unser(?:e[nmrs]?)?|mir|mich|mon|ma|mes|notre|nos|moi|mis?|mío|mía|nuestr[oa]s?|meus?|minhas?|noss[oa]s?"
    r"|mio|mia|miei|nostr[oai]|mijn|onze|m[oó]j|moja|moje|mojego|mojej|мой|моя|моё|мое|мои|моего|моей|мне|меня|benim|bizim|لي|عندي"
    r"|मेरा|मेरी|मेरे)\b|我的|我们的|私の|僕の|俺の|うちの|내 |제 |나의|우리의"
)
_ENGLISH = re.compile(r"\b(?:the|is|are|what|how|where|when|why|who|do|does|can|to|of|for|in|and|it|a)\b")
_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'"})
_COUNTRY = re.compile(r"\bUS\b")
_SPACE = re.compile(r"\s+")


def is_personal(text: str) -> bool:
    """Whether the answer hangs on who asks. Scored by tests/unit/caching/test_caching_personal.py."""
    said = _SPACE.sub(" ", _COUNTRY.sub("usa", text.translate(_QUOTES)).casefold()).strip()
    if _ELSEWHERE.search(said) and not _reads_english(said):
        return True
    said = _COURTESY.sub(r"\1\2", said)
    if not _FIRST_PERSON.search(said):
        return False
    if _STATE.search(said):
        return True
    if _WAY.search(said):
        return False
    return _OWN.search(said) is not None or _OWN_DOINGS.search(said) is not None


def _reads_english(said: str) -> bool:
    return said.isascii() and len(_ENGLISH.findall(said)) * 5 >= said.count(" ") + 1
