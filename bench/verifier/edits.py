"""Small changes to a question: some leave what is asked as it is, others change it. Deterministic for a given random generator."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random

from farthing.caching.lexicon import FUNCTION_WORDS, OPPOSITES

Edit = Callable[[str, Random], str | None]
"""Returns None where it does not apply."""

SYNONYMS = """
movie film|movies films|phone mobile|phones mobiles|buy purchase|buying purchasing|start begin|starting beginning|fix repair|quick fast
quickly fast|job work|kids children|kid child|big large|bigger larger|biggest largest|get obtain|remove delete|removing deleting|best top
good great|city town|car automobile|doctor physician|help assist|require need|requires needs|required needed|choose pick|show display
make create|making creating|build make|improve increase|learn study|university college|universities colleges|company firm|companies firms
salary pay|picture photo|pictures photos|error mistake|stop quit|stopping quitting|stop prevent|happen occur|happens occurs|explain describe
important crucial|hard difficult|easy simple|easiest simplest|rich wealthy|smart intelligent|sick ill|scared afraid|angry mad|happy glad
website site|websites sites|email e-mail|wifi wi-fi|online internet|laptop notebook|app application|apps applications|cost price
costs prices
cheap inexpensive|cheapest lowest-priced|earn make|holiday vacation|flat apartment|lawyer attorney|TV television|gym fitness-centre
trip journey
photo image|photos images|shop store|shops stores|end finish|ends finishes|attempt try|permit allow|permitted allowed|reason cause
reasons causes
advantages benefits|disadvantages drawbacks|advantage benefit|way method|ways methods|tips advice|kind type|kinds types|sort kind|speak talk
wrong incorrect|right correct|people persons|teenager teen|guy man|girl woman|marry wed|die pass-away|USA America|US USA|UK Britain
India Bharat
transfer send|transferred sent|top-up topup|verify confirm|verifying confirming|declined rejected|charged billed|charge fee|charges fees
card bankcard|refund reimbursement|missing lost|activate enable|delivered arrived|arrive come|pending outstanding|withdraw take-out
cash money
account profile|passcode PIN|exchange swap|identity ID|receive get|received got|receiving getting|currently now|problem issue
problems issues
trouble problem|contact reach|cancel revoke|update change|change modify|changed modified|check verify|find locate|finding locating
need require
enough sufficient|often frequently|approximately about|average mean|weird strange|famous well-known|usually normally|immediately at-once
soon shortly
"""

OPENERS = (
    ("how do i", "how can i", "how do you", "how does one", "how can one", "how should i", "how to", "what is the best way to",
    "what's the best way to",
     "what are the best ways to", "what is the way to", "what should i do to", "how would i", "how could i", "what are some ways to",
     "how do we", "how can you",
     "what can i do to", "what are good ways to"),
    ("what is", "what's", "what exactly is", "can you tell me what is", "whats", "do you know what is", "what actually is"),
    ("what are", "what are some of", "which are", "what are some", "can you name", "what exactly are"),
    ("why is", "why's", "what is the reason why is", "how come"),
    ("why do", "why is it that", "how come", "what is the reason why", "for what reason do"),
    ("can i", "may i", "is it possible to", "could i", "am i able to", "is there a way to", "can you", "can we"),
    ("should i", "is it a good idea to", "is it worth it to", "would you advise me to", "do you think i should"),
    ("which is the best", "what is the best", "what's the best", "which is best", "what would be the best", "which one is the best"),
    ("i want to", "i would like to", "i'd like to", "i need to", "how can i", "i wish to", "please help me to"),
    ("where can i", "where do i", "where could i", "where should i", "where can one", "what is a good place to", "where to"),
    ("i can't", "i cannot", "i am unable to", "i'm not able to", "why can't i", "i am not able to"),
    ("what happens if", "what will happen if", "what would happen if", "what if"),
    ("is there", "is there any", "does there exist", "do you have"),
    ("why is my", "what is the reason my", "how come my"),
    ("write", "please write", "can you write", "compose", "could you write"),
    ("explain", "please explain", "can you explain", "could you explain", "describe"),
)  # fmt: skip

FILLERS_BEFORE = ("", "", "", "please, ", "hi, ", "hello, ", "hey ", "so ", "ok, ", "quick question: ", "in general, ",
    "can anyone tell me: ", "i wonder, ", "just asking, ",
                  "could you tell me, ", "excuse me, ", "help: ", "question: ")  # fmt: skip
FILLERS_AFTER = (
    "",
    "",
    "",
    "",
    " please",
    " thanks",
    " exactly",
    " actually",
    ", any help?",
    ", any ideas?",
    ", please help",
    " nowadays",
    ", thank you",
)

QUALIFIERS = (
    "in India", "in the US", "in Germany", "in Canada", "in Japan", "in Europe", "in London", "in New York", "in Australia", "in Mumbai",
    "in China", "in Brazil", "for free",
    "for beginners", "for children", "for women", "for men", "for students", "for seniors", "for dogs", "at home", "online", "offline",
    "abroad", "without money", "without internet",
    "without a degree", "without exercise", "with a low budget", "on Windows", "on a Mac", "on Linux", "on Android", "on an iPhone",
    "in Python", "in Java", "in Excel", "with JavaScript", "in winter",
    "in summer", "at night", "in the morning", "in the past", "in the future", "in 2015", "in 2020", "during pregnancy", "after surgery",
    "after divorce", "before marriage", "while driving", "at work",
    "at school", "in college", "in prison", "on a plane", "by train", "as a foreigner", "as a minor", "as a freelancer", "as a company",
    "with diabetes", "under 18", "over 60", "under $100", "per month", "per year",
    "for two people", "for a wedding", "for a living", "for an exam", "on weekends", "in German", "in French", "in one week",
    "in one month", "in two days", "from scratch", "with my phone", "from abroad", "for my wife", "for a friend",
    "with cash", "by mail", "by phone", "in the app", "at an ATM", "with Apple Pay", "in euros", "to a friend", "from my bank",
    "to another country",
)  # fmt: skip

MODIFIERS = (
    "free", "cheap", "expensive", "used", "second", "first", "last", "electric", "digital", "physical", "virtual", "old", "new", "young",
    "foreign", "Indian", "American", "Chinese", "German", "local", "international", "private", "public", "wireless",
    "temporary", "permanent", "joint", "female", "male", "red", "blue", "black", "white", "organic", "small", "large", "daily", "weekly",
    "monthly", "annual", "fake", "professional", "academic", "military", "medical", "legal", "corporate",
    "worst", "hardest", "longest", "oldest", "shortest", "safest", "weakest",
)  # fmt: skip


def opener(text: str, rng: Random) -> str | None:
    """Begins in another way that asks for the same."""
    low = text.lower()
    for group in OPENERS:
        for start in sorted(group, key=len, reverse=True):
            if low.startswith(start + " "):
                other = rng.choice([o for o in group if o != start])
                return other + text[len(start) :]
    return None


def synonym(text: str, rng: Random) -> str | None:
    """One word for another that means the same."""
    words = text.split(" ")
    found = [(i, s) for i, word in enumerate(words) for s in _SYNONYMS.get(word.strip("?.,!").lower(), ())]
    if not found:
        return None
    place, other = rng.choice(found)
    tail = words[place][len(words[place].rstrip("?.,!")) :]
    words[place] = other.replace("-", " ") + tail
    return " ".join(words)


def _both_ways(pairs: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs.strip().replace("\n", "|").split("|"):
        one, other = pair.split()
        found.setdefault(one.lower(), []).append(other)
        found.setdefault(other.lower(), []).append(one)
    return found


_SYNONYMS = _both_ways(SYNONYMS)


def filler(text: str, rng: Random) -> str | None:
    """Politeness before or after."""
    before, after = rng.choice(FILLERS_BEFORE), rng.choice(FILLERS_AFTER)
    if not before and not after:
        return None
    body = text.rstrip("?. !")
    end = text[len(body) :]
    return before + (body[0].lower() + body[1:] if before and body[1:2].islower() else body) + after + ("" if after.endswith("?") else end)


def casing(text: str, rng: Random) -> str | None:
    """All in lower case, without a mark at the end, or both."""
    low = rng.random() < 0.6
    out = text.lower() if low else text
    if rng.random() < 0.6:
        out = out.rstrip("?.! ") + rng.choice(("", "", "??", " ?", "."))
    return out if out != text else None


def typo(text: str, rng: Random) -> str | None:
    """A slip of the pen in a longer word."""
    places = list(re.finditer(r"[a-z]{6,}", text))
    if not places:
        return None
    match = rng.choice(places)
    at = rng.randrange(match.start() + 1, match.end() - 2)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    return text[:at] + text[at] + text[at:]


def article(text: str, rng: Random) -> str | None:
    """Without one of its articles."""
    places = list(re.finditer(r" (the|a|an|my|some) ", text))
    if not places:
        return None
    match = rng.choice(places)
    return text[: match.start()] + " " + text[match.end() :]


def contraction(text: str, rng: Random) -> str | None:
    """is not for isn't, and the other way round."""
    options = [(a, b) for a, b in _CONTRACTIONS if a in text]
    if not options:
        return None
    a, b = rng.choice(options)
    return text.replace(a, b, 1)


_CONTRACTED = (("do not", "don't"), ("does not", "doesn't"), ("did not", "didn't"), ("is not", "isn't"), ("are not", "aren't"),
    ("cannot", "can't"), ("can not", "can't"), ("will not", "won't"),
               ("has not", "hasn't"), ("have not", "haven't"), ("I am", "I'm"), ("I have", "I've"), ("what is", "what's"), ("What is",
               "What's"), ("it is", "it's"), ("I would", "I'd"))  # fmt: skip
_CONTRACTIONS = _CONTRACTED + tuple((b, a) for a, b in _CONTRACTED)


def reorder(text: str, rng: Random) -> str | None:
    """The same parts in another order: a clause or a place to the front or to the end, the two sides of `and`."""
    body = text.rstrip("?.! ")
    end = text[len(body) :]
    options = []
    if match := re.fullmatch(r"(?i)(if|when|after|before) ([^,]+), (.+)", body):
        options.append(f"{_up(match[3])} {match[1].lower()} {match[2]}{end}")
    if match := re.fullmatch(r"(?i)((?:how|what|why|can|should|is|where|which)\b[^,]+?) (if|when|while|after|before) (.{8,})", body):
        options.append(f"{_up(match[2])} {match[3]}, {_down(match[1])}{end}")
    if match := re.fullmatch(r"(.{12,}) ((?:in|on|at|for|with|from|without|under) (?:the |a |an |my )?[\w'-]+)", body):
        options.append(f"{_up(match[2])}, {_down(match[1])}{end}")
    if match := re.search(r"\b([\w'-]+) (and|or|vs|versus) ([\w'-]+)\b", body):
        options.append(f"{body[: match.start()]}{match[3]} {match[2]} {match[1]}{body[match.end() :]}{end}")
    parts = re.split(r"(?<=[.?!]) ", text)
    if len(parts) == 2 and all(len(part) > 12 for part in parts):
        options.append(" ".join(reversed(parts)))
    return rng.choice(options) if options else None


def _up(text: str) -> str:
    return text[0].upper() + text[1:]


def _down(text: str) -> str:
    return text if text.startswith("I ") else text[0].lower() + text[1:]


BENIGN: tuple[tuple[Edit, float], ...] = (
    (opener, 3),
    (synonym, 3),
    (filler, 1.5),
    (casing, 1.5),
    (typo, 1),
    (article, 1),
    (contraction, 0.7),
    (reorder, 2),
)


class Harmful:
    """Edits that change what is asked. `sisters`: for a word, others of its kind that do not mean the same."""

    def __init__(self, sisters: Mapping[str, Sequence[str]]) -> None:
        self._sisters = sisters
        self.edits: tuple[tuple[Edit, float], ...] = (
            (self.sister, 4), (qualify, 2), (modify, 1.5), (drop, 1), (swap, 3), (ask, 1.5), (negate, 1), (number, 1), (opposite, 1),
        )  # fmt: skip

    def sister(self, text: str, rng: Random) -> str | None:
        """Another thing of the same kind."""
        places = [(m, self._sisters[m.group().lower()]) for m in re.finditer(r"[A-Za-z]+", text) if m.group().lower() in self._sisters]
        if not places:
            return None
        match, others = rng.choice(places)
        other = rng.choice(others)
        return text[: match.start()] + (other.capitalize() if match.group()[0].isupper() else other) + text[match.end() :]


def qualify(text: str, rng: Random) -> str | None:
    """Asks for a special case."""
    qualifier = rng.choice(QUALIFIERS)
    if qualifier.split()[-1].lower() in text.lower():
        return None
    body = text.rstrip("?.! ")
    return f"{body} {qualifier}{text[len(body) :]}"


def modify(text: str, rng: Random) -> str | None:
    """A special kind of a thing."""
    places = list(re.finditer(r"\b(?:a|the|my|an|some|best) (?=[a-z]{3,})", text))
    if not places:
        return None
    match = rng.choice(places)
    return text[: match.end()] + rng.choice(MODIFIERS) + " " + text[match.end() :]


def drop(text: str, rng: Random) -> str | None:
    """Without one of its content words: wider, or about something else."""
    places = [m for m in re.finditer(r"[A-Za-z]{4,} ", text) if m.group()[:-1].lower() not in FUNCTION_WORDS]
    if len(places) < 3:
        return None
    match = rng.choice(places[:-1])
    return text[: match.start()] + text[match.end() :]


def swap(text: str, rng: Random) -> str | None:
    """Two content words change places."""
    places = [m for m in re.finditer(r"[A-Za-z]{3,}", text) if m.group().lower() not in FUNCTION_WORDS]
    if len(places) < 2:
        return None
    first, second = sorted(rng.sample(range(len(places)), 2))
    a, b = places[first], places[second]
    between = text[a.end() : b.start()].strip().lower()
    if (
        a.group().lower() == b.group().lower()
        or between in {"and", "or", "", "vs", "versus", ","}
        or re.search(r"differen|between|differ", text)
    ):
        return None
    return text[: a.start()] + b.group() + text[a.end() : b.start()] + a.group() + text[b.end() :]


def ask(text: str, rng: Random) -> str | None:
    """Another question about the same."""
    low = text.lower()
    for group in _ASKS:
        for start in group:
            if low.startswith(start + " "):
                others = [o for o in group if o != start and not (o in _CLOSE and start in _CLOSE)]
                return rng.choice(others) + text[len(start) :] if others else None
    return None


_CLOSE = {"how do i", "how can i", "what is the best way to"}
_ASKS = (
    ("how do i", "how can i", "what is the best way to", "why should i", "when should i", "can i", "should i", "where do i",
    "is it legal to", "how long does it take to", "how much does it cost to", "who can help me", "what happens if i", "why can't i"),
    ("what is", "who is", "where is", "when is", "why is", "how is"),
    ("what are", "who are", "where are", "why are", "how are", "when are"),
    ("why do", "when do", "where do", "how do", "do", "should"),
    ("why is", "when is", "where is", "how is", "is", "who is", "what is"),
    ("can i", "should i", "how do i", "why can't i", "when can i", "must i"),
    ("where can i", "why can i", "when can i", "how can i", "should i"),
)  # fmt: skip


def negate(text: str, rng: Random) -> str | None:
    """Turned round."""
    options = []
    for pattern, result in _NEGATIONS:
        changed = re.sub(pattern, result, text, count=1)
        if changed != text:
            options.append(changed)
    return rng.choice(options) if options else None


_NEGATIONS = (
    (r"\b(do|does|did|is|are|was|were|should|would|could|have|has) (I|you|we|they|it|he|she|people|my|the) (\w+)", r"\1 \2 not \3"),
    (r"\b(is|are|was|were|should|would|could|will) (?!not\b)(?=[a-z])", r"\1 not "),
    (r"\b(can) (?!not\b)", r"cannot "),
    (r"\b(is|are|does|do|has|have)n['\u2019]t ", r"\1 "),
    (r"\bnot ", ""),
    (r" with ", " without "),
)


def number(text: str, rng: Random) -> str | None:
    """Another number."""
    match = re.search(r"\d+", text)
    if match is None:
        return None
    value = int(match.group()[:9])
    return text[: match.start()] + str(value + rng.choice((1, 2, 5, 10, value or 1))) + text[match.end() :]


def opposite(text: str, rng: Random) -> str | None:
    """The contrary."""
    places = [m for m in re.finditer(r"[A-Za-z]+", text) if m.group().lower() in OPPOSITES]
    if not places:
        return None
    match = rng.choice(places)
    return text[: match.start()] + rng.choice(sorted(OPPOSITES[match.group().lower()])) + text[match.end() :]


def chosen(text: str, edits: Sequence[tuple[Edit, float]], rng: Random, *, tries: int = 8) -> str | None:
    """The text after one edit that applies; None when none was found in so many tries."""
    for _ in range(tries):
        edit = rng.choices([edit for edit, _ in edits], [weight for _, weight in edits])[0]
        changed = edit(text, rng)
        if changed and changed.lower() != text.lower():
            return changed
        if changed and edit is casing:
            return changed
    return None
