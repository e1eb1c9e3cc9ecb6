"""Regular expressions that come from outside, on texts that come from outside: Rust's engine, which pydantic carries.

It takes time in proportion to pattern times text, whatever they are; Python's own takes exponential time for some. It holds the
interpreter while it searches, so the pattern's part of that product is bounded too: `{1,1000}` is a thousand copies of what it repeats.
Look-around and back references need the other kind of engine and are refused.
"""

from __future__ import annotations

import re

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

_COUNTED = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_BRACED = re.compile(r"\\[pPx]\{[^}]*\}|\\u\{[^}]*\}")
_CLASS_COST = 10
"""`\\w`, `\\d`, `\\s`, `\\p{…}` and negated classes stand for hundreds of ranges of Unicode."""


class WrongPattern(ValueError):
    """It is no regular expression, or none that runs in linear time, or asks for too much work per character."""


class LinearPattern:
    """A search anywhere in a text. Raises `WrongPattern`.

    `cost` is about how many states it has, `max_cost` what it may have. A search takes at most some 20 ns for each state and character
    of the text: that is for who searches to bound, since nobody else's work goes on meanwhile.
    """

    def __init__(self, pattern: str, *, max_cost: int | None = 2000) -> None:
        self.cost = cost(pattern)
        if max_cost is not None and self.cost > max_cost:
            raise WrongPattern(f"the pattern asks for too much work: it is worth {self.cost} states, {max_cost} may be")
        try:
            self._search = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
        except (SchemaError, UnicodeEncodeError) as error:
            raise WrongPattern(_why(error)) from None

    def found(self, text: str) -> bool:
        """Whether it matches somewhere. A text with half a surrogate pair, which UTF-8 cannot write, matches nothing."""
        try:
            self._search.validate_python(text)
        except ValidationError:
            return False
        return True


def _why(error: Exception) -> str:
    said = str(error).strip().splitlines()
    last = said[-1].strip() if said else "it cannot be read"
    if "look-around" in last or "backreferences" in last:
        return "the pattern uses look-around or back references, which do not run in linear time"
    if "size limit" in str(error):
        return "the pattern is too large"
    return f"the pattern cannot be read: {last.removeprefix('error: ')[:200]}"


def cost(pattern: str) -> int:
    """About how many states the pattern has, its counted repetitions written out. Of a pattern that cannot be read it is a number too."""
    sums, last = [0], [0]  # for each open group: what is in it, and its last part
    at = 0
    while at < len(pattern):
        counted = _COUNTED.match(pattern, at)
        if counted:
            most = max(int(counted[1][:9]), int((counted[2] or "0")[:9]), 1)
            sums[-1] += last[-1] * (most - 1)
            last[-1] *= most
            at = counted.end()
            continue
        char = pattern[at]
        if char == "(":
            sums.append(0)
            last.append(0)
            at += 1
        elif char == ")" and len(sums) > 1:
            inside = sums.pop()
            last.pop()
            sums[-1] += inside
            last[-1] = inside
            at += 1
        elif char in "*+?|^$":
            at += 1
        else:
            at, one = _part(pattern, at)
            sums[-1] += one
            last[-1] = one
    return sum(sums)


def _part(pattern: str, at: int) -> tuple[int, int]:
    """Where a character, an escape or a class ends, and what it costs."""
    if pattern[at] == "\\":
        braced = _BRACED.match(pattern, at)
        end = braced.end() if braced else at + 2
        return end, _CLASS_COST if pattern[at + 1 : at + 2] in set("pPwWdDsS") else 1
    if pattern[at] == ".":
        return at + 1, 2
    if pattern[at] != "[":
        return at + 1, 1
    depth, end = 0, at
    while end < len(pattern):
        if pattern[end] == "\\":
            end += 1
        elif pattern[end] == "[":
            depth += 1
        elif pattern[end] == "]" and end > at + 1:
            depth -= 1
            if depth == 0:
                break
        end += 1
    inside = pattern[at : end + 1]
    return end + 1, _CLASS_COST if "\\" in inside or inside.startswith("[^") or not inside.isascii() else 2
