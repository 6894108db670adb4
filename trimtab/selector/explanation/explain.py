"""Explain a vector: decompose it, bring it to the damage budget, measure it beside its controls."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.selector.explanation.decomposition import (
    SIZES,
    Decomposition,
    decompose,
    encoder_shift,
    pursue,
    text_residuals,
)
from trimtab.selector.explanation.effects import Effects, measure_effects, rivals
from trimtab.selector.explanation.seen import Seen
from trimtab.selector.journal import Journal
from trimtab.selector.material import Material, gather
from trimtab.selector.scales import digest
from trimtab.steering.calibration import Calibration, calibrate
from trimtab.steering.damage import CONTEXT_TOKENS, Damage, Divergence, neutral_texts
from trimtab.steering.formats.stored import StoredVector
from trimtab.steering.vector import SteeringVector
from trimtab.store import Store
from trimtab.store.fingerprint import longest_of, prompt_form

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

TEXTS = 48  # neutral texts of the damage meter and of the encoder's tokens

Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Against:
    """The pairs that a vector is measured on.

    Attributes:
        store: holds them; it reads the hook point that the vector acts at.
        behavior: which of its behaviours.
        questions: held-out open questions; None takes the prompts of held-out pairs.
        shares: of the groups that make the dense vector, that help to judge, that measure.
        seen: what chose the vector, of which nothing is measured on; None where nobody knows.
    """

    store: Store
    behavior: str
    questions: Sequence[str] | None = None
    shares: tuple[float, float, float] = (0.5, 0.25, 0.25)
    seen: Seen | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """What was found out about a vector.

    Attributes:
        vector: the vector itself.
        strength: the multiplier that its file states, 1 where it states none.
        model: which read it.
        sae: whose features it was decomposed into; None without.
        calibration: the multiplier of the stored vector at the damage budget.
        own_damage: what it does at its own strength.
        residual_norm: median length of the residual at its hook point.
        decomposition: None without an SAE.
        effects: None without pairs.
        material: how the pairs were split; None without.
        left_out: how many pairs and questions were not measured on, since they, or others of their
            groups, chose the vector; None without pairs, or where nobody knows what chose it.
    """

    vector: SteeringVector
    strength: float
    model: "LanguageModel"
    sae: "SAE | None"
    budget: float
    seed: int
    calibration: Calibration
    own_damage: Divergence
    residual_norm: float
    decomposition: Decomposition | None
    against: Against | None
    material: Material | None
    effects: Effects | None
    left_out: dict[str, int] | None
    seconds: float


def explain(
    stored: StoredVector,
    model: "LanguageModel",
    sae: "SAE | None",
    work: Path,
    *,
    against: Against | None = None,
    budget: float = 0.1,
    seed: int = 0,
    say: Say = lambda *_: None,
) -> Explanation:
    """Explain one vector; an interrupted call resumes from `work`.

    Args:
        stored: the vector and where it acts.
        model: in float32.
        sae: of the same hook point; None leaves the decomposition out.
        work: folder of the journal.
        against: pairs to measure it on; None leaves effects and controls out.
        budget: damage that vectors are compared at, in nats per token.
        seed: of splits and random controls; that of the run which made the vector, where it was
            trimtab's, leaves the most to measure on.
        say: told (stage, steps done, steps in all).

    Raises:
        VectorError: the vector is not the model's, the SAE or the store reads another place, or
            nothing brings the vector to the damage budget.
        SelectionError, PairsError: there are too few pairs, or too few that did not choose the
            vector.
    """
    started = time.monotonic()
    vector = SteeringVector(
        torch.from_numpy(stored.direction.copy()), stored.hook_point, stored.positions
    )
    vector.check(model)
    _check_place(vector.hook_point, sae, against)
    settings = {
        "vector": digest(vector.direction),
        "at": [str(vector.hook_point), vector.positions, stored.multiplier],
        "budget": budget,
        "seed": seed,
        **_numbers(model, sae),
        "pairs": None if against is None else _asked(against),
    }
    journal = Journal(work / "journal.jsonl", settings)
    say("preparing the damage meter", 0, 0)
    damage = Damage(model, vector.hook_point, max_texts=TEXTS)
    decoder = None if sae is None else sae.W_dec.detach().float().cpu()
    say("matching pursuit", 0, 0)
    pursued = [] if decoder is None else pursue(vector.direction, decoder, max(SIZES))
    material, effects, left_out = None, None, None
    if against is not None:
        material = gather(
            against.store,
            None,
            against.behavior,
            questions=against.questions,
            poolings=("mean",),
            shares=against.shares,
            seed=seed,
        )
        if against.seen is not None:
            material, left_out = against.seen.left_out_of(material)
        chat, system = prompt_form(against.store.fingerprint)
        effects = measure_effects(
            vector,
            model,
            material,
            rivals(vector.direction, material, pursued, decoder, seed=seed),
            damage,
            journal,
            budget=budget,
            chat=chat,
            system=system,
            longest=longest_of(against.store.fingerprint),
            say=say,
        )
    say("measuring damage", 0, 0)
    found = None if effects is None else effects.outcomes["vector"].calibration
    if found is not None:  # of the unit vector
        calibration = _rescaled(found, 1 / vector.norm)
    else:
        calibration = _calibrated(vector, damage, budget, journal)
    decomposition = None
    if sae is not None and decoder is not None:
        say("decomposing it into features", 0, 0)
        added = calibration.multiplier * vector.direction
        text = text_residuals(model, vector.hook_point, neutral_texts()[:TEXTS], CONTEXT_TOKENS)
        shift = encoder_shift(sae, text, added)
        decomposition = decompose(vector.direction, decoder, shift, added=added, seed=seed)
    return Explanation(
        vector=vector,
        strength=stored.multiplier,
        model=model,
        sae=sae,
        budget=budget,
        seed=seed,
        calibration=calibration,
        own_damage=_at_own_strength(vector, stored.multiplier, damage, journal),
        residual_norm=damage.residual_norm,
        decomposition=decomposition,
        against=against,
        material=material,
        effects=effects,
        left_out=left_out,
        seconds=time.monotonic() - started,
    )


def _check_place(hook_point: HookPoint, sae: "SAE | None", against: Against | None) -> None:
    if sae is not None and _after(sae.hook_point) != _after(hook_point):
        raise VectorError(
            f"the vector acts at {hook_point}, but SAE {sae.spec} reads {sae.hook_point}; name an "
            "SAE for the vector's hook point with --sae, or give --sae none"
        )
    if against is not None and against.store.fingerprint["hook_point"] != str(hook_point):
        raise VectorError(
            f"the vector acts at {hook_point}, but {against.store.path} holds "
            f"{against.store.fingerprint['hook_point']}, so it has no dense vector to compare "
            "with; give the file of the pairs instead, with --pairs"
        )


def _after(point: HookPoint) -> HookPoint:
    """Call what goes into a block what comes out of the one before, which is the same."""
    if point.site == "hook_resid_pre" and point.layer > 0:
        return HookPoint(point.layer - 1, "hook_resid_post")
    return point


def _numbers(model: "LanguageModel", sae: "SAE | None") -> dict[str, str]:
    """What of model and SAE changes numbers: not their names, which the same weights may change."""
    found = {**model.fingerprint(), **({} if sae is None else sae.fingerprint())}
    return {key: value for key, value in found.items() if key not in ("model", "sae")}


def _asked(against: Against) -> dict[str, object]:
    questions = None if against.questions is None else list(against.questions)
    return {
        "store": against.store.content_hash,
        "behavior": against.behavior,
        "questions": questions,
        "shares": list(against.shares),
        "seen": None if against.seen is None else against.seen.digest,
    }


def _calibrated(
    vector: SteeringVector, damage: Damage, budget: float, journal: Journal
) -> Calibration:
    """Return the stored vector's multiplier at the budget."""
    start = 0.1 * damage.residual_norm / max(vector.norm, 1e-12)

    def measure() -> dict[str, object]:
        found = calibrate(vector, damage, budget, start=start)
        spread = [found.damage.mean, found.damage.p95]
        return {"multiplier": found.multiplier, "damage": spread, "curve": found.curve}

    kept = journal.once(("damage at the budget",), measure)
    curve = tuple((multiplier, kl) for multiplier, kl in kept["curve"])
    return Calibration(kept["multiplier"], Divergence(*kept["damage"]), curve)


def _rescaled(found: Calibration, factor: float) -> Calibration:
    """Return the calibration of a vector that is `1 / factor` times as long."""
    curve = tuple((factor * multiplier, kl) for multiplier, kl in found.curve)
    return Calibration(factor * found.multiplier, found.damage, curve)


def _at_own_strength(
    vector: SteeringVector, strength: float, damage: Damage, journal: Journal
) -> Divergence:
    def measure() -> list[float]:
        found = damage(vector.edit(strength))
        return [found.mean, found.p95]

    return Divergence(*journal.once(("damage at its own strength",), measure))
