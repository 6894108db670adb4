"""Log-probabilities of completions, many to a prompt, under any edit at one hook point."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.unembed import logits, token_logits
from trimtab.pairs import Message
from trimtab.steering.apply import Edit
from trimtab.steering.margin import STATES_AT_ONCE
from trimtab.steering.positions import Positions
from trimtab.steering.replay import Replay

Floats = NDArray[np.float64]


class Completions:
    """Scores fixed completions; those of one prompt share what they have in common.

    Args:
        model: the language model; use float32.
        asked: prompts, as messages, each with its completions.
        hook_point: where edits will act.
        positions: `prompt_end` edits the prompt's last token and what follows it, `all` every one.
        chat: render prompts through the chat template; otherwise they are raw text.
        system: system prompt, None for the template's own.

    Attributes:
        owners: int64 `(n,)`, which prompt each completion answers.
        lengths: int64 `(n,)`, its tokens.

    Raises:
        ValueError: `positions` is neither of the two.
    """

    def __init__(
        self,
        model: LanguageModel,
        asked: Sequence[tuple[Sequence[Message], Sequence[str]]],
        hook_point: HookPoint,
        *,
        positions: Positions = "prompt_end",
        chat: bool = True,
        system: str | None = None,
    ) -> None:
        if positions == "generated":
            raise ValueError("completions are scored with `prompt_end` or `all` positions edited")
        rendered = [
            (owner, render(model, messages, text, chat=chat, system=system))
            for owner, (messages, texts) in enumerate(asked)
            for text in texts
        ]
        owners, rows = [owner for owner, _ in rendered], [row for _, row in rendered]
        lengths = [len(row.ids) - row.n_prompt for row in rows]
        self.owners = np.array(owners, dtype=np.int64)
        self.lengths = np.array(lengths, dtype=np.int64)
        self._tokens = torch.tensor([t for row in rows for t in row.ids[row.n_prompt :]])
        self._into = torch.arange(len(rows)).repeat_interleave(torch.tensor(lengths))
        self._replay = Replay(
            model,
            hook_point,
            [row.ids[:-1] for row in rows],  # nothing is read after the last token
            [0 if positions == "all" else row.n_prompt - 1 for row in rows],
            [row.n_prompt - 1 for row in rows],
            owners,
        )

    @torch.no_grad()
    def __call__(self, changes: Sequence[Edit | None]) -> Floats:
        """Return the log-probability of every completion, `(n_changes, n)`, in nats.

        None stands for the unsteered model.
        """
        found = np.zeros((len(changes), len(self.lengths)))
        model = self._replay.model
        for finals in self._replay.run(changes):
            states = finals.states
            own = token_logits(model, states[:, finals.places], self._tokens[finals.ids])
            flat = states.flatten(0, 1)
            slabs = flat.chunk(max(1, -(-len(flat) // STATES_AT_ONCE)))
            ends = torch.cat([logits(model, slab).float().logsumexp(-1) for slab in slabs])
            ends = ends.view(len(states), -1)[:, finals.places]
            nats = (own - ends).cpu().double()
            total = torch.zeros(len(states), len(self.lengths), dtype=torch.float64)
            found[finals.changes] += total.index_add(1, self._into[finals.ids], nats).numpy()
        return found
