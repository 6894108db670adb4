"""What tokens say, as text; special tokens are written out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def token_text(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """Text of consecutive tokens, with the leading space that some tokenizers leave out."""
    if not ids:
        return ""
    text = str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
    space = str(tokenizer.convert_ids_to_tokens(ids[0])).startswith("▁")
    return f" {text}" if space and not text.startswith(" ") else text


def vocabulary(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Text of every token by itself, by its id."""
    return [token_text(tokenizer, [token]) for token in range(len(tokenizer))]
