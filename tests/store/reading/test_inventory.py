from collections.abc import Callable
from pathlib import Path

from trimtab.model.language_model import LanguageModel
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build
from trimtab.store.fingerprint import digest
from trimtab.store.reading.inventory import inventory


def test_a_store_is_counted_as_it_lies_on_the_disk(store: Store) -> None:
    found = inventory(store)
    assert found["n_samples"] == 12
    assert found["n_tokens"] == store.sql("SELECT count(*) FROM tokens").item()
    assert found["nnz"] == store.sql("SELECT count(*) FROM activations").item()
    assert found["shards"] == len(list((store.path / "shards").glob("*.json")))
    files = [file for file in store.path.rglob("*") if file.is_file()]
    assert found["bytes"] == sum(file.stat().st_size for file in files)
    parts = found["bytes_by_part"]
    assert sum(parts.values()) == found["bytes"]
    assert {"activations", "tokens", "residuals", "samples", "catalog", "plan"} <= parts.keys()
    assert found["bytes_per_nnz"] == (parts["activations"] + parts["tokens"]) / found["nnz"]
    assert found["fingerprint_id"] == digest(store.fingerprint)


def test_without_an_sae_there_is_nothing_to_divide_by(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Callable[..., list[Sample]]
) -> None:
    dense = build(tmp_path / "dense", make_pairs(2), tiny_model, None, progress=False)
    assert inventory(dense)["bytes_per_nnz"] is None
    assert inventory(dense)["nnz"] == 0
