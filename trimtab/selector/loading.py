"""The model and the SAE that a store was built with, loaded to measure effects, and checked."""

from collections.abc import Mapping

from trimtab.errors import SelectionError
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE, load_sae
from trimtab.store import Store
from trimtab.store.origin import load_model_of

SAME_TEXTS = ("model_revision", "tokenizer_sha256", "chat_template_sha256")
SAME_NUMBERS = ("model_config_sha256", "sae_sha256", "sae_config_sha256", "sae_hook_point")


def load_for(
    store: Store,
    model: LanguageModel | None = None,
    sae: SAE | None = None,
    *,
    device: str = "auto",
) -> tuple[LanguageModel, SAE | None]:
    """Return the store's model in float32, and its SAE if it has one.

    Args:
        store: names both.
        model: one that is loaded already; None loads the one that the store names.
        sae: the same of the SAE.
        device: where a model that is not given is loaded.

    Raises:
        ModelError: one of them cannot be loaded.
        SelectionError: the model is not in float32, or one of them is not the store's.
    """
    if model is None:
        model = load_model_of(store.fingerprint, dtype="float32", device=device)
    if sae is None:
        sae = load_sae(store.fingerprint["sae"], model)
    check_same(store, model, sae)
    return model, sae


def check_same(store: Store, model: LanguageModel, sae: SAE | None) -> None:
    """Refuse a model or SAE that is not the store's; the dtype may differ: scores are float32."""
    if model.fingerprint()["model_dtype"] != "float32":
        raise SelectionError("effects are compared in float32; load the model with dtype='float32'")
    now: Mapping[str, str] = {**model.fingerprint(), **({} if sae is None else sae.fingerprint())}
    names = list(SAME_TEXTS + SAME_NUMBERS)
    if store.fingerprint["model_dtype"] == now["model_dtype"]:
        names.append("model_sha256")
    differing = [n for n in names if store.fingerprint.get(n, "") != now.get(n, "")]
    if differing:
        raise SelectionError(
            f"{store.path} was built with another model or SAE: {', '.join(differing)} differ. "
            f"It names model {store.fingerprint['model']} and SAE {store.fingerprint['sae']}; "
            "use those, or build a new store"
        )
