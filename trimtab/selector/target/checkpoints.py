"""Checkpoints: come back to what the model writes, and see whether the target still holds."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from trimtab.selector.surrogates import BEHAVIOR_RATE, SURROGATES
from trimtab.selector.target.build import ON_SAMPLES
from trimtab.selector.target.member import is_new, tried
from trimtab.selector.target.panel import assemble
from trimtab.selector.target.target import Target, take_aim
from trimtab.selector.target.trust import why_not

Say = Callable[[str], None]


def checkpoint(
    target: Target, found: Mapping[str, Tensor], at: str, say: Say = lambda _: None
) -> Target:
    """Return the target after a look at what the model writes under the best vectors so far.

    They join the panel, and every surrogate's rank correlation is measured again. One that has come
    apart from the behaviour rate is trusted no longer; another takes its place, and the target's
    version grows. Where one of the vectors beats the one that the model's own replies were written
    under, they are written anew under it, which makes another target, too, if that rests on them.
    A target that was asked for stays, with its history.

    Args:
        target: as it stands.
        found: vectors `(d_model,)` by name; those that the panel has already are passed over.
        at: names the checkpoint.
        say: told what is being done, and what became of the target.
    """
    if target.panel is None:
        return target
    ground, before = target.ground, target.panel
    members = list(before.members)
    for name, direction in found.items():
        if not is_new(direction, [member.direction for member in members]):
            continue
        say(f"writing replies {at}: {name}")
        member = tried(ground, name, direction, at)
        if member is not None:
            members.append(member)
    if len(members) == len(before.members):
        return target
    panel = assemble(ground, members, before.surrogates, before.written, say)
    at_rate = target.forced == BEHAVIOR_RATE
    why = None
    if target.forced in (None, BEHAVIOR_RATE):
        why = why_not(panel.standing, target.trusted)
    trusted = target.trusted if why is None else panel.standing.best or target.trusted
    known = trusted in panel.standing.correlations
    anew = panel.written is not before.written and trusted not in ON_SAMPLES and known
    row = panel.event(at, target.forced or trusted, why)
    if why is None and not anew:
        return replace(target, panel=panel, history=(*target.history, row))
    if why is not None:
        say(f"the target is now {SURROGATES[trusted]}: {why}")
    aim, gradient = take_aim(
        ground, panel.surrogates, trusted, panel.standing.weights, at_rate=at_rate
    )
    return replace(
        target,
        aim=aim,
        trusted=trusted,
        gradient=gradient,
        panel=panel,
        weights=panel.standing.weights if trusted == "learned" else None,
        version=target.version + 1,
        history=(*target.history, row),
    )
