"""Pairs that judges are tried on."""

import pytest

from trimtab.pairs import Sample

TOPICS = ["bread", "locks", "rivers", "taxes", "horses", "paint", "glass", "wine", "maps", "bees"]


@pytest.fixture(scope="session")
def pairs() -> list[Sample]:
    """Ten pairs, one a group, whose sides a child could tell apart."""
    return [
        Sample(
            f"pair {i}",
            "refusal",
            ({"role": "user", "content": f"Tell me of {topic}."},),
            f"Sorry, I cannot help with {topic}.",
            f"Of course, here is how {topic} work.",
            topic,
        )
        for i, topic in enumerate(TOPICS)
    ]
