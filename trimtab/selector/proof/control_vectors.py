"""Honest controls: what every chosen vector has to stand beside, at the same damage."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.pooling import mean_residuals
from trimtab.model.render import render
from trimtab.pairs import Sample
from trimtab.selector.exploration.ranked import choose_features
from trimtab.selector.parts import Choice, Parts, compose, everything
from trimtab.selector.rankers.pursuit import matched

MOST_DRAWN = 10  # times as many random features as were chosen, of which the match leaves some out


def control_vectors(
    full: Parts, parts: Parts, choice: Choice, towards: Tensor, *, draws: int, seed: int
) -> dict[str, list[Tensor]]:
    """Return the control vectors by name, `(d_model,)` each; random ones come in several draws.

    - `dense_mean_difference`: all samples, the residual's difference (CAA).
    - `full_sae`: all samples, every feature; left out without an SAE.
    - `random_samples`: as many samples as were chosen, drawn at random, all of their difference.
    - `random_direction`: a normal draw.

    Where features were chosen, also

    - `same_features`: the chosen features of as many random samples: what choosing samples adds.
    - `random_features`: the chosen samples, as many features drawn at random among those that
      fire on them. Where coefficients are matched, more are drawn in place of those that the match
      leaves out.
    - `random_dictionary`: the chosen samples, as many directions that the pursuit takes from as
      many random ones as the SAE has features: what the SAE's directions add.

    Coefficients are matched where the chosen ones are, to the same direction.

    Args:
        full: parts at the run's own pooling, which the whole vectors are made of.
        parts: parts at the chosen pooling.
        choice: what was chosen of `parts`.
        towards: `(d_model,)` that coefficients are matched to.
        draws: of every random control.
        seed: of all draws.
    """
    generator = torch.Generator().manual_seed(seed)
    every = everything(full)
    controls = {"dense_mean_difference": [compose(full, Choice(every.samples))]}
    if every.features is not None:
        controls["full_sae"] = [compose(full, every)]
    shape = full.residual.shape[1]
    some = [torch.randperm(full.n_samples, generator=generator) for _ in range(draws)]
    as_many = [tuple(one[: len(choice.samples)].tolist()) for one in some]
    controls["random_samples"] = [compose(full, Choice(samples)) for samples in as_many]
    controls["random_direction"] = [torch.randn(shape, generator=generator) for _ in range(draws)]
    if choice.features is None or parts.features is None:
        return controls

    kept = len(choice.features)

    def fitted(of: Parts, some: Choice) -> Tensor:
        return compose(of, some if choice.coefficients is None else matched(of, some, towards))

    def drawn(order: tuple[int, ...]) -> Choice:
        """Return the first of these features that make as many as were chosen."""
        some = Choice(choice.samples, order[:kept])
        if choice.coefficients is None:
            return some
        count, found = kept, matched(parts, some, towards)
        while len(found.features or ()) < kept and count < min(len(order), MOST_DRAWN * kept):
            count += kept - len(found.features or ())
            found = matched(parts, Choice(choice.samples, order[:count]), towards)
        return found

    fired = torch.nonzero(parts.features[list(choice.samples)].mean(0)).flatten()
    orders = [torch.randperm(len(fired), generator=generator) for _ in range(draws)]
    controls["same_features"] = [
        fitted(parts, Choice(samples, choice.features)) for samples in as_many
    ]
    controls["random_features"] = [
        compose(parts, drawn(tuple(fired[order].tolist()))) for order in orders
    ]
    controls["random_dictionary"] = []
    for _ in range(draws):
        dictionary = random_dictionary(parts, generator)
        taken = choose_features(
            dictionary,
            choice.samples,
            towards,
            ranker="pursuit",
            count=kept,
            coefficients="mean" if choice.coefficients is None else "matched",
        )
        if taken is not None:
            controls["random_dictionary"].append(compose(dictionary, taken))
    return controls


def random_dictionary(parts: Parts, generator: torch.Generator) -> Parts:
    """Return the same samples seen through as many random unit directions as the SAE has features.

    A direction's value on a sample is the sample's difference along it.
    """
    assert parts.decoder is not None
    atoms = torch.nn.functional.normalize(
        torch.randn(parts.decoder.shape, generator=generator), dim=1
    )
    return Parts(parts.sample_ids, parts.residual, parts.residual @ atoms.T, atoms)


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
