import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from trimtab.errors import StoreError
from trimtab.pairs.sample import Sample
from trimtab.store import Store, files, open_store
from trimtab.store.catalog.catalog import CATALOG
from trimtab.store.fingerprint import FORMAT

Pairs = Callable[..., list[Sample]]
Build = Callable[..., Store]

VIEWS = ["samples", "tokens", "activations", "pooled", "residuals", "features", "contrast", "runs"]
ALL_VIEWS = [*VIEWS, "descriptions", "labels"]  # which are empty where the SAE brings none


def test_the_views_are_what_a_person_sees(store: Store) -> None:
    assert sorted(ALL_VIEWS) == store.sql("SHOW TABLES").to_series().to_list()
    for view in VIEWS:
        assert not store.sql(f"FROM {view}", max_rows=3).is_empty()


def test_a_catalog_rebuilt_from_the_shards_is_equal(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(6))
    before = {view: store.sql(f"FROM {view} ORDER BY ALL") for view in VIEWS}
    (store.path / CATALOG).unlink()
    again = open_store(store.path)
    assert again.content_hash == store.content_hash
    for view in VIEWS:
        assert again.sql(f"FROM {view} ORDER BY ALL").equals(before[view]), view


@pytest.mark.parametrize("damage", ["stale", "unreadable"])
def test_a_catalog_that_is_not_of_the_shards_is_rebuilt_on_opening(
    built: Build, make_pairs: Pairs, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = built(make_pairs(3))
    if damage == "unreadable":
        (store.path / CATALOG).write_bytes(b"nothing " * 1000)
    else:
        stale = (store.path / CATALOG).read_bytes()
        store = built(make_pairs(6))
        (store.path / CATALOG).write_bytes(stale)
        assert any("older than the shards" in problem for problem in store.verify())
    with files.building(store.path):
        if damage == "unreadable":
            with pytest.raises(StoreError, match="being built"):
                open_store(store.path)
        else:
            assert open_store(store.path).content_hash != store.content_hash
    assert open_store(store.path).content_hash == store.content_hash
    assert open_store(store.path).verify() == []


def test_a_catalog_of_another_layout_is_built_anew(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = built(make_pairs(3))
    for module in ("catalog.catalog", "reading.views"):
        monkeypatch.setattr(f"trimtab.store.{module}.LAYOUT", 1000)
    assert any("missing or unreadable" in problem for problem in store.verify())
    assert open_store(store.path).sql("SELECT layout FROM data.build").item() == 1000


def test_a_store_of_another_format_is_refused(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(2))
    header = store.path / "store.json"
    text = header.read_text()
    header.write_text(text.replace(f'"store_format": "{FORMAT}"', '"store_format": "1"'))
    with pytest.raises(StoreError, match=r"is a store of format 1.*build it again"):
        open_store(store.path)


def test_a_header_that_lacks_a_field_is_refused(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(2))
    header = store.path / "store.json"
    content = json.loads(header.read_text())
    del content["fingerprint"]["value_dtype"]
    header.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"store\.json is damaged"):
        open_store(store.path)


def test_a_reader_keeps_what_it_opened(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(3))
    more = built(make_pairs(6))
    assert store.sql("SELECT count(*) FROM samples").item() == 3
    assert store.sql("SELECT count(DISTINCT sample_id) FROM activations").item() == 3
    assert more.sql("SELECT count(*) FROM samples").item() == 6
    assert more.sql("SELECT count(DISTINCT sample_id) FROM activations").item() == 6


def test_a_store_can_be_moved(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(3))
    rows = store.sql("FROM activations ORDER BY ALL")
    moved = store.path.rename(store.path.with_name("it's here; now"))
    assert open_store(moved).sql("FROM activations ORDER BY ALL").equals(rows)
    assert open_store(moved).verify() == []


@pytest.mark.parametrize("values", ["float32", "bfloat16"])
def test_pooled_rows_are_those_of_the_dense_activations(
    built: Build,
    make_pairs: Pairs,
    texts: list[Sample],
    values: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trimtab.store.catalog.pooling.ROWS", 97)  # so that features are torn apart
    store = built([*make_pairs(5), *texts], values=values)
    lengths = store.sql(
        "SELECT sample_id, side, count(*) AS n, max(position) AS final FROM tokens GROUP BY ALL"
    )
    rows = store.sql("SELECT sample_id, side, feature, position, value FROM activations")
    expected = (
        rows.join(lengths, on=["sample_id", "side"])
        .sort("position")
        .group_by("sample_id", "side", "feature")
        .agg(
            mean=(pl.col("value").cast(pl.Float64).sum() / pl.col("n").first()).cast(pl.Float32),
            last=pl.col("value").filter(pl.col("position") == pl.col("final")).sum(),
            max=pl.col("value").max(),
            n_active=pl.len().cast(pl.UInt16),
            peak=pl.col("position").gather(pl.col("value").arg_max()).first(),
        )
    )
    stored = store.sql(f"SELECT {', '.join(expected.columns)} FROM pooled")
    order = ["sample_id", "side", "feature"]
    assert_frame_equal(stored.sort(order), expected.sort(order), rel_tol=1e-6)
    assert set(stored["side"]) == {"prompt", "positive", "negative"}
    assert store.verify() == []


def test_what_a_killed_builder_left_of_a_catalog_does_no_harm(
    built: Build, make_pairs: Pairs
) -> None:
    store = built(make_pairs(2))
    (store.path / "catalog.duckdb.tmp").write_bytes(b"half")
    (store.path / "catalog.duckdb.tmp.wal").write_bytes(b"a log of other tables")
    assert built(make_pairs(3)).verify() == []
    assert not list(store.path.glob("*.tmp*"))


def test_samples_come_back_whole(built: Build, make_pairs: Pairs) -> None:
    first, second = make_pairs(2)
    system = {"role": "system", "content": 'Be "terse"; DROP TABLE samples;--'}
    first = replace(
        first,
        id="o'clock",
        messages=(system, *first.messages),
        positive="naïve\n\t\u2028 ☂ \x00 'quoted' $1 ?",
        meta={"nested": {"a": [1, None]}},
    )
    store = built([first, second])
    assert store.samples() == [first, second]
    assert store.samples("refusal") == [first, second]
    assert store.samples("unheard of") == []


def test_behaviors_keep_the_order_of_the_plan(built: Build, make_pairs: Pairs) -> None:
    store = built([*make_pairs(2, "zeal"), *make_pairs(2, "awe")])
    assert store.behaviors() == ["zeal", "awe"]
    assert {sample.behavior for sample in store.samples("awe")} == {"awe"}


def test_features_say_how_often_how_strong_and_on_what(store: Store) -> None:
    feature = store.sql("SELECT feature FROM features ORDER BY n_active DESC LIMIT 1").item()
    row = store.sql("FROM features WHERE feature = ?", [feature]).row(0, named=True)
    rows = store.sql("FROM activations WHERE feature = ?", [feature])
    assert row["n_active"] == rows.height
    assert row["max"] == rows["value"].max()
    assert row["n_samples"] == rows["sample_id"].n_unique()
    total = store.sql("SELECT count(*) FROM tokens WHERE position > 0").item()
    assert row["firing_rate"] == pytest.approx(rows.height / total)
    strongest = rows.group_by("token").agg(pl.col("value").max()).sort("value", descending=True)
    assert row["top_tokens"] == strongest["token"].to_list()[:5]
    assert row["label"] is None
    top = store.top_tokens([feature], 3)
    assert top["token"].to_list() == row["top_tokens"][:3]


@pytest.mark.parametrize("behavior", ["refusal", "tone"])
def test_contrast_statistics_are_those_of_the_dense_matrix(store: Store, behavior: str) -> None:
    sides = {}
    for side in ("positive", "negative"):
        ids = store.sql(
            f"SELECT sample_id FROM samples WHERE behavior = ? AND {side} IS NOT NULL", [behavior]
        )["sample_id"].to_list()
        sides[side] = np.zeros((len(ids), 48))
        rows = store.sql("FROM pooled WHERE behavior = ? AND side = ?", [behavior, side])
        for row in rows.iter_rows(named=True):
            sides[side][ids.index(row["sample_id"]), row["feature"]] = row["mean"]
    pos, neg = sides["positive"], sides["negative"]
    contrast = store.contrast(behavior)
    active = np.flatnonzero((pos != 0).any(axis=0) | (neg != 0).any(axis=0))
    assert sorted(contrast["feature"]) == active.tolist()
    for row in contrast.iter_rows(named=True):
        p, n = pos[:, row["feature"]], neg[:, row["feature"]]
        assert row["mean_pos"] == pytest.approx(p.mean(), abs=1e-9)
        assert row["mean_neg"] == pytest.approx(n.mean(), abs=1e-9)
        spread = np.sqrt((p.var(ddof=1) + n.var(ddof=1)) / 2)
        if spread == 0:
            assert row["cohens_d"] is None
        else:
            assert row["cohens_d"] == pytest.approx((p.mean() - n.mean()) / spread, rel=1e-6)
        truth = [1] * len(p) + [0] * len(n)
        assert row["auc"] == pytest.approx(roc_auc_score(truth, np.concatenate([p, n])))
        assert (row["n_pos"], row["n_neg"]) == (len(p), len(n))
    sizes = contrast["cohens_d"].abs().drop_nulls().to_list()
    assert sizes == sorted(sizes, reverse=True)


def test_top_samples_are_the_strongest_completions(store: Store) -> None:
    feature = int(store.contrast("refusal")["feature"][0])
    top = store.top_samples(feature, 4)
    pooled = store.sql("FROM pooled WHERE feature = ? ORDER BY max DESC LIMIT 4", [feature])
    assert top["max"].to_list() == pooled["max"].to_list()
    for row in top.iter_rows(named=True):
        strongest = store.sql(
            "SELECT token FROM activations WHERE feature = ? AND sample_id = ? AND side = ?"
            " ORDER BY value DESC, position LIMIT 1",
            [feature, row["sample_id"], row["side"]],
        ).item()
        assert row["token"] == strongest


def test_runs_hold_the_fingerprint(store: Store) -> None:
    assert dict(store.sql("SELECT field, value FROM runs").iter_rows()) == store.fingerprint


def test_what_is_no_store_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("empty")
    with pytest.raises(StoreError, match=r"not a store.*store\.json"):
        open_store(path)
    (path / "store.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        open_store(path)
