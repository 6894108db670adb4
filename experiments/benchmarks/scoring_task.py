"""Pairs of exact lengths, of the packaged neutral texts' words, and what scoring them must cost."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render, render_prompt
from trimtab.pairs.sample import Message, Sample
from trimtab.steering.damage import neutral_texts


@dataclass(frozen=True)
class Task:
    """Pairs whose prompts have `prompt` tokens and whose completions have `completion`.

    With one token the completions are the letters A and B, and only their two logits count.
    """

    samples: tuple[Sample, ...]
    prompt: int
    completion: int

    @property
    def letters(self) -> bool:
        """Whether it is a choice between two letters."""
        return self.completion == 1


def make_task(model: LanguageModel, pairs: int, prompt: int, completion: int) -> Task:
    """Return pairs of exactly these lengths in tokens, chat template included."""
    words = [word for text in neutral_texts() for word in text.split()]
    starts = iter(range(0, len(words), 7))

    def messages(text: str) -> tuple[Message, ...]:
        return ({"role": "user", "content": text},)

    def answer(asked: tuple[Message, ...]) -> str:
        def length(text: str) -> int:
            row = render(model, asked, text)
            return len(row.ids) - row.n_prompt

        return next(_texts(words, starts, length, completion))

    samples = []
    prompts = _texts(words, starts, lambda text: len(render_prompt(model, messages(text))), prompt)
    for i in range(pairs):
        asked = messages(next(prompts))
        sides = ("A", "B") if completion == 1 else (answer(asked), answer(asked))
        samples.append(Sample(str(i), "benchmark", asked, *sides, str(i)))
    return Task(tuple(samples), prompt, completion)


def _texts(
    words: list[str], starts: Iterator[int], length: Callable[[str], int], wanted: int
) -> Iterator[str]:
    """Yield runs of words that are `wanted` tokens long; most beginnings lead to one."""
    for start in starts:
        for end in range(start + 1, len(words)):
            text = " ".join(words[start:end])
            found = length(text)
            if found == wanted:
                yield text
            if found >= wanted:
                break


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of scoring one candidate on a task, at the least."""

    plain: int
    fast: int

    @property
    def bound(self) -> float:
        """How many times faster the fast path can be at the same multiply-adds a second."""
        return self.plain / self.fast


def cost(config: Any, task: Task, first_layer: int) -> Cost:
    """Count the multiply-adds of a Llama's linear maps, attention and unembedding.

    A plain pass reads every row whole, once for a pair of letters and once a side otherwise, and
    unembeds the states that predict a completion's tokens. The fast path runs the layers from
    `first_layer` on, on the prompt's last token and on what the sides do not share; it unembeds
    states but for the prompt's last: there the normaliser is the same for both sides.
    """
    n_pairs, prompt, completion = len(task.samples), task.prompt, task.completion
    d, head_dim = config.hidden_size, config.head_dim
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    linear = d * (2 * queries + 2 * keys + 3 * config.intermediate_size)
    attention = 2 * queries  # for every key that a query sees
    vocabulary = d * config.vocab_size

    sides = 1 if task.letters else 2
    length = prompt + completion - 1
    seen = length * (length + 1) // 2
    whole = config.num_hidden_layers * (length * linear + seen * attention)
    plain = sides * (whole + completion * vocabulary)

    later = range(1, completion)  # tokens of a side that are read, by their distance to the root
    tail = 1 + 2 * len(later)
    seen = prompt + 2 * sum(prompt + i for i in later)
    above = (config.num_hidden_layers - first_layer) * (tail * linear + seen * attention)
    fast = above + 2 * len(later) * vocabulary + 2 * completion * d
    return Cost(n_pairs * plain, n_pairs * fast)
