from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from trimtab.errors import ModelError
from trimtab.model.language_model import LanguageModel, load_model

if TYPE_CHECKING:
    from .conftest import FakeHub

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def uploaded(hub: "FakeHub", tiny_model: LanguageModel, tmp_path: Path) -> "FakeHub":
    folder = tmp_path / "upload"
    tiny_model.module.save_pretrained(folder)
    tiny_model.tokenizer.save_pretrained(folder)
    hub.upload("someone/tiny", folder)
    return hub


def test_a_model_of_the_hub_is_loaded_with_the_commit_it_came_from(
    uploaded: "FakeHub", tiny_model: LanguageModel
) -> None:
    model = load_model("someone/tiny", dtype="float32", device="cpu")
    assert torch.equal(model.module(input_ids=IDS).logits, tiny_model.module(input_ids=IDS).logits)
    assert model.fingerprint()["model"] == "someone/tiny"
    assert model.fingerprint()["model_revision"] == "0123456789abcdef0123456789abcdef01234567"


def test_a_model_that_was_loaded_once_is_loaded_again_while_the_hub_is_away(
    uploaded: "FakeHub",
) -> None:
    first = load_model("someone/tiny", dtype="float32", device="cpu").fingerprint()
    uploaded.down = True
    assert load_model("someone/tiny", dtype="float32", device="cpu").fingerprint() == first


def test_a_hub_out_of_reach_is_said_so_with_the_way_out(uploaded: "FakeHub") -> None:
    uploaded.down = True
    with pytest.raises(ModelError, match=r"someone/tiny.*cannot be reached.*give the path"):
        load_model("someone/tiny")


def test_a_name_that_the_hub_does_not_know_is_said_so(hub: "FakeHub") -> None:
    with pytest.raises(ModelError, match=r"someone/tinny.*no such name on the hub.*spelling"):
        load_model("someone/tinny")


def test_a_gated_model_is_answered_with_how_to_get_in(uploaded: "FakeHub") -> None:
    uploaded.gated.add("someone/tiny")
    with pytest.raises(ModelError, match=r"gated.*hf auth login"):
        load_model("someone/tiny")


def test_a_revision_that_does_not_exist_is_said_so(uploaded: "FakeHub") -> None:
    with pytest.raises(ModelError, match="no such revision"):
        load_model("someone/tiny", revision="v9")


def test_an_unsupported_architecture_costs_no_download_of_weights(uploaded: "FakeHub") -> None:
    files = uploaded.repos["someone/tiny"]
    files["config.json"] = files["config.json"].replace(b'"llama"', b'"phi"')
    with pytest.raises(ModelError, match=r"'phi'.*not supported"):
        load_model("someone/tiny")
    assert uploaded.served == ["config.json"]


def test_a_repository_without_safetensors_is_refused(uploaded: "FakeHub") -> None:
    files = uploaded.repos["someone/tiny"]
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    with pytest.raises(ModelError, match="safetensors"):
        load_model("someone/tiny")
    assert "pytorch_model.bin" not in uploaded.served
