"""The panel of a run: vectors whose replies were judged, and what surrogates are worth on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.selector.target.build import ON_SAMPLES, joined, on_replies
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.member import Member
from trimtab.selector.target.standing import Standing, standing
from trimtab.selector.target.surrogate import Surrogate

BETTER = 0.1  # a behaviour rate that is higher by so much is worth writing own replies anew

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Panel:
    """The vectors that surrogates are tried on, and what that has shown.

    Attributes:
        members: the vectors.
        surrogates: all that could be built.
        written: the member under whose vector the model wrote its own replies.
        standing: what the surrogates are worth on the members.
    """

    members: tuple[Member, ...]
    surrogates: tuple[Surrogate, ...]
    written: Member
    standing: Standing

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a vector: its behaviour rate and every surrogate's effect."""
        return [
            {
                "vector": member.name,
                "at": member.at,
                "behavior_rate": member.rate,
                **{name: float(values[i]) for name, values in self.standing.effects.items()},
            }
            for i, member in enumerate(self.members)
        ]

    def event(self, at: str, target: str, why: str | None = None) -> dict[str, Any]:
        """Return a row of a target's history: how surrogates stood, and what was made of it."""
        return {
            "at": at,
            "vectors": len(self.members),
            "target": target,
            "why": why,
            "own_replies_under": self.written.name,
            "rank_correlation": {
                name: found.value for name, found in self.standing.correlations.items()
            },
        }


def assemble(
    ground: Ground,
    members: Sequence[Member],
    surrogates: Sequence[Surrogate],
    written: Member,
    say: Say,
) -> Panel:
    """Measure every surrogate on every member, on own replies of a better vector if there is one.

    Args:
        ground: where it is measured.
        members: vectors whose replies were judged.
        surrogates: all that there are so far.
        written: the member under whose vector the model wrote its own replies so far.
        say: told what is being done.
    """
    best = max(members, key=lambda member: member.rate)
    if best.rate >= written.rate + BETTER:
        say(f"writing the model's own replies again, under {best.name}")
        fresh = on_replies(ground, [best.direction, ground.dense])
        if fresh:  # else the old replies teach more
            surrogates = joined([s for s in surrogates if s.name in ON_SAMPLES], fresh)
            written = best
    found = standing(surrogates, members, ground.prompt_groups, say)
    return Panel(tuple(members), tuple(surrogates), written, found)
