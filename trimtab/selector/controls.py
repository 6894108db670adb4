"""Honest controls: what every chosen vector has to stand beside, at the same damage."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.pooling import mean_residuals
from trimtab.model.render import render
from trimtab.pairs import Message, Sample
from trimtab.selector.parts import Choice, Parts, compose, everything
from trimtab.selector.rankers.pursuit import matched

DRAWS = 3  # random controls are averaged over this many draws
EXAMPLES = 3  # shown by the prompting control


def control_vectors(
    full: Parts, parts: Parts, choice: Choice, gradient: Tensor, *, seed: int
) -> dict[str, list[Tensor]]:
    """Return the control vectors by name, `(d_model,)` each; random ones come in several draws.

    - `dense_mean_difference`: all samples, the residual's difference (CAA).
    - `full_sae`: all samples, every feature; left out without an SAE.
    - `random_samples`: as many samples as were chosen, drawn at random, all of their difference.
    - `random_features`: the chosen samples, as many features drawn at random among those that
      fire on them, their coefficients matched to the gradient where the chosen ones' are; left out
      without an SAE.
    - `random_direction`: a normal draw.

    Args:
        full: parts at the run's own pooling, which the whole vectors are made of.
        parts: parts at the chosen pooling.
        choice: what was chosen of `parts`.
        gradient: `(d_model,)` of the target.
        seed: of all draws.
    """
    generator = torch.Generator().manual_seed(seed)
    every = everything(full)
    controls = {"dense_mean_difference": [compose(full, Choice(every.samples))]}
    if every.features is not None:
        controls["full_sae"] = [compose(full, every)]
    draws = [torch.randperm(full.n_samples, generator=generator) for _ in range(DRAWS)]
    count = len(choice.samples)
    controls["random_samples"] = [
        compose(full, Choice(tuple(draw[:count].tolist()))) for draw in draws
    ]
    if choice.features is not None and parts.features is not None:
        fired = torch.nonzero(parts.features[list(choice.samples)].mean(0)).flatten()
        random_features = []
        for _ in range(DRAWS):
            drawn = torch.randperm(len(fired), generator=generator)[: len(choice.features)]
            random = Choice(choice.samples, tuple(fired[drawn].tolist()))
            if choice.coefficients is not None:
                random = matched(parts, random, gradient)
            random_features.append(compose(parts, random))
        controls["random_features"] = random_features
    shape = full.residual.shape[1]
    controls["random_direction"] = [torch.randn(shape, generator=generator) for _ in range(DRAWS)]
    return controls


def lexical_vector(
    model: LanguageModel,
    samples: Sequence[Sample],
    hook_point: HookPoint,
    *,
    chat: bool,
    system: str | None,
) -> Tensor | None:
    """Return the mean difference that the answers' first words alone make, `(d_model,)`.

    None where no pair's first words differ: then there is nothing lexical of that kind to control.
    """
    rows, signs, starts = [], [], []
    seen_words = set()
    for sample in samples:
        words = {side: text.split()[0] for side, text in sample.sides}
        if len(set(words.values())) == 1 and sample.is_pair:
            continue
        seen_words |= set(words.values())
        for side, word in words.items():
            row = render(model, sample.messages, word, chat=chat, system=system)
            rows.append(row.ids)
            starts.append(row.n_prompt)
            signs.append(1.0 if side == "positive" else -1.0)
    if len(set(signs)) < 2 or len(seen_words) < 2:
        return None
    means = mean_residuals(model, hook_point, rows, starts)
    positive = torch.tensor(signs) > 0
    return means[positive].mean(0) - means[~positive].mean(0)


def with_examples(messages: Sequence[Message], examples: Sequence[Sample]) -> tuple[Message, ...]:
    """Return a conversation with answered examples put before it: the prompting control.

    A system message stays first; a raw text has no prompt to put examples before.
    """
    if not messages:
        return ()
    lead = 1 if messages[0]["role"] == "system" else 0
    shown: list[Message] = []
    for sample in examples:
        shown += [*sample.messages, {"role": "assistant", "content": sample.positive or ""}]
    return (*messages[:lead], *shown, *messages[lead:])


def examples_to_show(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples whose positives the prompting control shows: the shortest few.

    A longer context costs every forward pass; samples with a system message of their own cannot
    be strung together and are passed over.
    """
    usable = [s for s in samples if s.positive and s.messages and s.messages[0]["role"] != "system"]
    return sorted(usable, key=lambda s: (len(s.prompt) + len(s.positive or ""), s.id))[:EXAMPLES]
