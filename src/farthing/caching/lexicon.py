"""Closed classes of English words, as the guards of the semantic cache read them. All in lower case, straight apostrophes."""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEGATIONS = _words(
    "not n't no never none nobody nothing nowhere neither nor without cannot cant dont doesnt didnt isnt arent wasnt werent wont wouldnt "
    "shouldnt couldnt hasnt havent hadnt aint fail fails failed failing unable"
)
"""Words that turn a sentence round. Words that end in n't count too."""

ASKS = {
    "how": "how",
    "what": "what",
    "whats": "what",
    "what's": "what",
    "which": "which",
    "why": "why",
    "who": "who",
    "whom": "who",
    "whose": "who",
    "who's": "who",
    "when": "when",
    "where": "where",
    "where's": "where",
    "how's": "how",
    "why's": "why",
}
"""Question words, and what they ask for."""

AUXILIARIES = _words(
    "is are was were am be been being do does did done can could will would shall should may might must has have had "
    "isn't aren't wasn't weren't don't doesn't didn't can't couldn't won't wouldn't shouldn't hasn't haven't hadn't"
)

POLITE = _words("please thanks thank hi hello hey dear kindly just really actually basically so well ok okay plz pls btw")

FUNCTION_WORDS = (
    AUXILIARIES
    | POLITE
    | frozenset(ASKS)
    | _words(
        "a an the this that these those there here it its it's i i'm i've i'd i'll im ive me my mine myself we us our ours you your yours "
        "u ur you're he him his she her hers they them their theirs one ones someone somebody anyone anybody everyone people "
        "and or but if then than as at by for from in into of off on onto out over to up with within about after before between "
        "against during through under above below per via vs versus s t d ll m re ve also too very such some any all each "
        "get gets got getting go goes going make makes made want wants need needs let like way ways thing things use used using "
        "not n't no nor know tell give help exactly even ever still yet more most much many less least own same other else "
        "did's that's there's let's because while until though although whether both either"
    )
)
"""Words that seldom say what a question is about."""

ROLES = _words(
    "from to into onto than vs versus over by before after against for with without of under above below between instead until since"
)
"""Words that say which part the next word plays."""

FIRST_PERSON = _words("i my me mine i'm i've i'd i'll im ive we our us")

QUANTIFIERS = _words(
    "all every each any some none only most least best worst first last always never both few many more less biggest smallest largest "
    "highest lowest top bottom minimum maximum average total next previous oldest newest latest cheapest fastest slowest"
)

_OPPOSITES = """
best worst|most least|more less|more fewer|first last|always never|all none|minimum maximum|min max|highest lowest|largest smallest
biggest smallest|oldest newest|oldest youngest|fastest slowest|top bottom|next previous|before after|above below|over under|in out
increase decrease|increasing decreasing|increased decreased|raise lower|gain lose|gaining losing|buy sell|buying selling|bought sold
enable disable|enabling disabling|enabled disabled|on off|open close|opening closing|opened closed|start stop|starting stopping
start end|begin end|begin finish|activate deactivate|activated deactivated|install uninstall|lock unlock|locked unlocked|freeze unfreeze
connect disconnect|attach detach|login logout|log-in log-out|upload download|uploading downloading|import export|importing exporting
deposit withdraw|deposits withdrawals|deposit withdrawal|send receive|sending receiving|sent received|borrow lend|give take|push pull
accept reject|accept decline|accepted declined|accepted rejected|approve reject|approved rejected|allow forbid|allow block|allowed forbidden
allowed banned|include exclude|included excluded|including excluding|add remove|adding removing|added removed|add subtract|create delete
creating deleting|created deleted|insert delete|show hide|hire fire|win lose|winning losing|won lost|rise fall|rising falling|love hate
like dislike|like hate|male female|man woman|men women|boy girl|boys girls|boyfriend girlfriend|husband wife|father mother|dad mom
brother sister
son daughter|uncle aunt|king queen|he she|him her|his her|actor actress|good bad|better worse|high low|higher lower|hot cold|warm cool
fast slow
faster slower|big small|bigger smaller|large small|larger smaller|long short|longer shorter|tall short|old new|older newer|old young
older younger
early late|earlier later|rich poor|strong weak|stronger weaker|light dark|lighter darker|light heavy|hard soft|hard easy|difficult easy
cheap expensive|cheaper expensive|safe dangerous|safe unsafe|legal illegal|possible impossible|true false|right wrong|left right|north south
east west|northern southern|eastern western|positive negative|public private|internal external|inside outside|indoor outdoor|upper lower
inner outer|front back|forward backward|forwards backwards|ascending descending|asc desc|vertical horizontal|row column|rows columns
input output|inputs outputs|read write|encrypt decrypt|encode decode|compress decompress|zip unzip|push pop|pass fail|success failure
arrive depart|arrival departure|arrivals departures|inbound outbound|incoming outgoing|domestic international|import export|supply demand
profit loss|credit debit|asset liability|assets liabilities|income expense|pros cons|advantages disadvantages|advantage disadvantage
benefits risks|benefits drawbacks|strengths weaknesses|causes effects|cause effect|question answer|questions answers|teacher student
doctor patient|employer employee|buyer seller|buyers sellers|parent child|parents children|vegetarian meat|summer winter|day night
morning evening
am pm|today tomorrow|yesterday today|yesterday tomorrow|past future|before afterwards|full empty|full partial|full half|single married
alive dead
birth death|born died|wet dry|clean dirty|thick thin|wide narrow|deep shallow|loud quiet|sweet sour|same different|similar different
simple complex|simple complicated|static dynamic|manual automatic|manually automatically|analog digital|online offline|local remote
synchronous asynchronous|sync async|client server|frontend backend|front-end back-end|encryption decryption|subscribe unsubscribe
follow unfollow|mute unmute|block unblock|pin unpin|hide unhide|undo redo|freezing boiling|melting boiling|melting freezing|inhale exhale
masculine feminine|singular plural|prefix suffix|odd even|prime composite|proximal distal|acute chronic|hyper hypo|hypertension hypotension
hyperthyroidism hypothyroidism|viral bacterial|virus bacteria|vein artery|veins arteries|expand contract|expand collapse|merge split
join leave
enter exit|enter leave|arriving leaving|pay refund|charge refund|charged refunded|weekday weekend|weekdays weekends|pre post
prepaid postpaid
"""


def _pairs() -> dict[str, frozenset[str]]:
    pairs: dict[str, set[str]] = {}
    for pair in _OPPOSITES.replace("\n", "|").split("|"):
        if pair:
            one, other = pair.split()
            pairs.setdefault(one, set()).add(other)
            pairs.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in pairs.items()}


OPPOSITES: Final = _pairs()
"""Words and those that mean the contrary, or that stand for the other one of two."""

_WISHES = """
reset resetting reseting forgot forgotten forget recover recovery retrieve remember
cancel cancelling canceling cancelled canceled cancellation terminate terminating end unsubscribe stop
track tracking status arrived arrive whereabouts
refund refunds refunded reimbursed reimbursement
broken fix repair malfunctioning
crash crashes crashing crashed
delete deleting deleted remove removing removed erase erasing
charged billed
change changing edit editing modify modifying
invoice invoices receipt receipts
register registering registration signup
"""

WISHES: dict[str, int] = {word: number for number, line in enumerate(_WISHES.strip().splitlines()) for word in line.split()}
"""Words that customers use for one and the same wish, about the same thing."""

RESET = WISHES["reset"]
CREDENTIALS = _words("password passwords passcode passphrase pin login username user-name credentials")
"""Who forgot one of these wants to reset it. Of other things that is not so."""

HELP_NOUNS = _words(
    "link button procedure process steps instructions guide tips advice trouble problem problems issue issues question info"
)
"""Words that say only that somebody wants to be helped, next to a wish."""

NUMBER_WORDS = {
    "zero": "0",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "eleven": "11",
    "twelve": "12",
    "twenty": "20",
    "thirty": "30",
    "fifty": "50",
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
    "billion": "1000000000",
    "lakh": "100000",
    "crore": "10000000",
    "half": "0.5",
    "twice": "2",
    "double": "2",
    "triple": "3",
    "second": "2",
    "third": "3",
    "fourth": "4",
    "fifth": "5",
    "dozen": "12",
}
"""Numbers in words. `one` is left out: it is a pronoun more often. Ordinals count as their number."""

CALENDAR = _words(
    "january february april june july august september october november december jan feb apr jun jul aug sep sept oct nov dec "
    "monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday tonight morning evening noon midnight"
)
"""Names of days and months, without `may` and `march`, which are other words more often."""

FORMATS = {
    "json": "json",
    "yaml": "yaml",
    "xml": "xml",
    "csv": "csv",
    "html": "html",
    "markdown": "markdown",
    "latex": "latex",
    "table": "table",
    "tabular": "table",
    "bullet": "bullets",
    "bullets": "bullets",
    "bulleted": "bullets",
    "list": "list",
    "essay": "essay",
    "poem": "poem",
    "haiku": "haiku",
    "song": "song",
    "story": "story",
    "tweet": "tweet",
    "email": "email",
    "outline": "outline",
    "summary": "summary",
    "paragraph": "paragraph",
    "paragraphs": "paragraph",
    "sentence": "sentence",
    "sentences": "sentence",
    "briefly": "short",
    "brief": "short",
    "short": "short",
    "shortly": "short",
    "concise": "short",
    "concisely": "short",
    "detailed": "long",
    "detail": "long",
    "comprehensive": "long",
    "thorough": "long",
    "depth": "long",
    "eli5": "simple",
    "step-by-step": "steps",
    "steps": "steps",
}
"""Words for the shape of an answer."""

LANGUAGES = _words(
    "english french german spanish italian portuguese dutch swedish norwegian danish finnish polish russian ukrainian turkish arabic "
    "hebrew "
    "hindi urdu bengali tamil telugu marathi chinese mandarin cantonese japanese korean vietnamese thai indonesian greek czech hungarian "
    "romanian latin esperanto swahili persian farsi python javascript typescript java kotlin swift rust golang ruby php perl scala haskell "
    "sql bash powershell matlab fortran cobol c++ c# lua julia"
)
"""Languages that an answer may be wanted in, natural ones and those of programs."""

STOPWORDS_BY_LANGUAGE = {
    "en": _words("the of and to in is you that it for on are as with his they at be this have from or by not but what all were when we can "
                 "there an your which their if do will how my me i a does why should would where who has"),
    "es": _words("el los las una unos de del que y en por para con se su es está como cómo qué cuál cuando dónde puedo mi mis yo hay más "
    "pero lo al"),
    "fr": _words("le les des une du est et que qui dans pour par sur avec pas ne je mon ma mes vous votre comment quel quelle quelles où "
    "ce cette au aux il"),
    "de": _words("der die das und ist ich nicht ein eine einen mein meine wie wo wann warum zu mit auf für von dem den sie kann wird sind "
    "bei aus auch"),
    "it": _words("il lo gli una di che è e per con non mi mio mia come dove quando perché cosa quale sono della del alla nel posso ho"),
    "pt": _words("os uma de do da que e em para com não é meu minha como onde quando por qual eu você mais mas ao são posso um"),
    "nl": _words("het een van en is dat op te voor met niet zijn ik mijn hoe waar wanneer waarom wat kan naar bij ook maar aan je er"),
}  # fmt: skip
"""Frequent short words that tell languages in Latin script apart."""
