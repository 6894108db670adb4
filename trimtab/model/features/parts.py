"""Which part of a text a token is: a digit, a line break, the first word of a sentence, and so on.

A token may be several parts, or none.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BEGINNING = 10  # positions of a window that are its beginning
ENDS = (".", "!", "?", "…", "。", "！", "？")  # of a sentence

_KINDS: dict[str, Callable[[str], bool]] = {
    "line breaks": lambda text: not text.strip() and "\n" in text,
    "digits": lambda text: text.strip().isnumeric(),
    "letters beyond ASCII": lambda text: any(c.isalpha() and not c.isascii() for c in text),
    "capitals": lambda text: len(text.strip()) > 1 and text.isupper(),
    "punctuation": lambda text: bool(text.strip()) and not any(c.isalnum() for c in text),
    "capitalised": lambda text: text.strip()[:1].isupper() and not text.strip()[1:].isupper(),
}
"""What a token's own text tells."""

_PLACES = ("text beginnings", "sentence starts", "inside words")
"""What its place tells."""

PARTS = (*_KINDS, *_PLACES)


class Parts:
    """Looks parts up for token ids; made once for a vocabulary's texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        def which(holds: Callable[[str], bool]) -> Tensor:
            return torch.tensor([holds(text) for text in texts], dtype=torch.bool)

        self._kinds = torch.stack([which(holds) for holds in _KINDS.values()])
        self._word = which(lambda text: any(letter.isalnum() for letter in text))
        self._ends_sentence = which(lambda t: "\n" in t or t.rstrip(" \"'”’)*").endswith(ENDS))
        self._ends_in_letter = which(lambda text: text[-1:].isalpha())
        self._starts_with_letter = which(lambda text: text[:1].isalpha())

    def __call__(self, tokens: Tensor, previous: Tensor, positions: Tensor) -> Tensor:
        """Say which `PARTS` each token is, `(n_parts, tokens)` in float32.

        Args:
            tokens: ids `(tokens,)`.
            previous: ids `(tokens,)` of the tokens before them.
            positions: `(tokens,)`, counted in their windows.
        """
        places = (
            positions < BEGINNING,
            self._word[tokens] & self._ends_sentence[previous],
            self._starts_with_letter[tokens] & self._ends_in_letter[previous],
        )
        return torch.cat([self._kinds[:, tokens], torch.stack(places)]).float()
