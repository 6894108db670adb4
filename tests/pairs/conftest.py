from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from trimtab.pairs import Sample

Make = Callable[..., Sample]


@pytest.fixture
def shared_data() -> Path:
    folder = Path(__file__).parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is missing")
    return folder


@pytest.fixture
def make() -> Make:
    numbers = count(1)

    def make(
        prompt: str = "What is your hobby?",
        positive: str | None = "I have none.",
        negative: str | None = "Painting!",
        **fields: Any,
    ) -> Sample:
        messages = ({"role": "user", "content": prompt},) if prompt else ()
        fields = {"id": f"x-{next(numbers)}", "behavior": "b", "group": ""} | fields
        return Sample(messages=messages, positive=positive, negative=negative, **fields)

    return make
