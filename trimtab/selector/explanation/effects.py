"""What a vector does to pairs of a behaviour that did not make its rivals, beside its controls.

What this measures is held out for the controls. For the vector it is where an exported vector's
folder says what chose it, see `seen`; one that somebody else made may rest on these very pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.bench import Bench
from trimtab.selector.explanation.decomposition import reconstruction
from trimtab.selector.intervals import Estimate
from trimtab.selector.journal import Journal
from trimtab.selector.material import Material
from trimtab.selector.parts import Choice, compose
from trimtab.selector.prompting import examples_to_show
from trimtab.selector.proof.control_vectors import lexical_vector
from trimtab.selector.proof.evaluate import (
    HeldOut,
    Outcome,
    anti_steerable,
    effect_beyond,
    measure,
    measure_prompting,
    measure_unsteered,
    rate_beyond,
)
from trimtab.steering.damage import Damage
from trimtab.steering.judges.classifier import train_classifier
from trimtab.steering.vector import SteeringVector

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel

RECONSTRUCTED = (4, 16, 64)  # features of the reconstructions that are measured
RANDOM = 5  # random directions, whose own variance the intervals count


@dataclass(frozen=True, eq=False)
class Effects:
    """What was measured on the held-out pairs and questions.

    Attributes:
        bench: which judged the replies.
        held_out: what it was measured on.
        outcomes: of the vector, first, and of its controls, by name.
        absent: why a control is missing, by name.
        anti_steerable: the share of pairs that the vector moves the wrong way.
    """

    bench: Bench
    held_out: HeldOut
    outcomes: dict[str, Outcome]
    absent: dict[str, str]
    anti_steerable: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return effects and rates with their intervals, and what the vector has beyond each."""
        groups = self.held_out.groups
        vector = self.outcomes["vector"]
        rows = {
            name: {
                **outcome.to_json(groups),
                "effect_beyond": effect_beyond(vector, outcome, groups).to_json(),
                "behavior_rate_beyond": rate_beyond(vector, outcome).to_json(),
            }
            for name, outcome in self.outcomes.items()
        }
        classifier = self.bench.classifier
        return {
            "effects": rows,
            "absent": self.absent,
            "anti_steerable_fraction": self.anti_steerable.to_json(),
            "held_out": {"n_pairs": len(groups), "n_questions": len(self.held_out.questions)},
            "judge": {
                "kind": classifier.kind,
                "accuracy": classifier.accuracy,
                "reliable": classifier.reliable,
            },
        }


def rivals(
    direction: Tensor,
    material: Material,
    pursued: Sequence[int],
    decoder: Tensor | None,
    *,
    seed: int,
) -> dict[str, list[Tensor]]:
    """Return the vector and its controls by name, `(d_model,)` each; the random one in draws.

    Args:
        direction: the vector.
        material: whose `select` pairs give the dense mean difference.
        pursued: features in the order of the pursuit.
        decoder: `(d_sae, d_model)`; None without an SAE.
        seed: of the random directions.
    """
    parts = next(iter(material.pools.values()))
    generator = torch.Generator().manual_seed(seed)
    found = {"vector": [direction], "its_negative": [-direction]}
    for size in RECONSTRUCTED:
        if decoder is not None and size <= len(pursued):
            found[f"{size}_features"] = [reconstruction(direction, decoder, pursued[:size])]
    found["dense_mean_difference"] = [compose(parts, Choice(tuple(range(parts.n_samples))))]
    found["random_direction"] = [
        torch.randn(direction.shape, generator=generator) for _ in range(RANDOM)
    ]
    return found


def measure_effects(
    vector: SteeringVector,
    model: "LanguageModel",
    material: Material,
    vectors: Mapping[str, Sequence[Tensor]],
    damage: Damage,
    journal: Journal,
    *,
    budget: float,
    chat: bool,
    system: str | None,
    longest: int,
    say: Callable[[str, int, int], None],
) -> Effects:
    """Measure vectors, the first of which is `vector` itself, at equal damage.

    Raises:
        VectorError: the vector cannot be brought to the damage budget.
        SelectionError: there are too few completions to train the judge of replies on.
    """
    bench = Bench(
        journal,
        vector.hook_point,
        damage,
        budget,
        model,
        train_classifier(material.seen, model),
        positions=vector.positions,
        chat=chat,
        system=system,
    )
    held_out = HeldOut(
        bench.margin(material.report, longest=longest),
        material.questions,
        damage,
        Damage.on_chats(
            model, vector.hook_point, positions=vector.positions, chat=chat, system=system
        ),
    )
    lexical = lexical_vector(model, material.select, vector.hook_point, chat=chat, system=system)
    measured = {**vectors, **({} if lexical is None else {"lexical": [lexical]})}
    outcomes: dict[str, Outcome] = {}
    absent: dict[str, str] = {}
    for done, (name, directions) in enumerate(measured.items(), start=1):
        say(f"measuring {name.replace('_', ' ')}", done, len(measured))
        try:
            outcomes[name] = measure(bench, held_out, directions)
        except VectorError as error:
            if name == "vector":
                raise
            absent[name] = str(error)
    outcomes["unsteered"] = measure_unsteered(bench, held_out)
    if examples := examples_to_show(material.select):
        outcomes["prompting"] = measure_prompting(bench, held_out, examples)
    anti = anti_steerable(bench, held_out, vector.direction)
    return Effects(bench, held_out, outcomes, absent, anti)
