"""A guess at the language of a text: by its script, and where several languages share one, by their commonest words.

No model and no table of n-grams: enough to keep a German question from a model that speaks English, not enough to file documents by.
What is short, mixed or in none of these languages is not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MOST_CHARS = 2000
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_SHARE = 0.1
"""Of the words of a longer text at least so many must be common ones of the language; running text has 25 to 50% of them."""
_SHORT = 12
"""Of so few words, one that no other language knows is enough."""
_LEAD = 0.5

_SCRIPTS: Mapping[str, re.Pattern[str]] = {
    "zh": re.compile(r"[\u4e00-\u9fff\u3400-\u4dbf]"),
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "ko": re.compile(r"[\uac00-\ud7af\u1100-\u11ff]"),
    "ru": re.compile(r"[\u0400-\u04ff]"),
    "el": re.compile(r"[\u0370-\u03ff]"),
    "he": re.compile(r"[\u0590-\u05ff]"),
    "ar": re.compile(r"[\u0600-\u06ff]"),
    "hi": re.compile(r"[\u0900-\u097f]"),
    "bn": re.compile(r"[\u0980-\u09ff]"),
    "ta": re.compile(r"[\u0b80-\u0bff]"),
    "te": re.compile(r"[\u0c00-\u0c7f]"),
    "th": re.compile(r"[\u0e00-\u0e7f]"),
    "ka": re.compile(r"[\u10a0-\u10ff]"),
    "hy": re.compile(r"[\u0530-\u058f]"),
}
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_CHINESE_AND = 0.05
"""Japanese has kana between its Chinese characters; a Chinese text has none."""
_TELLING = (
    ("ru", "uk", re.compile(r"[іїєґІЇЄҐ]")),
    ("ar", "ur", re.compile(r"[ٹڈڑےں]")),
    ("ar", "fa", re.compile(r"[پچژگک]")),
)
"""Letters that one of the languages of a script has and the usual one has not."""
_OWN_LETTERS = (("es", re.compile(r"[¿¡ñ]")), ("de", re.compile("ß")), ("pt", re.compile(r"[ãõ]")), ("ro", re.compile(r"[șț]")))

_COMMON: Mapping[str, str] = {
    "en": (
        "the of and to in is it you that was for are with this what how can from have not be which when "
        "where why who your do does my me write a explain please give tell"
    ),
    "de": (
        "der die das und ist nicht ein eine einen dem den mit für auf wie was ich du sie wir von zu im wird "
        "wurde kann auch warum bitte mir über mein meine schreibe erkläre"
    ),
    "fr": (
        "le la les et est un une des du dans que qui pour pas sur avec ce cette comment je vous il elle nous "
        "au aux quel quelle pourquoi mon ma de quoi peux écris"
    ),
    "es": (
        "el los las y es un una del en que por para con no se cómo qué cuál yo usted su al lo más está son "
        "como pero muy dónde puedo mi mis escribe explica"
    ),
    "it": (
        "il lo gli le e è un una di che per con non come cosa sono della delle nel alla quale perché anche "
        "più questo questa mi ho posso mia mio scrivi spiega"
    ),
    "pt": (
        "o os as e é um uma do da dos das em que com não como por se qual você mais isso está são no na meu "
        "minha onde posso escreva explique quanto"
    ),
    "nl": (
        "de het een en is van niet dat die met voor op hoe wat ik je jij wij naar te zijn wordt kan ook waarom mijn deze er aan schrijf leg"
    ),
    "sv": ("och är det att en ett som inte på för med av jag du hur vad kan till den har om från varför mig min mitt var vilken skriv"),
    "da": ("og er det at en et som ikke på for med af jeg du hvordan hvad kan til den har om fra hvorfor mig min hvor hvilken skriv"),
    "no": ("og er det at en et som ikke på for med av jeg du hvordan hva kan til den har om fra hvorfor meg min hvor hvilken skriv"),
    "fi": ("ja on se että ei mikä miten kuinka minä sinä hän ovat oli kun joka tämä mitä missä miksi voi olen minun kuin mutta"),
    "pl": ("i w nie jest na się że do z jak co to czy dla po jestem jaki jaka są od który która dlaczego mnie gdzie mój napisz"),
    "cs": "a je v na se že jak co to pro jsou s z do který která proč kde jsem jaký jaká ale nebo mě můj není být napiš",
    "tr": "ve bir bu da de için ile ne nasıl mı mi değil olan çok daha var ben sen neden nerede olarak gibi kadar hangi",  # noqa: RUF001 - Turkish has it
    "ro": "și este un o de la în pe cu nu care ce cum pentru din sunt mai eu tu că să unde ale această acest scrie",
    "hu": "a az és egy nem hogy van mi ez hogyan mit is meg de ha vagy miért hol kell én milyen melyik",
    "id": ("yang dan di dengan untuk ini itu dari adalah pada tidak apa bagaimana saya kamu ke atau dalam bisa akan mengapa"),
    "vi": "và là của có không một cho trong được với các những này như thế nào tôi bạn ở tại sao gì đó để",
}


def _known_by() -> Mapping[str, tuple[str, ...]]:
    known: dict[str, tuple[str, ...]] = {}
    for language, words in _COMMON.items():
        for word in set(words.split()):
            known[word] = (*known.get(word, ()), language)
    return known


_KNOWN_BY = _known_by()


def language_of(text: str) -> str | None:
    """The ISO 639-1 code; None when it cannot be told. Reads the first 2000 characters."""
    text = text[:_MOST_CHARS]
    if text.isascii():
        return _by_words(text)
    counts = {language: len(pattern.findall(text)) for language, pattern in _SCRIPTS.items()}
    if counts["ja"] > _CHINESE_AND * counts["zh"]:
        counts["ja"] += counts["zh"]
    language = max(counts, key=counts.__getitem__)
    if counts[language] <= len(_LATIN.findall(text)):
        return _by_words(text)
    for usual, other, letters in _TELLING:
        if language == usual and letters.search(text):
            return other
    return language


def _by_words(text: str) -> str | None:
    words = _WORD.findall(text.lower())
    if not words:
        return None
    hits: dict[str, float] = {}
    for word in words:
        knowing = _KNOWN_BY.get(word, ())
        for language in knowing:
            hits[language] = hits.get(language, 0.0) + 1 / len(knowing)  # what many languages know says little
    for language, letters in _OWN_LETTERS:
        if letters.search(text):
            hits[language] = hits.get(language, 0.0) + 1
    if not hits:
        return None
    best, *others = sorted(hits.items(), key=lambda item: -item[1])
    if others and best[1] - others[0][1] < _LEAD:
        return None
    enough = 1.0 if len(words) <= _SHORT else max(2.0, _SHARE * len(words))
    return best[0] if best[1] >= enough else None
