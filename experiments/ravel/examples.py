"""A prompt that asks for an attribute of an entity, and the tokens that answer it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from experiments.benchmark_questions import user
from experiments.ravel.domain import PLACE, Domain
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render

FIRST = 3  # tokens of a value that are asked for
OPENING = "\"'“‘([{</"  # a value follows them without a space


@dataclass(frozen=True)
class Example:
    """One entity in one template.

    Attributes:
        ids: tokens of the prompt, then the value's first ones.
        n_prompt: how many are the prompt's.
        place: of the entity's last token.
    """

    template: str
    entity: str
    value: str
    ids: tuple[int, ...]
    n_prompt: int
    place: int

    @property
    def answer(self) -> tuple[int, ...]:
        """The value's first tokens, `FIRST` at most."""
        return self.ids[self.n_prompt :]


def in_common(rows: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all rows begin with."""
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False))
    return sum(1 for _ in alike)


def examples_of(
    model: LanguageModel, domain: Domain, attribute: str, template: str, entities: Sequence[str]
) -> list[Example]:
    """Return a template's examples with those of some entities that have the attribute.

    An entity that ends at a sequence's first token is left out: that token is the attention sink,
    and holds nothing of the text.
    """
    found = [
        _example(model, template, entity, domain.values[entity][attribute])
        for entity in entities
        if attribute in domain.values[entity]
    ]
    return [example for example in found if example.place > 0]


def _example(model: LanguageModel, template: str, entity: str, value: str) -> Example:
    before, _, after = template.rpartition(PLACE)
    head = before.replace(PLACE, entity) + entity
    prompt = head + after
    gap = "" if prompt[-1].isspace() or prompt[-1] in OPENING else " "
    rendered = render(model, user(prompt), gap + value, chat=False)
    read = model.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    begins = [begin for begin, _ in read["offset_mapping"]]
    of_entity = max(i for i, begin in enumerate(begins) if begin < len(head))
    return Example(
        template,
        entity,
        value,
        rendered.ids[: rendered.n_prompt + FIRST],
        rendered.n_prompt,
        rendered.n_prompt - len(begins) + of_entity,
    )
