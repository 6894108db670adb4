"""A short label for a feature, by rules, from the facts of its own row and nothing else.

A rule speaks only where most of the feature's activation is behind it, or most of its strongest
contexts; where none does, the label says "mixed" and names the tokens it is strongest on. The first
rule that has something to say wins:

| rule | label |
|---|---|
| it fires on one token | `“ because”`, or `“ of” after “ because”` |
| on forms of one word | `forms of “make”` |
| on a handful of words | `tokens: he, she, they` |
| on one part of the text | `digits: 1, 2, 0` |
| next to one token, or a handful | `after “ the”: same, first`, `before “ of”: kind, sort` |
| on several words | `tokens: early, late, last, …` |
| nearly everywhere | `dense (31% of tokens): the, of` |
| its strongest contexts are of one word | `strongest on “depends”` |
| it promotes a word, which often follows | `promotes “of”: way, version, level` |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.model.features.descriptions import visible

LONGEST = 40  # letters of a label
MOST = 0.6  # share of the activation that a word, a part or a neighbour must have
HANDFUL = 5  # words that may have it together
ALIKE = 4  # of the strongest contexts that are of one word
DENSE = 0.2  # firing rate
NEVER = "never fired"

# The rarer a part is in text, the more it says; the first of these that holds is named.
RAREST_FIRST = (
    "line breaks",
    "text beginnings",
    "digits",
    "letters beyond ASCII",
    "capitals",
    "sentence starts",
    "punctuation",
    "capitalised",
    "inside words",
)
_ENDINGS = ("s", "es", "d", "ed", "ing", "ly", "er", "ers", "'s", "’s")

Row = Mapping[str, Any]
Shares = Sequence[tuple[str, float]]


@dataclass
class _Word:
    """Tokens that are one word: they differ by case, a space or an ending."""

    name: str  # the heaviest, without its space
    forms: list[str]
    share: float


def automatic_label(row: Row) -> str:
    """Return the label of a row of `descriptions.SCHEMA`, of at most `LONGEST` letters."""
    if not row["firing_rate"]:
        return NEVER
    rules = (_word, _handful, _part, _neighbour, _several, _dense, _strongest, _promoted)
    for rule in rules:
        label = rule(row)
        if label:
            return label
    return _listed("mixed", _names(_peaks(row)) or _names(_shares(row, "tokens")))


def _word(row: Row) -> str | None:
    tokens = _shares(row, "tokens")
    if tokens and tokens[0][1] >= MOST:
        return _short(_quoted(tokens[0][0]) + _beside(row))
    words = _words(tokens)
    if words and words[0].share >= MOST and _is_word(words[0].forms[0]):
        return _short(_called(words[0]) + _beside(row))
    return None


def _handful(row: Row, most: int = HANDFUL) -> str | None:
    names = _few(_shares(row, "tokens"), most)
    return _listed("tokens", names, whole=True) if names else None


def _several(row: Row) -> str | None:
    return _handful(row, most=len(row["tokens"]))


def _part(row: Row) -> str | None:
    mostly = {part["part"] for part in row["parts"] if part["share"] >= MOST}
    for part in RAREST_FIRST:
        if part in mostly:
            return _listed(part, _names(_shares(row, "tokens")))
    return None


def _neighbour(row: Row) -> str | None:
    for column, word in (("preceded_by", "after"), ("followed_by", "before")):
        names = _few(_shares(row, column), HANDFUL)
        if len(names) == 1:
            where = f"{word} {_quoted(row[column][0]['token'])}"
            return _listed(where, _names(_shares(row, "tokens")))
        if names:
            return _listed(word, names, whole=True)
    return None


def _dense(row: Row) -> str | None:
    rate = row["firing_rate"]
    names = _names(_shares(row, "tokens"))
    return _listed(f"dense ({rate:.0%} of tokens)", names) if rate >= DENSE else None


def _strongest(row: Row) -> str | None:
    for word in _words(_peaks(row)):
        if _is_word(word.forms[0]) and word.share >= ALIKE:
            return _short(f"strongest on {_called(word)}")
    return None


def _promoted(row: Row) -> str | None:
    """A word that it promotes and that does follow; either alone may be an accident."""
    following = {form for word in _words(_shares(row, "followed_by")) for form in word.forms}
    for word in _words([(token, 1.0) for token in row["promotes"]]):
        if _is_word(word.forms[0]) and following & set(word.forms):
            return _listed(f"promotes “{word.forms[0]}”", _names(_peaks(row)))
    return None


def _beside(row: Row) -> str:
    """What most of it stands after, or else before; nothing where that is not one token."""
    for column, word in (("preceded_by", "after"), ("followed_by", "before")):
        shares = _shares(row, column)
        if shares and shares[0][1] >= MOST:
            return f" {word} {_quoted(shares[0][0])}"
    return ""


def _few(shares: Shares, most: int) -> list[str]:
    """The fewest words that have most of it together; none where that takes too many."""
    words = _words(shares)
    total = 0.0
    for count, word in enumerate(words[:most], 1):
        total += word.share
        if total >= MOST:
            return [_shown(word) for word in words[:count]]
    return []


def _names(shares: Shares) -> list[str]:
    return [_shown(word) for word in _words(shares)]


def _words(shares: Shares) -> list[_Word]:
    """Tokens as words, the heaviest first."""
    words: list[_Word] = []
    for token, share in shares:
        plain = _plain(token)
        for word in words:
            if any(_is_form(plain, other) or _is_form(other, plain) for other in word.forms):
                word.share += share
                if plain not in word.forms:
                    word.forms.append(plain)
                break
        else:
            words.append(_Word(token.strip() or token, [plain], share))
    return sorted(words, key=lambda word: -word.share)


def _called(word: _Word) -> str:
    return f"forms of “{word.name}”" if len(word.forms) > 1 else f"“{word.forms[0]}”"


def _shown(word: _Word) -> str:
    plain = _is_word(word.name) or word.name.isdigit()
    return word.name if plain else _quoted(word.name)


def _shares(row: Row, column: str) -> Shares:
    return [(entry["token"], entry["share"]) for entry in row[column]]


def _peaks(row: Row) -> Shares:
    """Tokens of the strongest contexts, each of them once for a context."""
    return [(context["token"], 1.0) for context in row["contexts"]]


def _plain(token: str) -> str:
    return token.strip().casefold() or token


def _is_word(text: str) -> bool:
    return text.replace("'", "").replace("’", "").isalpha()


def _is_form(word: str, base: str) -> bool:
    """Whether a word is `base` or an inflection of it, by its letters."""
    if word == base or len(base) < 3:
        return word == base
    if word.startswith(base):
        return word[len(base) :] in _ENDINGS
    stem = base.removesuffix("e")
    return stem != base and word.startswith(stem) and word[len(stem) :] in ("ing", "ed", "er")


def _quoted(token: str) -> str:
    if len(token) > 1 and not token.strip(" "):
        return f"{len(token)} spaces"
    shown = visible(token)
    return f"“{shown if len(shown) <= 16 else shown[:15] + '…'}”"


def _listed(what: str, names: Sequence[str], *, whole: bool = False) -> str:
    """`what: a, b, c` with as many names as there is room for; `whole`: say that there are more."""
    label = what
    for number, name in enumerate(names):
        longer = f"{label}{', ' if number else ': '}{name}"
        more = ", …" if whole and number + 1 < len(names) else ""
        if number and len(longer + more) > LONGEST:
            return _short(f"{label}, …") if whole else label
        label = longer
    return _short(label)


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
