"""A model that other processes can load."""

import pytest

from trimtab.model.language_model import LanguageModel, load_model


@pytest.fixture(scope="session")
def saved_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel
) -> LanguageModel:
    """A model that other processes can load by its name, a folder."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model.module.save_pretrained(folder)
    tiny_model.tokenizer.save_pretrained(folder)
    return load_model(str(folder), dtype="float32", device="cpu")
