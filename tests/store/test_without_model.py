import subprocess
import sys

from trimtab.store import Store

READ = """
import sys
from trimtab.store import build, open_store
store = open_store(sys.argv[1])
assert store.behaviors() == ["refusal", "tone"]
assert len(store.samples()) == 12
assert not store.sql("FROM activations", max_rows=5).is_empty()
assert not store.contrast("refusal").is_empty()
assert store.verify() == []
print(sorted({"torch", "sae_lens", "transformers"} & set(sys.modules)))
"""


def test_reading_imports_neither_torch_nor_sae_lens(store: Store) -> None:
    result = subprocess.run(
        [sys.executable, "-c", READ, str(store.path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
