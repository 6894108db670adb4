"""What features fire on, gathered batch by batch in memory that does not grow with the text."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad as pad_ends

from trimtab.model.batch import pad
from trimtab.model.features.parts import PARTS, Parts
from trimtab.model.features.running import Strongest, Sums
from trimtab.model.hooks import residuals
from trimtab.model.sinks import text_tokens

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

BEFORE, AFTER = 10, 5  # tokens of a context
ALIKE = 4  # two contexts of a feature must not agree in so many tokens before it, and in its token
KNOWN_PREFIXES = 1 << 18  # enough to know what all texts begin with, a chat template's opening
CANDIDATES = 10  # contexts that are kept of each feature; some may read the same in the end
TOKENS_PER_ENCODE = 1024  # bounds the dense activations, as in the store

Window = tuple[str, Sequence[int]]


class Firing:
    """What is known of the features so far; all of it lies on the CPU.

    Tokens count but for the first of a window, attention sinks, and those whose whole prefix was
    read before: in every chat the template's opening has the very same activations, which would
    outweigh what the features do in text.

    Attributes:
        n_tokens: tokens that count, so far.
        seen: `(vocabulary,)`, which of its tokens were among them.
        n_active, max, mass: `(d_sae,)`, on how many tokens a feature fires, how strongly at most,
            and the sum of it.
        parts: `(n_parts, d_sae)`, that sum over each of `PARTS`.
        tokens, previous, following: that sum by the token it fires on and its neighbours.
        contexts: where it is strongest.
    """

    def __init__(self, texts: Sequence[str], d_sae: int) -> None:
        self._parts_of = Parts(texts)
        self._prefixes: set[int] = set()
        self.n_tokens = 0
        self.seen = torch.zeros(len(texts), dtype=torch.bool)
        self.n_active = torch.zeros(d_sae, dtype=torch.int64)
        self.max = torch.zeros(d_sae)
        self.mass = torch.zeros(d_sae, dtype=torch.float64)
        self.parts = torch.zeros(len(PARTS), d_sae, dtype=torch.float64)
        self.tokens, self.previous, self.following = Sums(d_sae), Sums(d_sae), Sums(d_sae)
        self.contexts = Strongest(
            d_sae,
            width=BEFORE + 1 + AFTER,
            same=slice(BEFORE - ALIKE, BEFORE + 1),
            kept=CANDIDATES,
        )

    def read(
        self,
        model: "LanguageModel",
        sae: "SAE",
        group: Sequence[Window],
        quote: Collection[str] | None,
    ) -> None:
        """Run one batch of windows; `quote` names the sources that contexts may be taken from."""
        batch = pad([ids for _, ids in group], "right", model.pad_id, model.device)
        seen = residuals(
            model,
            batch.input_ids,
            batch.attention_mask,
            [sae.hook_point],
            position_ids=batch.position_ids,
        )[sae.hook_point].float()
        use = text_tokens(seen, batch.attention_mask)
        for row, (_, window) in enumerate(group):
            use[row, : self._first_new(window)] = False
        rows, positions = (index.cpu() for index in use.nonzero(as_tuple=True))
        ids = batch.input_ids.masked_fill(batch.attention_mask == 0, -1).cpu()
        around = pad_ends(ids, (BEFORE, AFTER), value=-1).unfold(1, BEFORE + 1 + AFTER, 1)
        around = around[rows, positions]
        previous, token, following = (around[:, BEFORE + step] for step in (-1, 0, 1))
        parts = self._parts_of(token, previous, positions)
        sources = [group[row][0] for row in rows.tolist()]
        quotable = torch.tensor([quote is None or source in quote for source in sources]).bool()

        self.n_tokens += len(token)
        self.seen[token] = True
        activations = seen[use]
        for start in range(0, len(token), TOKENS_PER_ENCODE):
            span = slice(start, start + TOKENS_PER_ENCODE)
            values = sae.encode(activations[span]).float().clamp_min(0)
            self.n_active += (values > 0).sum(0).cpu()
            self.max = torch.maximum(self.max, values.amax(0).cpu())
            self.mass += values.sum(0).cpu()
            self.parts += (parts[:, span].to(values.device) @ values).cpu()
            place, feature = values.nonzero(as_tuple=True)
            value = values[place, feature].cpu()
            place, feature = place.cpu() + start, feature.cpu()
            self.tokens.add(feature, token[place], value)
            self.previous.add(feature, previous[place], value)
            self.following.add(feature, following[place], value)
            may = quotable[place]
            place = place[may]
            self.contexts.add(
                feature[may], value[may], around[place], [sources[i] for i in place.tolist()]
            )

    def _first_new(self, ids: Sequence[int]) -> int:
        """The first position whose prefix no window before had; at least 1."""
        prefix, first = 0, None
        for position, token in enumerate(ids):
            prefix = hash((prefix, token))
            if prefix not in self._prefixes:
                first = position if first is None else first
                if len(self._prefixes) >= KNOWN_PREFIXES:
                    break
                self._prefixes.add(prefix)
        return max(1, len(ids) if first is None else first)
