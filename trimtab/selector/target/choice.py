"""Choose the target of a run: calibrate every surrogate on a panel of unlike vectors."""

from collections.abc import Callable, Sequence

from trimtab.errors import SelectionError
from trimtab.selector.parts import Parts
from trimtab.selector.surrogates import BEHAVIOR_RATE, SURROGATES, TARGETS
from trimtab.selector.target.build import joined, on_replies, on_samples
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.member import Member, tried
from trimtab.selector.target.panel import assemble
from trimtab.selector.target.replies import MIN_REPLIES
from trimtab.selector.target.surrogate import Surrogate, gradient_along
from trimtab.selector.target.target import Target, take_aim
from trimtab.selector.target.trust import PLAIN, trusted_first
from trimtab.selector.target.vectors import unlike_vectors

Say = Callable[[str], None]


def choose_target(
    ground: Ground,
    parts: Parts,
    *,
    forced: str | None = None,
    count: int = 24,
    seed: int = 0,
    say: Say = lambda _: None,
) -> Target:
    """Return the surrogate, or mixture, that ranks a panel of vectors as their replies do.

    Where nothing can judge replies it is the margin on the pairs' own completions.

    Args:
        ground: what surrogates are measured on; none of its samples is in `parts`.
        parts: rows of the samples to select from.
        forced: aim at this; the panel is measured all the same.
        count: how many vectors the panel has.
        seed: of the panel's random members.
        say: told what is being done.

    Raises:
        SelectionError: what is forced is unknown, or cannot be had here.
        VectorError: the dense vector cannot be brought to the damage budget.
    """
    if forced not in (None, *TARGETS):
        raise SelectionError(f"no target is called {forced!r}; choose from {', '.join(TARGETS)}")
    if not ground.can_judge:
        surrogates = on_samples(ground)
        if forced is not None and forced not in {surrogate.name for surrogate in surrogates}:
            raise SelectionError(
                f"the target {forced!r} needs replies that can be judged, but "
                f"{_why_unjudged(ground)}; let the run choose, or use the target 'dataset'"
            )
        trusted = forced or PLAIN
        aim, gradient = take_aim(ground, surrogates, trusted, None, at_rate=False)
        return Target(ground, aim, trusted, gradient, forced=forced)
    say("writing the model's own replies")
    surrogates = joined(on_samples(ground), on_replies(ground, [ground.dense]))
    members = first_members(ground, parts, surrogates, count=count, seed=seed, say=say)
    panel = assemble(ground, members, surrogates, members[0], say)
    known = panel.standing.correlations
    if forced not in (None, BEHAVIOR_RATE, *known):
        raise SelectionError(
            f"the target {forced!r} is not available: fewer than {MIN_REPLIES} of the model's own "
            "replies per side came out as intended, or the panel is too small; let the run choose, "
            "or use the target 'dataset'"
        )
    at_rate = forced == BEHAVIOR_RATE
    trusted = trusted_first(panel.standing) if forced is None or at_rate else forced
    aim, gradient = take_aim(
        ground, panel.surrogates, trusted, panel.standing.weights, at_rate=at_rate
    )
    row = panel.event("start", aim.name)
    return Target(
        ground,
        aim,
        trusted,
        gradient,
        panel,
        panel.standing.weights if trusted == "learned" else None,
        forced,
        history=(row,),
    )


def first_members(
    ground: Ground,
    parts: Parts,
    surrogates: Sequence[Surrogate],
    *,
    count: int,
    seed: int,
    say: Say = lambda _: None,
) -> list[Member]:
    """Let the model write under unlike vectors, the dense one first.

    Args:
        ground: where it writes.
        parts: rows of the samples to make vectors of.
        surrogates: whose gradients are among the vectors.
        count: how many vectors; those that cannot be brought to the damage budget are left out.
        seed: of what is random in them.
        say: told what is being done.
    """
    gradients = {}
    for surrogate in surrogates:
        if surrogate.name != "projection":  # whose gradient is the dense vector
            say(f"computing the gradient of {SURROGATES[surrogate.name]}")
            gradient = gradient_along(ground, surrogate)
            assert gradient is not None
            gradients[surrogate.name.replace("_", " ")] = gradient
    members = []
    for name, direction in unlike_vectors(parts, gradients, count, seed).items():
        say(f"writing the panel's replies: {name}")
        member = tried(ground, name, direction, "start")
        if member is not None:
            members.append(member)
    return members


def _why_unjudged(ground: Ground) -> str:
    if not ground.conversations:
        return "there is no prompt to reply to"
    accuracy = ground.bench.judge.accuracy
    return f"the judge's accuracy of {accuracy:.2f} is too low to judge any"
