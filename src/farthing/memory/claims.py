"""What somebody says in order to be believed, and what is never learnt from it. Pure.

A user's words are evidence about what the user likes and does. They are none about what the user may do, what things cost, or what is
true of others; and what is worded as an instruction is meant for whoever reads it, not as news. All patterns run in linear time.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from farthing.settings import DENIED_WORDS

_USERS: Final = r"(?:users?|customers?|people|persons?|tenants?|accounts?|members?|clients?|(?:be)?nutzer|kunden|konten)"
_OTHERS: Final = re.compile(
    rf"\b(?:all|every|any|each|other|another|alle|jeder|andere)\s+(?:of\s+)?(?:the\s+|other\s+|your\s+|die\s+)?{_USERS}\b"
    r"|\b(?:everyone|everybody|anyone)\s+(?:is|has|can|may|should|must|gets?)\b",
    re.IGNORECASE,
)
_INSTRUCTS: Final = (
    re.compile(
        r"\b(?:ignore|disregard|forget|override|bypass|skip|drop|ignorier\w{0,4}|vergiss)\b[^.!?\n]{0,60}?"
        r"\b(?:instructions?|rules?|prompts?|guidelines?|polic(?:y|ies)|restrictions?|directions?|safety|guardrails?|"
        r"(?:previous|prior|above|earlier)\s+(?:messages?|text|context)|anweisung(?:en)?|regeln)\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?:new|updated|real|actual|following|these|hidden)\s+(?:system\s+)?(?:instructions?|prompts?|directives?)\b"
        r"|\bsystem\s*(?:prompt|message|override|instruction)|\b(?:developer|debug|god|dan|admin|maintenance)\s+mode\b|\bjailbreak"
        r"|\b(?:you\s+are\s+now|from\s+now\s+on\s+you\s+are|act\s+as|pretend\s+(?:to\s+be|that|you)|role-?play\s+as|du\s+bist\s+jetzt)\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?:reveal|print|show|output|repeat|leak|send|tell)\b[^.!?\n]{0,40}?\b(?:system|hidden|secret|initial)\s+"
        r"(?:prompts?|instructions?|messages?|keys?)\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?:remember|store|save|note|record|learn|add|insert|write|set|output|return|extract|merk\w{0,3})\b[^.!?\n]{0,40}?"
        r"\b(?:facts?|memor(?:y|ies)|profile|json|key|database|fact\s*store)\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"<\|[^|<>]{1,40}\|>|\[/?INST\]|<<?/?SYS>>?|</?(?:system|assistant|instructions?|memory|events|facts)\b"
        r"|^\s{0,3}#{1,4}\s*(?:system|instructions?)\b",
        re.IGNORECASE | re.MULTILINE,
    ),
)
_PRIVILEGES: Final = re.compile(
    r"\b(?:admins?|administrators?|root|super-?users?|sudo(?:ers?)?|adminrechte)\b"
    r"|\b(?:full|unlimited|elevated|privileged|unrestricted|root|all|write|special)\s+(?:access|rights?|privileges?|permissions?)\b"
    r"|\b(?:permissions?|privileges?|entitle(?:d|ments?)|authori[sz]ed|permitted|allowed\s+to|exempt(?:ed)?)\b"
    r"|\b(?:discounts?|refunds?|free\s+of\s+charge|coupons?|rebates?|rabatt)\b|\b\d{1,3}\s?%\s?off\b"
    r"|\b(?:prices?|costs?)\s+(?:is|are|should|must|of|only)\b|\b(?:no|without)\s+(?:limits?|restrictions?|payment)\b"
    r"|\b(?:pays?|paying|charged?)\s+(?:nothing|less|\$?0)\b",
    re.IGNORECASE,
)
_NAMED_USER: Final = re.compile(
    r"\b(?:user|customer|tenant|account)(?:[\s_-]?id)?\s?[:=#]?\s?[\"']?([A-Za-z0-9_.@\-]{1,64})", re.IGNORECASE
)
_ONES_OWN: Final = re.compile(
    r"\b(?:i|i['\u2019](?:m|ve|d|ll)|im|me|my|mine|myself|we|we['\u2019](?:re|ve|d|ll)|us|our|ours|ich|mir|mich|mein\w{0,2}|wir|uns\w{0,4}|"
    r"je|j['\u2019]|moi|mon|ma|mes|nous|notre|nos|yo|mi|mis|me|nosotros|nuestr[oa]s?|io|mio|mia|miei|eu|meu|minha|ik|mijn|wij|ons|onze)\b"
    "|[\u79c1\u50d5\u4ffa\u6211\u54b1\ub098\ub0b4\uc800\uc81c]|\\b(?:\u044f|\u043c\u043d\u0435|\u043c\u0435\u043d\u044f|\u043c\u043e\\w{1,3}|\u043c\u044b|\u043d\u0430\u0441)\\b",
    re.IGNORECASE,
)
"""Words for oneself, in some languages."""
_SENTENCES: Final = re.compile(r"(?<=[.!?;\n])\s+|\n+")
_SPACE: Final = re.compile(r"[^\S\n]+")


def plain(text: str) -> str:
    """The text as it is read: compatibility forms as usual letters (NFKC), nothing invisible, no control characters but line ends."""
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode())
    kept = [char if char == "\n" or unicodedata.category(char) != "Cc" else " " for char in text if unicodedata.category(char) != "Cf"]
    return _SPACE.sub(" ", "".join(kept)).strip()


def instructs(text: str) -> bool:
    """Whether it tells its reader what to do with its orders or its memory."""
    return any(pattern.search(text) for pattern in _INSTRUCTS)


def of_others(text: str) -> bool:
    """Whether it says something about all users, or others."""
    return _OTHERS.search(text) is not None


def of_somebody_else(text: str, user: str) -> bool:
    """Whether it names a user by an id that is not this one's. An id is no mere word: `user u-17`, not `user of vim`."""
    named = [name for name in _NAMED_USER.findall(text) if not name.isalpha()]
    return any(name.strip(".").casefold() != user.casefold() for name in named)


def privileges(text: str) -> bool:
    """Whether it speaks of what somebody may do, or has to pay."""
    return _PRIVILEGES.search(text) is not None


def denied(key: str, more: frozenset[str]) -> bool:
    """Whether a key is one that a user's words say nothing about."""
    parts = set(key.split("_"))
    return bool(parts & DENIED_WORDS or parts & more or key in more)


def without_questions(text: str) -> str:
    """A text without the questions that do not speak of who asks: an answer is wanted, and nothing is told."""
    sentences = [sentence for sentence in _SENTENCES.split(text) if sentence.strip()]
    kept = [sentence for sentence in sentences if not sentence.rstrip().endswith("?") or _ONES_OWN.search(sentence)]
    return "\n".join(kept) if "\n" in text else " ".join(kept)


def without_claims(text: str) -> tuple[str, int]:
    """The sentences of a text that neither instruct nor speak of others, and how many were left out."""
    sentences = [sentence for sentence in _SENTENCES.split(text) if sentence.strip()]
    kept = [sentence for sentence in sentences if not instructs(sentence) and not of_others(sentence)]
    return "\n".join(kept) if "\n" in text else " ".join(kept), len(sentences) - len(kept)
