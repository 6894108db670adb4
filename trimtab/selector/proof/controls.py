"""The controls that a vector stands beside, measured as it is, on what chose nothing."""

from collections.abc import Callable

from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.bench import Bench
from trimtab.selector.exploration.surface import Candidate
from trimtab.selector.material import Material
from trimtab.selector.prompting import examples_to_show
from trimtab.selector.proof.control_vectors import control_vectors, lexical_vector
from trimtab.selector.proof.evaluate import (
    HeldOut,
    Outcome,
    measure,
    measure_prompting,
    measure_unsteered,
)


def measure_controls(
    bench: Bench,
    held_out: HeldOut,
    material: Material,
    pooling: str,
    chosen: Candidate,
    towards: Tensor,
    *,
    draws: int,
    seed: int,
    say: Callable[[str, int, int], None],
) -> tuple[dict[str, Outcome], dict[str, str]]:
    """Return the controls' outcomes, and why a control is missing, by name.

    A random draw that no multiplier brings to the damage budget is left out.

    Args:
        bench: measures vectors.
        held_out: pairs and questions of the report.
        material: what the run works on.
        pooling: the run's own, which whole vectors are made of.
        chosen: what the controls are as large as.
        towards: `(d_model,)` that coefficients are matched to, and atoms of a random dictionary.
        draws: of every random control.
        seed: of all draws.
        say: told (stage, steps done, steps in all).
    """
    controls = {"unsteered": measure_unsteered(bench, held_out)}
    absent: dict[str, str] = {}
    vectors = control_vectors(
        material.pools[pooling],
        material.pools[chosen.pooling],
        chosen.choice,
        towards,
        draws=draws,
        seed=seed,
    )
    lexical = lexical_vector(
        bench.model, material.select, bench.hook_point, chat=bench.chat, system=bench.system
    )
    if lexical is not None:
        vectors["lexical"] = [lexical]
    for name, directions in vectors.items():
        reachable, near = [], None
        absent[name] = "there was nothing to draw"
        for number, direction in enumerate(directions):
            say(f"control: {name.replace('_', ' ')}", number, len(directions))
            try:
                found = bench.calibrate(direction, held_out.damage, meter="report", near=near)
            except VectorError as error:
                absent[name] = str(error)
            else:
                reachable.append(direction)
                near = found.multiplier  # draws of one kind are much alike
        if reachable:
            controls[name] = measure(bench, held_out, reachable)
    examples = examples_to_show(material.select)
    if examples:
        say("control: prompting", 0, 0)
        controls["prompting"] = measure_prompting(bench, held_out, examples)
    return controls, {name: why for name, why in absent.items() if name not in controls}


def draws_as_good(minimal: Outcome, control: Outcome) -> dict[str, int | None]:
    """Return how many draws of a random control do at least what the exported vector does.

    Of the behaviour rate None, where no question was asked. The interval of a difference is about
    the mean of the draws; this is about each of them.
    """
    as_often: int | None = None
    if minimal.shown.size:
        as_often = int((control.shown.mean(0) >= minimal.shown.mean()).sum())
    return {
        "of": control.draws,
        "effect": int((control.effects.mean(0) >= minimal.effects.mean()).sum()),
        "behavior_rate": as_often,
    }
