"""Where activations are read and vectors are added, by TransformerLens names.

`blocks.15.hook_resid_post` is the residual stream after layer 15. Layers count from 0 and the
embeddings are no layer.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from trimtab.errors import ModelError

Site = Literal["hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post"]
SITES: tuple[Site, ...] = get_args(Site)

_NAME = re.compile(r"blocks\.(0|[1-9][0-9]*)\.(\w+)")


@dataclass(frozen=True, slots=True)
class HookPoint:
    """One site of one layer; its `str` is the TransformerLens name.

    Sorts in the order in which a forward pass reaches it (in a parallel architecture such as
    GPT-NeoX attention and MLP of a layer have no order of their own).
    """

    layer: int
    site: Site

    def __post_init__(self) -> None:
        if self.layer < 0 or self.site not in SITES:
            raise ModelError(_complaint(str(self)))

    def __str__(self) -> str:
        return f"blocks.{self.layer}.{self.site}"

    def __lt__(self, other: "HookPoint") -> bool:
        return (self.layer, SITES.index(self.site)) < (other.layer, SITES.index(other.site))


def parse_hook_point(name: str) -> HookPoint:
    """The hook point called `name`.

    Raises:
        ModelError: the name is not `blocks.<layer>.<site>` with one of the four sites.
    """
    match = _NAME.fullmatch(name)
    site = next((site for site in SITES if match and match[2] == site), None)
    if match is None or site is None:
        raise ModelError(_complaint(name))
    return HookPoint(int(match[1]), site)


def _complaint(name: str) -> str:
    return (
        f"hook point {name!r} is not supported: write blocks.<layer>.<site>, layers counted from "
        f"0, with one of the sites {', '.join(SITES)}; for example blocks.15.hook_resid_post"
    )
