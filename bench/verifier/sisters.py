"""Words of a kind, out of WordNet and a few lists: for each word others that stand for another thing of the same kind.

WordNet 3.0, Princeton University, permissive licence (https://wordnet.princeton.edu/license-and-commercial-use); Debian: wordnet-base.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

LISTS = (
    "Stanford MIT Harvard Oxford Yale Princeton Berkeley Cambridge Columbia Cornell",
    "Google Facebook Amazon Microsoft Apple Netflix Tesla Uber Twitter Intel IBM Oracle Samsung Sony Nokia Walmart",
    "Instagram WhatsApp Snapchat Facebook Twitter YouTube LinkedIn TikTok Telegram Pinterest Reddit Quora Tinder Skype",
    "Python Java JavaScript Rust Go Ruby PHP Swift Kotlin Scala Perl Haskell TypeScript",
    "Windows Linux macOS Android iOS Ubuntu",
    "India China Japan Germany France Spain Italy Canada Australia Brazil Mexico Russia Pakistan Nepal Egypt Turkey Sweden Norway Poland",
    "London Paris Rome Oslo Madrid Berlin Mumbai Delhi Bangalore Chennai Pune Tokyo Sydney Toronto Boston Chicago Seattle Dubai Singapore",
    "Indian Chinese Japanese German French Spanish Italian Canadian American British Russian Pakistani Mexican",
    "English Spanish French German Chinese Japanese Hindi Arabic Russian Korean Italian Tamil",
    "Visa Mastercard PayPal Amex Maestro",
    "physics chemistry biology mathematics history economics philosophy psychology sociology geography astronomy law medicine engineering",
    "football cricket tennis basketball chess golf hockey baseball swimming boxing rugby",
    "Trump Clinton Obama Putin Modi Merkel Sanders Bush Gandhi Churchill",
    "iPhone Android Nokia Samsung Pixel OnePlus Xiaomi BlackBerry",
    "MySQL PostgreSQL MongoDB Redis SQLite Oracle Cassandra",
    "card account transfer payment refund top-up PIN passcode statement balance limit",
    "euros dollars pounds rupees yen",
    "days weeks months years hours minutes",
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "January February March April May June July August September October November December",
    "mother father brother sister wife husband son daughter boyfriend girlfriend boss friend",
    "dog cat horse rabbit hamster parrot",
)


def sisters(wordnet: Path, ranks: Mapping[str, int], *, most_rank: int = 14_000) -> dict[str, list[str]]:
    """For each word, in lower case, its sisters. `ranks`: places of words by frequency; rarer ones than `most_rank` are left out."""
    found: dict[str, set[str]] = defaultdict(set)
    for part in ("noun", "verb"):
        for word, others in _of_part(wordnet / f"data.{part}", wordnet / f"index.{part}", ranks, most_rank).items():
            found[word] |= others
    for line in LISTS:
        words = line.split()
        for word in words:
            found[word.lower()] |= {other for other in words if other != word}
    return {word: sorted(others) for word, others in sorted(found.items())}


def _of_part(data: Path, index: Path, ranks: Mapping[str, int], most_rank: int) -> dict[str, set[str]]:
    words: dict[str, list[str]] = {}
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = defaultdict(list)
    for line in data.read_text().splitlines():
        if line.startswith("  "):
            continue
        fields = line.split("|")[0].split()
        offset, count = fields[0], int(fields[3], 16)
        words[offset] = [fields[4 + 2 * n].lower() for n in range(count)]
        pointers = fields[5 + 2 * count :] if len(fields) > 4 + 2 * count else []
        above[offset] = [pointers[n + 1] for n in range(len(pointers) - 1) if pointers[n] in {"@", "@i"} and pointers[n + 1].isdigit()]
        for parent in above[offset]:
            below[parent].append(offset)
    senses: dict[str, list[str]] = {}
    for line in index.read_text().splitlines():
        if not line.startswith("  "):
            fields = line.split()
            senses[fields[0]] = [field for field in fields if len(field) == 8 and field.isdigit()]
    found = {}
    for word, offsets in senses.items():
        if ranks.get(word, most_rank) >= most_rank or "_" in word or not offsets:
            continue
        same = {other for offset in offsets for other in words[offset]}
        near = {
            w for parent in above[offsets[0]] for child in below[parent] if senses_first(child, words[child], senses) for w in words[child]
        }
        near = {w for w in near if w not in same and w.isalpha() and ranks.get(w, most_rank) < most_rank and not w.startswith(word[:4])}
        if near and len(near) <= 60:
            found[word] = near
    return found


def senses_first(offset: str, members: list[str], senses: Mapping[str, list[str]]) -> bool:
    """Whether this is the most usual sense of its words."""
    return any(senses.get(word, [""])[0] == offset for word in members)
