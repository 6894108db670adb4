"""A feature whose firing is known is described by what is known of it."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import polars as pl
import pytest
import torch
from torch import Tensor, nn

from trimtab.errors import ModelError
from trimtab.model.families import find_final_norm
from trimtab.model.features.describe import describe
from trimtab.model.features.descriptions import AUTOMATIC, SCHEMA, check_descriptions
from trimtab.model.features.labels import NEVER
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE

SENTENCES = (
    "I think that you should not do this, and I would rather tell you why.",
    "What is the answer to the question? The answer is (A) or (B).",
    "No, I cannot help with that; sorry. Yes, of course: here is what I would say.",
    "The quick brown fox jumps over the lazy dog.",
)
YOU, EVERY, NEVER_FIRES, WEAK, HERE = range(5)
"""Fires on one token; on every token; on none; on two tokens, the one more; like the first, but
in the first half of its activation's range."""


class Known(nn.Module):
    """Knows an embedding when it sees one, and fires as a table `(vocabulary, d_sae)` says."""

    def __init__(self, embeddings: Tensor, fires: Tensor) -> None:
        super().__init__()
        self.embeddings, self.fires = embeddings, fires
        generator = torch.Generator().manual_seed(0)
        shape = fires.shape[1], embeddings.shape[1]
        self.W_dec = nn.Parameter(torch.randn(*shape, generator=generator), requires_grad=False)
        self.b_dec = nn.Parameter(torch.zeros(embeddings.shape[1]), requires_grad=False)

    def encode(self, x: Tensor) -> Tensor:
        return self.fires[torch.cdist(x, self.embeddings).argmin(1)]


@pytest.fixture
def ids(tiny_model: LanguageModel) -> Callable[[str], list[int]]:
    """Token ids of a text."""
    return lambda text: tiny_model.tokenizer(text, add_special_tokens=False).input_ids


@pytest.fixture
def sae(tiny_model: LanguageModel, ids: Callable[[str], list[int]]) -> SAE:
    """Five features whose firing is known, on the embeddings."""
    embeddings = tiny_model.module.get_input_embeddings().weight
    fires = torch.zeros(len(embeddings), 5)
    (you,), (the,) = ids(" you"), ids(" the")
    fires[you, YOU] = 2.0
    fires[:, EVERY] = 0.5
    fires[[the, you], WEAK] = torch.tensor([3.0, 1.0])
    fires[the, HERE] = 1.0
    return SAE("known", HookPoint(0, "hook_resid_pre"), Known(embeddings, fires))


@pytest.fixture
def windows(ids: Callable[[str], list[int]]) -> list[tuple[str, list[int]]]:
    """Every sentence as a window, and one of them twice."""
    texts = [*SENTENCES, SENTENCES[0]]
    return [(f"source {number}", ids(text)) for number, text in enumerate(texts)]


def described(
    model: LanguageModel, sae: SAE, windows: Sequence[tuple[str, Sequence[int]]], **options: object
) -> pl.DataFrame:
    table = describe(model, sae, windows, progress=False, **options)  # type: ignore[arg-type]
    assert table.schema == SCHEMA
    return check_descriptions(table, "table", sae.d_sae)


def test_a_feature_that_fires_on_one_token_is_called_by_it(
    tiny_model: LanguageModel,
    sae: SAE,
    windows: list[tuple[str, list[int]]],
    ids: Callable[[str], list[int]],
) -> None:
    row = described(tiny_model, sae, windows).row(YOU, named=True)
    (you,) = ids(" you")
    counted = [token for _, window in windows[:-1] for token in window[1:]]
    assert row["label"] == "“ you”"
    assert row["label_source"] == AUTOMATIC
    assert row["tokens"] == [{"token": " you", "share": 1.0}]
    assert row["firing_rate"] == pytest.approx(counted.count(you) / len(counted))
    assert (row["max"], row["mean_active"]) == (2.0, 2.0)
    assert {c["before"] + c["token"] + c["after"] for c in row["contexts"]} <= {
        text[i:j] for text in SENTENCES for i in range(len(text)) for j in range(i, len(text) + 1)
    }
    assert {c["token"] for c in row["contexts"]} == {" you"}
    assert {c["before"].split()[-1] for c in row["contexts"]} == {"that", "tell"}
    assert {c["source"] for c in row["contexts"]} == {"source 0"}  # the copy adds no context


def test_shares_are_of_summed_activation_and_neighbours_are_counted(
    tiny_model: LanguageModel,
    sae: SAE,
    windows: list[tuple[str, list[int]]],
    ids: Callable[[str], list[int]],
) -> None:
    row = described(tiny_model, sae, windows).row(WEAK, named=True)
    (you,), (the,) = ids(" you"), ids(" the")
    counted = [token for _, window in windows[:-1] for token in window[1:]]
    mass = {" the": 3.0 * counted.count(the), " you": 1.0 * counted.count(you)}
    assert {t["token"]: t["share"] for t in row["tokens"]} == {
        token: pytest.approx(share / sum(mass.values())) for token, share in mass.items()
    }
    assert row["tokens"][0]["share"] >= row["tokens"][1]["share"]
    neighbours: dict[str, dict[str, float]] = {"preceded_by": {}, "followed_by": {}}
    for _, window in windows[:-1]:
        for place, token in enumerate(window):
            value = {the: 3.0, you: 1.0}.get(token, 0.0)
            for column, other in (("preceded_by", place - 1), ("followed_by", place + 1)):
                if place and value and other < len(window):
                    text = tiny_model.tokenizer.decode([window[other]])
                    sums = neighbours[column]
                    sums[text] = sums.get(text, 0.0) + value / sum(mass.values())
    for column, sums in neighbours.items():
        found = {t["token"]: t["share"] for t in row[column]}
        assert found == {t: pytest.approx(s) for t, s in sums.items() if t in found}
        assert {t for t, s in sums.items() if s > 0.11} <= set(found)
        assert min(found.values(), default=1) >= 0.1


def test_a_feature_that_never_fires_still_promotes(
    tiny_model: LanguageModel, sae: SAE, windows: list[tuple[str, list[int]]]
) -> None:
    row = described(tiny_model, sae, windows).row(NEVER_FIRES, named=True)
    assert row["label"] == NEVER
    assert (row["firing_rate"], row["max"], row["mean_active"]) == (0.0, 0.0, 0.0)
    for column in ("tokens", "contexts", "parts", "preceded_by", "followed_by"):
        assert row[column] == []
    assert len(row["promotes"]) == len(row["suppresses"]) == 8


def test_promoted_tokens_are_the_largest_of_the_plain_product(
    tiny_model: LanguageModel, sae: SAE, windows: list[tuple[str, list[int]]]
) -> None:
    table = described(tiny_model, sae, windows)
    gain = next(find_final_norm(tiny_model.module).parameters())
    logits = (sae.W_dec * gain) @ tiny_model.module.get_output_embeddings().weight.T
    tokenizer = tiny_model.tokenizer
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    unreadable = [i for i, text in enumerate(texts) if "\N{REPLACEMENT CHARACTER}" in text]
    logits[:, [*tokenizer.all_special_ids, *unreadable]] = torch.nan
    for feature, column in enumerate(logits):
        order = [texts[i] for i in column.argsort().tolist() if not column[i].isnan()]
        assert table["promotes"][feature].to_list() == order[::-1][:8]
        assert table["suppresses"][feature].to_list() == order[:8]


def test_where_the_text_is_long_enough_tokens_that_it_never_uses_are_not_promoted(
    tiny_model: LanguageModel,
    sae: SAE,
    windows: list[tuple[str, list[int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trimtab.model.features.describe.TELLING", 0.01)
    table = described(tiny_model, sae, windows)
    used = {tiny_model.tokenizer.decode([t]) for _, window in windows for t in window[1:]}
    assert set(table["promotes"].explode()) | set(table["suppresses"].explode()) <= used


def test_first_tokens_and_sinks_are_left_out(
    tiny_model: LanguageModel,
    sae: SAE,
    windows: list[tuple[str, list[int]]],
    ids: Callable[[str], list[int]],
) -> None:
    module = copy.deepcopy(tiny_model.module)
    (the,) = ids(" the")
    module.get_input_embeddings().weight[the] *= 100
    model = replace(tiny_model, module=module)
    known = Known(module.get_input_embeddings().weight, sae.module.fires)  # type: ignore[arg-type]
    table = described(model, replace(sae, module=known), windows)
    assert table["firing_rate"][EVERY] == 1.0
    assert table["label"][HERE] == NEVER
    firsts = described(tiny_model, sae, [("only", [the, *ids(" you")])])
    assert firsts["label"][HERE] == NEVER
    assert firsts["firing_rate"][YOU] == 1.0


def test_an_opening_that_texts_have_in_common_counts_once(
    tiny_model: LanguageModel, sae: SAE, ids: Callable[[str], list[int]]
) -> None:
    opening, ends = ids("I think that you should"), (ids(" you"), ids(" the the"), ids(" dog"))
    (you,), (the,) = ids(" you"), ids(" the")
    assert opening.count(you) == 1
    table = described(tiny_model, sae, [("chat", opening + end) for end in ends])
    counted = [*opening[1:], *(token for end in ends for token in end)]
    for feature, token in ((YOU, you), (HERE, the)):
        rate = counted.count(token) / len(counted)
        assert table["firing_rate"][feature] == pytest.approx(rate)


def test_how_windows_are_batched_makes_no_difference(
    tiny_model: LanguageModel, sae: SAE, windows: list[tuple[str, list[int]]]
) -> None:
    whole = described(tiny_model, sae, windows, batch_tokens=10_000)
    for batch_tokens in (1, 40):
        one = described(tiny_model, sae, windows, batch_tokens=batch_tokens)
        assert one.drop("contexts").equals(whole.drop("contexts"))
        assert one["contexts"].list.len().equals(whole["contexts"].list.len())


def test_contexts_are_few_strong_unlike_and_from_text_that_may_be_quoted(
    tiny_model: LanguageModel, sae: SAE, windows: list[tuple[str, list[int]]]
) -> None:
    quoted = {"source 1", "source 3"}
    for quote in (None, quoted):
        table = described(tiny_model, sae, windows, quote=quote)
        for contexts in table["contexts"].to_list():
            values = [context["value"] for context in contexts]
            assert values == sorted(values, reverse=True)
            assert len(contexts) <= 5
            around = [(c["before"], c["token"], c["after"]) for c in contexts]
            assert len(set(around)) == len(around)
            assert quote is None or {c["source"] for c in contexts} <= quote
        assert len(table["contexts"][EVERY]) == 5
    assert table["contexts"][YOU].to_list() == []  # it fires in no text that may be quoted
    assert table["label"][YOU] == "“ you”"


def test_no_more_text_is_read_than_asked_for(
    tiny_model: LanguageModel, sae: SAE, ids: Callable[[str], list[int]]
) -> None:
    read = []

    def endless() -> Iterator[tuple[str, list[int]]]:
        while True:
            read.append(1)
            yield "same", ids(SENTENCES[3])

    length = len(ids(SENTENCES[3]))
    table = describe(tiny_model, sae, endless(), tokens=3 * length + 5, progress=False)
    assert len(read) == 4
    assert table["firing_rate"][EVERY] == 1.0


@pytest.mark.parametrize("windows", [[], [("a", [])], [("a", [5])]])
def test_no_text_is_an_error(
    tiny_model: LanguageModel, sae: SAE, windows: list[tuple[str, list[int]]]
) -> None:
    with pytest.raises(ModelError, match="no text"):
        describe(tiny_model, sae, windows, progress=False)


def test_an_interrupted_description_says_that_nothing_is_kept(
    tiny_model: LanguageModel, sae: SAE, ids: Callable[[str], list[int]]
) -> None:
    def interrupted() -> Iterator[tuple[str, list[int]]]:
        yield "a", ids(SENTENCES[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="nothing is kept"):
        describe(tiny_model, sae, interrupted(), progress=False)


def test_a_real_encoder_is_described_at_its_own_layer(
    tiny_model: LanguageModel, tiny_sae: SAE, windows: list[tuple[str, list[int]]]
) -> None:
    from trimtab.model.hooks import residuals

    table = described(tiny_model, tiny_sae, windows)
    active, total = torch.zeros(tiny_sae.d_sae), 0
    strongest = torch.zeros(tiny_sae.d_sae)
    for _, window in windows[:-1]:
        seen = residuals(tiny_model, torch.tensor([window]), None, [tiny_sae.hook_point])
        features = tiny_sae.encode(seen[tiny_sae.hook_point])[0, 1:]
        active += (features > 0).sum(0)
        strongest = torch.maximum(strongest, features.amax(0))
        total += len(features)
    torch.testing.assert_close(table["firing_rate"].to_torch(), active / total)
    torch.testing.assert_close(table["max"].to_torch(), strongest.float(), rtol=1e-4, atol=1e-5)
