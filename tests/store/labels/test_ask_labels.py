"""Labels that a language model gives stand in a store, and an interrupted call goes on."""

from typing import Any

import pytest

from trimtab.errors import EndpointError, ModelError
from trimtab.model.endpoint import Endpoint
from trimtab.store import Store
from trimtab.store.labels import label_features


def test_a_stores_features_get_the_models_labels_and_its_name(
    described: Store, stub_endpoint: Any
) -> None:
    stub_endpoint.answer = lambda _: "a name"
    endpoint = Endpoint("stub", stub_endpoint.url, role="label")
    assert label_features(described.path, endpoint, [2, 7]) == 2
    rows = described.sql("SELECT feature, label, label_source FROM features WHERE label = 'a name'")
    assert rows["feature"].to_list() == [2, 7]
    assert rows["label_source"].unique().to_list() == [f"stub at {endpoint.host}"]


def test_what_was_labelled_before_a_failure_is_kept_and_not_asked_again(
    described: Store, stub_endpoint: Any
) -> None:
    def fails_late(_: str) -> Any:
        late = len(stub_endpoint.asked) > 40
        return (400, {"message": "enough for today"}) if late else "a name"

    stub_endpoint.answer = fails_late
    endpoint = Endpoint("stub", stub_endpoint.url, role="label")
    with pytest.raises(EndpointError, match="enough for today"):
        label_features(described.path, endpoint)
    kept = described.sql("SELECT count(*) FROM features WHERE label = 'a name'").item()
    assert kept == 40
    stub_endpoint.asked.clear()
    stub_endpoint.answer = lambda _: "another"
    assert label_features(described.path, endpoint) == 7
    assert len(stub_endpoint.asked) == 7


def test_a_feature_that_does_not_exist_is_refused_before_anything_is_asked(
    described: Store, stub_endpoint: Any
) -> None:
    endpoint = Endpoint("stub", stub_endpoint.url, role="label")
    with pytest.raises(ModelError, match="no feature 999"):
        label_features(described.path, endpoint, [3, 999])
    assert not stub_endpoint.asked


def test_an_url_that_is_none_is_refused_by_its_own_option() -> None:
    with pytest.raises(EndpointError, match="--label-url"):
        Endpoint("stub", "localhost", role="label")


def test_a_store_without_descriptions_says_what_writes_them(
    bare: Store, stub_endpoint: Any
) -> None:
    endpoint = Endpoint("stub", stub_endpoint.url, role="label")
    with pytest.raises(ModelError, match="trimtab describe"):
        label_features(bare.path, endpoint)
