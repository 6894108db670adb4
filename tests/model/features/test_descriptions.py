"""The table of descriptions is read whole or refused, and labels are replaced one by one."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import (
    FILE,
    SCHEMA,
    descriptions_file,
    read_descriptions,
    relabel,
    visible,
    write_descriptions,
)

Make = Callable[..., pl.DataFrame]
Spoil = Callable[[pl.DataFrame], pl.DataFrame]


def test_what_is_written_is_read_again(tmp_path: Path, descriptions: Make) -> None:
    table = descriptions(6, "\u202e\x00\n'")
    write_descriptions(table.reverse(), tmp_path / FILE)
    assert read_descriptions(tmp_path / FILE).equals(table)
    assert read_descriptions(tmp_path / FILE, 6).schema == SCHEMA


def test_columns_that_are_not_known_are_left_alone(tmp_path: Path, descriptions: Make) -> None:
    descriptions(2).with_columns(other=pl.lit(1)).write_parquet(tmp_path / FILE)
    assert read_descriptions(tmp_path / FILE).columns == SCHEMA.names()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda t: t.drop("promotes"), "lacks the column 'promotes'"),
        (lambda t: t.head(4), "describes 4 features and the SAE has 5"),
        (lambda t: t.with_columns(feature=pl.lit(2)), "not have one row for every feature"),
        (lambda t: t.with_columns(label=pl.lit(None)), "a feature has no label"),
        (lambda t: t.with_columns(contexts=pl.lit("text")), "a column of the wrong type"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path,
    descriptions: Make,
    spoil: Callable[[pl.DataFrame], pl.DataFrame],
    complaint: str,
) -> None:
    file = tmp_path / FILE
    spoil(descriptions(5)).write_parquet(file)
    with pytest.raises(ModelError, match=rf"{re.escape(str(file))}.*{complaint}"):
        read_descriptions(file, 5)


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"PAR1 and nonsense")
    with pytest.raises(ModelError, match=r"features\.parquet cannot be read"):
        read_descriptions(tmp_path / FILE)


def test_descriptions_lie_beside_an_saes_weights(tmp_path: Path, descriptions: Make) -> None:
    assert descriptions_file(str(tmp_path)) is None
    assert descriptions_file("gemma-scope-2b-pt-res/layer_12/width_16k/canonical") is None
    write_descriptions(descriptions(2), tmp_path / FILE)
    assert descriptions_file(str(tmp_path)) == tmp_path / FILE
    assert descriptions_file(None) == descriptions_file("default")


@pytest.mark.parametrize("as_table", [True, False])
def test_labels_are_replaced_where_there_are_others(descriptions: Make, as_table: bool) -> None:
    new: Mapping[int, str] = {4: "apologies", 0: "  ", 1: "weather"}
    labels = pl.DataFrame({"feature": list(new), "label": list(new.values()), "score": 1})
    table = relabel(descriptions(5), labels if as_table else new, "neuronpedia")
    old = descriptions(5)
    assert table["label"].to_list() == [
        *old["label"][:1], "weather", *old["label"][2:4], "apologies",
    ]  # fmt: skip
    assert table["label_source"].to_list() == [
        "automatic", "neuronpedia", "automatic", "automatic", "neuronpedia",
    ]  # fmt: skip
    rest = old.drop("label", "label_source")
    assert table.drop("label", "label_source").equals(rest)
    assert table.schema == SCHEMA
    again = relabel(table, {1: "rain"}, "mine")
    assert again.row(1)[1:3] == ("rain", "mine")


def test_labels_of_what_is_not_there_are_refused(descriptions: Make) -> None:
    with pytest.raises(ModelError, match="labels of mine: there is no feature 5"):
        relabel(descriptions(5), {5: "beyond"}, "mine")
    with pytest.raises(ModelError, match="there is no feature -1"):
        relabel(descriptions(5), {-1: "before"}, "mine")
    twice = pl.DataFrame({"feature": [1, 1], "label": ["a", "b"]})
    with pytest.raises(ModelError, match="feature 1 has two labels"):
        relabel(descriptions(5), twice, "mine")
    assert relabel(descriptions(5), {}, "mine").equals(descriptions(5))


@given(st.text())
def test_what_is_shown_cannot_command_a_terminal_or_hide(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert visible(shown) == shown


def test_spaces_stay_and_breaks_are_seen() -> None:
    assert visible(" a\n\tb\x1b[31m\u202e") == " a⏎⇥b�[31m�"


def test_reading_needs_no_torch(tmp_path: Path, descriptions: Make) -> None:
    write_descriptions(descriptions(3), tmp_path / FILE)
    code = (
        "import sys; from pathlib import Path;"
        "from trimtab.model.features.descriptions import read_descriptions, relabel;"
        "from trimtab.model.features.card import feature_card;"
        "from trimtab.model.features.labels import automatic_label;"
        "relabel(read_descriptions(Path(sys.argv[1]), 3), {1: 'x'}, 'y');"
        "print(sorted({'torch', 'transformers', 'sae_lens'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / FILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
