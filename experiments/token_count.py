"""How many tokens a study has passed through the model, over all its interruptions."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from trimtab.errors import SelectionError
from trimtab.model.families import find_layers
from trimtab.model.language_model import LanguageModel
from trimtab.store.files import write_atomically

TOKENS = "tokens.json"


def tokens_counted(out: Path) -> dict[str, float]:
    """Return the tokens and seconds that a study has taken so far; `out` can be written.

    Raises:
        SelectionError: `out` cannot be written, or what it holds of them is damaged.
    """
    count = {"tokens": 0, "seconds": 0.0}
    file = out / TOKENS
    try:
        if file.exists():
            count |= json.loads(file.read_text(encoding="utf-8"))
        write_atomically(file, json.dumps(count).encode())
    except OSError as error:
        raise SelectionError(
            f"{out} cannot be written: {error.strerror}; name another --out"
        ) from None
    except ValueError:
        raise SelectionError(f"{file} is damaged; remove it, and tokens are counted anew") from None
    return count


@contextmanager
def counted(model: LanguageModel, out: Path) -> Iterator[dict[str, float]]:
    """Count the tokens that pass the model's last layer inside, padding among them.

    The count is kept in `out` and goes on where an interrupted study left it.
    """
    count = tokens_counted(out)

    def add(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        count["tokens"] += x.shape[0] * x.shape[1]

    handle = find_layers(model.module)[-1].register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield count
    finally:
        handle.remove()
        write_atomically(out / TOKENS, json.dumps(count).encode())
