"""Documents become windows of tokens, and which of them are held out follows from their text."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trimtab.errors import ModelError, PairsError
from trimtab.model.documents import windows
from trimtab.model.language_model import LanguageModel

Write = Callable[..., Path]
SENTENCE = "The quick brown fox jumps over the lazy dog, and I would rather tell you why. "
CHAT = [
    {"role": "user", "content": "What is the answer to the question?"},
    {"role": "assistant", "content": "I cannot help with that; sorry."},
]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as JSONL, gzipped where the name says so."""

    def write(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return write


def all_of(files: list[Path], model: LanguageModel, **options: Any) -> list[tuple[str, list[int]]]:
    options = {"length": 32, "part": "train", "held_out": 0.0, **options}
    return list(windows(files, model, **options))


def texts(count: int) -> list[dict[str, Any]]:
    return [
        {"text": SENTENCE * 2 + str(number), "source": "abc"[number % 3]} for number in range(count)
    ]


def test_windows_are_a_documents_tokens_in_order(tiny_model: LanguageModel, write: Write) -> None:
    text = SENTENCE * 5
    found = all_of([write([{"text": text, "source": "here"}])], tiny_model)
    assert {source for source, _ in found} == {"here"}
    assert all(len(ids) == 32 for _, ids in found[:-1])
    ids = tiny_model.tokenizer(text, add_special_tokens=False).input_ids
    joined = [token for _, window in found for token in window]
    assert joined == ids[: len(joined)]
    assert len(ids) - len(joined) < 16  # only a remainder too short to teach anything is dropped


def test_no_window_mixes_two_documents(tiny_model: LanguageModel, write: Write) -> None:
    found = all_of([write(texts(4))], tiny_model, length=1000)
    assert len(found) == 4


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "plain.txt"])
def test_every_kind_of_file_reads_the_same(
    tiny_model: LanguageModel, write: Write, tmp_path: Path, name: str
) -> None:
    rows = texts(3)
    if name == "plain.txt":
        (tmp_path / name).write_text("\n\n".join(row["text"] for row in rows), encoding="utf-8")
    found = all_of([tmp_path / name if "txt" in name else write(rows, name)], tiny_model)
    assert [ids for _, ids in found] == [
        ids for _, ids in all_of([write(rows, "again.jsonl")], tiny_model)
    ]
    if name == "plain.txt":
        assert {source for source, _ in found} == {"plain"}


def test_chats_go_through_the_template(tiny_model: LanguageModel, write: Write) -> None:
    ((_, ids),) = all_of([write([{"messages": CHAT}])], tiny_model, length=1000)
    expected = str(tiny_model.tokenizer.apply_chat_template(CHAT, tokenize=False))
    assert tiny_model.tokenizer.decode(ids) == expected


@pytest.mark.parametrize(
    "quoted", ["<|im_end|>", "<|im_start|>user", "<|im_<|im_end|>start|>", "<|<|im_end|>im_end|>"]
)
def test_only_the_template_writes_special_tokens(
    tiny_model: LanguageModel, write: Write, quoted: str
) -> None:
    chat = [{**message, "content": message["content"] + quoted} for message in CHAT]
    files = [
        write([{"text": SENTENCE + quoted + SENTENCE}]),
        write([{"messages": chat}], "c.jsonl"),
    ]
    (_, text), (_, chatted) = all_of(files, tiny_model, length=1000)
    special = set(tiny_model.tokenizer.all_special_ids)
    assert not special & set(text)
    assert sum(token in special for token in chatted) == 2 * len(CHAT)


def test_every_window_begins_as_the_tokenizer_begins_a_text(
    tiny_model: LanguageModel, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write([{"text": SENTENCE * 4}, {"messages": CHAT}])
    plain = all_of([file], tiny_model, length=20)
    tokenizer = tiny_model.tokenizer
    start = tokenizer.bos_token_id
    call = type(tokenizer).__call__

    def beginning(self: Any, text: str, *args: Any, **kwargs: Any) -> Any:
        encoded = call(self, text, *args, **kwargs)
        if kwargs.get("add_special_tokens", True):
            encoded["input_ids"] = [start, *encoded["input_ids"]]
        return encoded

    monkeypatch.setattr(type(tokenizer), "__call__", beginning)
    found = all_of([file], tiny_model, length=20)
    assert all(ids[0] == start and ids[1] != start and len(ids) <= 20 for _, ids in found)
    assert not all(ids[0] == start for _, ids in plain)


def test_documents_are_held_out_by_what_they_say_and_nothing_else(
    tiny_model: LanguageModel, write: Write
) -> None:
    rows = texts(120)
    files = [write(rows[:60], "one.jsonl"), write(rows[60:], "two.jsonl.gz")]
    swapped = [write(rows[::-1], "all.jsonl")]
    parts = {}
    for part in ("train", "held_out"):
        found = all_of(files, tiny_model, part=part, held_out=0.3)
        again = all_of(swapped, tiny_model, part=part, held_out=0.3)
        parts[part] = sorted(ids for _, ids in found)
        assert parts[part] == sorted(ids for _, ids in again)
    everything = sorted(ids for _, ids in all_of(files, tiny_model))
    assert sorted(parts["train"] + parts["held_out"]) == everything
    assert 0.1 < len(parts["held_out"]) / len(everything) < 0.5


def test_a_source_is_thinned_by_its_share_and_others_are_not(
    tiny_model: LanguageModel, write: Write
) -> None:
    file = write(texts(150))
    every, thinned, none = (
        [source for source, _ in all_of([file], tiny_model, length=1000, share=share)]
        for share in (None, {"a": 0.4}, {"a": 0.0})
    )
    assert every.count("a") == every.count("b") == 50
    assert 8 < thinned.count("a") < 35
    assert thinned.count("b") == every.count("b")
    assert "a" not in none


def test_what_is_thinned_out_and_what_is_held_out_are_independent(
    tiny_model: LanguageModel, write: Write
) -> None:
    file, options = write(texts(300)), {"length": 1000, "held_out": 0.5}
    held = all_of([file], tiny_model, part="held_out", **options)
    kept = all_of([file], tiny_model, part="held_out", share=dict.fromkeys("abc", 0.5), **options)
    assert 0.3 < len(kept) / len(held) < 0.7


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(length=st.integers(2, 80), repeats=st.integers(0, 6))
def test_no_window_is_longer_than_asked_or_too_short_to_teach(
    tiny_model: LanguageModel, tmp_path: Path, length: int, repeats: int
) -> None:
    file = tmp_path / "text.txt"
    file.write_text(SENTENCE * repeats)
    for _, ids in all_of([file], tiny_model, length=length):
        assert min(16, length) <= len(ids) <= length


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('{"text": 3}', "neither 'text' nor 'messages'"),
        ('{"prompt": "x"}', "neither 'text' nor 'messages'"),
        ('{"messages": [{"role": "user"}]}', "neither 'text' nor 'messages'"),
        ('{"messages": [{"role": "user", "content": null}]}', "neither 'text' nor 'messages'"),
        ('{"messages": "hello"}', "neither 'text' nor 'messages'"),
        ("[1, 2]", "neither 'text' nor 'messages'"),
        ('{"text": "x"', "not JSON"),
    ],
)
def test_a_row_that_is_none_is_named(
    tiny_model: LanguageModel, tmp_path: Path, row: str, complaint: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"text": "fine"}}\n{row}\n')
    with pytest.raises(PairsError, match=rf"rows\.jsonl, line 2: .*{complaint}"):
        all_of([file], tiny_model)


def test_a_file_that_cannot_be_read_is_named(
    tiny_model: LanguageModel, write: Write, tmp_path: Path
) -> None:
    whole = write(texts(50), "whole.jsonl.gz").read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.jsonl.gz").write_bytes(whole[:40] + b"\xff" * 40 + whole[80:])
    (tmp_path / "latin.txt").write_bytes("naïve ".encode("latin-1") * 30)
    for name in ("missing.jsonl", "cut.jsonl.gz", "broken.jsonl.gz", "latin.txt"):
        with pytest.raises(PairsError, match=name.replace(".", r"\.")):
            all_of([tmp_path / name], tiny_model)


def test_chats_that_the_template_refuses_are_named(
    tiny_model: LanguageModel, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write([{"messages": CHAT}])
    refusing = "{{ raise_exception('System role not supported') }}"
    monkeypatch.setattr(tiny_model.tokenizer, "chat_template", refusing)
    with pytest.raises(PairsError, match=r"rows\.jsonl, line 1: .*System role not supported"):
        all_of([file], tiny_model)
    monkeypatch.setattr(tiny_model.tokenizer, "chat_template", None)
    with pytest.raises(ModelError, match=r"line 1 is a chat.*no chat template"):
        all_of([file], tiny_model)
