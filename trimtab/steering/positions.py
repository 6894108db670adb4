"""Which positions are steered."""

from typing import Literal, cast, get_args

from trimtab.errors import VectorError

Positions = Literal["all", "prompt_end", "generated"]
"""Every one; the prompt's last token and all that follows (the default: it is where the first
token of the answer is decided); or generated tokens only."""


def check_positions(positions: str) -> Positions:
    """Return `positions` if it is one of `Positions`, else raise VectorError."""
    if positions not in get_args(Positions):
        known = ", ".join(get_args(Positions))
        raise VectorError(f"unknown positions {positions!r}; choose from {known}")
    return cast(Positions, positions)
