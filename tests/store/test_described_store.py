"""A store keeps its SAE's descriptions; they show wherever a feature does and change no number."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import FILE, relabel, write_descriptions
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build, open_store, set_descriptions
from trimtab.store.catalog.catalog import CATALOG, DESCRIPTIONS

Make = Callable[..., pl.DataFrame]
Pairs = Callable[..., list[Sample]]
WITH_A_FEATURE = ("features", "contrast", "activations", "pooled")


@pytest.fixture
def sae(tiny_sae: SAE, tmp_path: Path) -> SAE:
    """The tiny SAE as if it had been loaded from a folder, which has no descriptions yet."""
    (tmp_path / "sae").mkdir()
    return replace(tiny_sae, spec=str(tmp_path / "sae"))


@pytest.fixture
def make(
    tmp_path: Path, tiny_model: LanguageModel, sae: SAE, make_pairs: Pairs
) -> Callable[..., Store]:
    """Build a store of the first n pairs with that SAE."""

    def make(name: str = "store", n: int = 3) -> Store:
        return build(tmp_path / name, make_pairs(n), tiny_model, sae, progress=False)

    return make


def test_every_view_with_a_feature_shows_its_label(
    make: Callable[..., Store], sae: SAE, descriptions: Make
) -> None:
    write_descriptions(descriptions(sae.d_sae), Path(sae.spec) / FILE)
    store = make()
    for view in WITH_A_FEATURE:
        rows = store.sql(f"SELECT DISTINCT feature, label FROM {view}")
        assert rows.height
        assert all(label == f"label {f} of word" for f, label in rows.iter_rows()), view
    assert set(store.sql("FROM features")["label_source"]) == {"automatic"}
    top = store.contrast("refusal").row(0, named=True)
    assert top["label"] == f"label {top['feature']} of word"


def test_tokens_promotions_and_contexts_can_be_queried(
    make: Callable[..., Store], sae: SAE, descriptions: Make
) -> None:
    table = descriptions(sae.d_sae)
    write_descriptions(table, Path(sae.spec) / FILE)
    store = make()
    assert store.descriptions().equals(table)
    assert store.descriptions([5, 3]).equals(table[[3, 5]])
    found = store.sql("SELECT feature FROM descriptions WHERE list_contains(promotes, ' up7')")
    assert found["feature"].to_list() == [7]
    context = store.sql("SELECT unnest(contexts, recursive := true) FROM descriptions LIMIT 1")
    assert context.row(0, named=True)["token"] == " word"
    share = store.sql("SELECT tokens[1].share AS share FROM descriptions WHERE feature = 0")
    assert share.item() == 0.75


def test_a_store_without_descriptions_is_whole(make: Callable[..., Store]) -> None:
    store = make()
    assert store.descriptions().is_empty()
    assert store.descriptions([1, 2]).is_empty()
    for view in WITH_A_FEATURE:
        assert store.sql(f"SELECT label FROM {view}")["label"].null_count() > 0
    assert store.verify() == []
    assert not (store.path / DESCRIPTIONS).exists()


def test_descriptions_change_neither_fingerprint_nor_content(
    make: Callable[..., Store], sae: SAE, descriptions: Make
) -> None:
    without = make("without")
    write_descriptions(descriptions(sae.d_sae), Path(sae.spec) / FILE)
    store = make("with")
    assert store.fingerprint == without.fingerprint
    assert store.content_hash == without.content_hash
    assert store.verify() == []
    contrast = store.contrast("refusal").drop("label")
    assert contrast.equals(without.contrast("refusal").drop("label"))


def test_the_catalog_comes_back_from_the_folder_alone(
    make: Callable[..., Store], sae: SAE, descriptions: Make
) -> None:
    file = Path(sae.spec) / FILE
    write_descriptions(descriptions(sae.d_sae), file)
    store = make()
    before = {view: store.sql(f"FROM {view} ORDER BY ALL") for view in WITH_A_FEATURE}
    file.unlink()
    (store.path / CATALOG).unlink()
    again = open_store(store.path)
    assert again.descriptions().equals(descriptions(sae.d_sae))
    for view, rows in before.items():
        assert again.sql(f"FROM {view} ORDER BY ALL").equals(rows)


def test_labels_are_added_and_replaced_without_running_anything(
    make: Callable[..., Store], sae: SAE, descriptions: Make
) -> None:
    store = make()
    shards = {file: file.stat().st_mtime_ns for file in (store.path / "shards").iterdir()}
    table = descriptions(sae.d_sae)
    added = set_descriptions(store.path, table)
    feature = int(added.sql("SELECT feature FROM features LIMIT 1").item())
    hostile = "'; DROP TABLE data.features; -- \x00\n☂"
    replaced = set_descriptions(store.path, relabel(table, {feature: hostile}, "mine"))
    row = replaced.sql("FROM features WHERE feature = ?", [feature]).row(0, named=True)
    assert (row["label"], row["label_source"]) == (hostile, "mine")
    assert set(replaced.sql("FROM features")["label_source"]) == {"mine", "automatic"}
    assert replaced.content_hash == store.content_hash
    assert replaced.fingerprint == store.fingerprint
    assert shards == {file: file.stat().st_mtime_ns for file in (store.path / "shards").iterdir()}


def test_a_second_build_keeps_labels_that_were_put_in_by_hand(
    make: Callable[..., Store], sae: SAE, descriptions: Make
) -> None:
    table = descriptions(sae.d_sae)
    write_descriptions(table, Path(sae.spec) / FILE)
    store = make()
    set_descriptions(store.path, relabel(table, {0: "by hand"}, "mine"))
    assert make(n=5).descriptions([0])["label"].item() == "by hand"


def test_descriptions_that_came_later_are_taken_by_the_next_build(
    make: Callable[..., Store], sae: SAE, descriptions: Make
) -> None:
    assert make().descriptions().is_empty()
    write_descriptions(descriptions(sae.d_sae), Path(sae.spec) / FILE)
    assert make().descriptions().height == sae.d_sae


def test_descriptions_of_another_sae_are_refused_before_anything_runs(
    make: Callable[..., Store], sae: SAE, descriptions: Make, tmp_path: Path
) -> None:
    write_descriptions(descriptions(sae.d_sae + 1), Path(sae.spec) / FILE)
    with pytest.raises(ModelError, match="describes 49 features and the SAE has 48"):
        make()
    assert not (tmp_path / "store").exists()
    (Path(sae.spec) / FILE).unlink()
    store = make()
    with pytest.raises(ModelError, match="describes 7 features and the SAE has 48"):
        set_descriptions(store.path, descriptions(7))
    assert open_store(store.path).descriptions().is_empty()


def test_a_folder_in_which_nothing_was_run_takes_no_descriptions_of_another_sae(
    make: Callable[..., Store],
    sae: SAE,
    tiny_model: LanguageModel,
    make_pairs: Pairs,
    descriptions: Make,
) -> None:
    write_descriptions(descriptions(sae.d_sae), Path(sae.spec) / FILE)
    path = make().path
    shutil.rmtree(path / "shards")
    other = replace(sae, spec="another")
    store = build(path, make_pairs(3), tiny_model, other, progress=False)
    assert store.descriptions().is_empty()


def test_a_damaged_copy_is_named_and_can_be_removed(
    make: Callable[..., Store], sae: SAE, descriptions: Make
) -> None:
    store = make()
    set_descriptions(store.path, descriptions(sae.d_sae))
    (store.path / DESCRIPTIONS).write_bytes(b"PAR1 and nonsense")
    with pytest.raises(ModelError, match=r"descriptions\.parquet cannot be read.*or remove it"):
        open_store(store.path)
    (found,) = store.verify()
    assert "descriptions.parquet cannot be read" in found
    (store.path / DESCRIPTIONS).unlink()
    assert open_store(store.path).descriptions().is_empty()


def test_a_copy_with_any_flipped_bit_is_refused_by_name_or_read(
    make: Callable[..., Store], sae: SAE, descriptions: Make
) -> None:
    store = make()
    set_descriptions(store.path, descriptions(sae.d_sae))
    file = store.path / DESCRIPTIONS
    sound = file.read_bytes()
    refused = 0
    for at in range(5, len(sound), len(sound) // 40):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        try:
            assert open_store(store.path).descriptions().height == sae.d_sae
        except ModelError as error:
            assert str(file) in str(error)  # noqa: PT017 - some flips are harmless
            refused += 1
    assert refused > 5


def test_a_store_without_sae_has_no_features_to_describe(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs, descriptions: Make
) -> None:
    store = build(tmp_path / "dense", make_pairs(2), tiny_model, None, progress=False)
    assert store.descriptions().is_empty()
    with pytest.raises(ModelError, match="the SAE has 0"):
        set_descriptions(store.path, descriptions(3))
