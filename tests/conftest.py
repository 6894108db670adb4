"""Models and SAEs that the tests share; all but the default ones are tiny, random and made here."""

import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from trimtab.errors import ModelError
from trimtab.model.default import default_model_file
from trimtab.model.features.descriptions import SCHEMA
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.sae import SAE, load_sae

SHARED = Path(__file__).parents[2] / "shared"

torch.set_num_threads(1)  # results must not depend on the machine's number of cores

D_MODEL, N_LAYERS = 16, 4

_TEXT = (
    "I think that you should not do this, and I would rather tell you why. Yes, of course: here is "
    "what I would say. No, I cannot help with that; sorry. The quick brown fox jumps over the lazy "
    "dog. What is the answer to the question? The answer is (A) or (B). Agree or disagree? "
) * 3
_CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """A small byte-level BPE tokenizer with a ChatML template, trained here in milliseconds."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([_TEXT], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    fast.chat_template = _CHATML
    return fast


_TOKENS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
_GQA: dict[str, Any] = {
    **_TOKENS,
    "hidden_size": D_MODEL,
    "intermediate_size": 32,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "initializer_range": 0.3,  # large enough for every block to matter
}
_NEOX: dict[str, Any] = {
    **_TOKENS,
    "hidden_size": D_MODEL,
    "intermediate_size": 32,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}
_GEMMA: dict[str, Any] = {**_GQA, "sliding_window": 8, "query_pre_attn_scalar": 8}

FAMILIES: dict[str, Callable[[int], PreTrainedConfig]] = {
    "llama": lambda vocab: LlamaConfig(vocab_size=vocab, **_GQA),
    "mistral": lambda vocab: MistralConfig(vocab_size=vocab, sliding_window=8, **_GQA),
    "qwen2": lambda vocab: Qwen2Config(vocab_size=vocab, **_GQA),
    "qwen3": lambda vocab: Qwen3Config(vocab_size=vocab, **_GQA),
    "gemma2": lambda vocab: Gemma2Config(vocab_size=vocab, **_GEMMA),
    "gemma3_text": lambda vocab: Gemma3TextConfig(vocab_size=vocab, **_GEMMA),
    "gemma3": lambda vocab: Gemma3Config(
        text_config={"vocab_size": vocab, **_GEMMA},
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
    ),
    "gpt2": lambda vocab: GPT2Config(
        vocab_size=vocab,
        n_embd=D_MODEL,
        n_layer=N_LAYERS,
        n_head=2,
        initializer_range=0.3,
        **_TOKENS,
    ),
    "gpt_neox": lambda vocab: GPTNeoXConfig(vocab_size=vocab, use_parallel_residual=True, **_NEOX),
    "gpt_neox_sequential": lambda vocab: GPTNeoXConfig(
        vocab_size=vocab, use_parallel_residual=False, **_NEOX
    ),
}


def build_model(family: str, tokenizer: PreTrainedTokenizerBase) -> LanguageModel:
    """A tiny random model of `family` in float32."""
    config = FAMILIES[family](len(tokenizer))
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return LanguageModel(f"tiny-{family}", module.eval().requires_grad_(False), tokenizer)


@pytest.fixture(scope="session")
def tiny_model(tokenizer: PreTrainedTokenizerBase) -> LanguageModel:
    """A tiny random Llama: d_model 16, 4 layers."""
    return build_model("llama", tokenizer)


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def family_model(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase
) -> LanguageModel:
    """A tiny random model of every family in turn: d_model 16, 4 layers."""
    return build_model(request.param, tokenizer)


class TinyJumpReLU(nn.Module):
    """An SAE of the shape that `trimtab.model.sae.SAE` wraps, with no need to import sae_lens."""

    def __init__(self, d_in: int, d_sae: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        w_dec = torch.randn(d_sae, d_in, generator=generator) / d_in**0.5
        self.W_dec = nn.Parameter(w_dec)
        self.W_enc = nn.Parameter(w_dec.T.contiguous())
        self.b_enc = nn.Parameter(torch.randn(d_sae, generator=generator) * 0.1)
        self.b_dec = nn.Parameter(torch.randn(d_in, generator=generator) * 0.1)
        self.threshold = nn.Parameter(torch.full((d_sae,), 0.5))

    def encode(self, x: Tensor) -> Tensor:
        pre = (x - self.b_dec) @ self.W_enc + self.b_enc
        return pre * (pre > self.threshold)


@pytest.fixture(scope="session")
def tiny_sae(tiny_model: LanguageModel) -> SAE:
    """A random SAE of 48 features after layer 1 of `tiny_model`."""
    module = TinyJumpReLU(tiny_model.d_model, 48).requires_grad_(False)
    return SAE("tiny", HookPoint(1, "hook_resid_post"), module)


@pytest.fixture(scope="session")
def descriptions() -> Callable[..., pl.DataFrame]:
    """Make descriptions of n features, as `describe` would; feature 3 has never fired."""

    def make(n: int, text: str = " word") -> pl.DataFrame:
        fired = [feature != 3 for feature in range(n)]
        shares = [{"token": text, "share": 0.75}, {"token": "\n", "share": 0.25}]
        context = {"before": "so ", "token": text, "after": " it", "value": 2.0, "source": "book"}
        return pl.DataFrame(
            {
                "feature": range(n),
                "label": [f"label {feature} of{text}" for feature in range(n)],
                "label_source": "automatic",
                "firing_rate": [0.02 * one for one in fired],
                "max": [2.0 * one for one in fired],
                "mean_active": [1.5 * one for one in fired],
                "tokens": [shares * one for one in fired],
                "preceded_by": [shares[:1] * one for one in fired],
                "followed_by": [[]] * n,
                "parts": [[{"part": "digits", "share": 0.5}] * one for one in fired],
                "promotes": [[f" up{feature}", text] for feature in range(n)],
                "suppresses": [[f" down{feature}", text] for feature in range(n)],
                "contexts": [[context] * one for one in fired],
            },
            schema=SCHEMA,
        )

    return make


class StubEndpoint:
    """An OpenAI-compatible endpoint on this machine that tests tell what to answer.

    Attributes:
        answer: makes an answer of a prompt, or a status and the body of an error. By default it
            says yes to replies that are sorry.
        embedding: makes the numbers of a text.
        asked: the bodies of all requests.
        keys: what each request was authorised by.
    """

    def __init__(self) -> None:
        self.answer: Callable[[str], str | tuple[int, dict[str, Any]]] = lambda prompt: (
            "Yes." if "Sorry" in self.reply(prompt) else "No."
        )
        self.embedding: Callable[[str], list[float]] = lambda text: [1.0, float(len(text))]
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                self._respond(handler)

            def log_message(handler, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    @staticmethod
    def reply(prompt: str) -> str:
        """The reply that a prompt asks about."""
        found = re.search(r"begin the reply to judge\n(.*)\n\w+ end the reply", prompt, re.S)
        return found[1] if found else ""

    def _respond(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.asked.append(body)
        self.keys.append(request.headers["Authorization"])
        said: Any = (404, {"message": "no such page"})
        if request.path == "/v1/chat/completions":
            said = self.answer(body["messages"][-1]["content"])
        elif request.path == "/v1/embeddings":
            said = [self.embedding(text) for text in body["input"]]
        status, content = said if isinstance(said, tuple) else (200, None)
        if status != 200:
            found: dict[str, Any] = {"error": content}
        elif request.path == "/v1/embeddings":
            rows = [{"object": "embedding", "index": i, "embedding": e} for i, e in enumerate(said)]
            found = {"object": "list", "model": body["model"], "data": rows[::-1]}
        else:
            message = {"role": "assistant", "content": said}
            found = {
                "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            }  # fmt: skip
        answer = json.dumps(found).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)


@pytest.fixture
def stub_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubEndpoint]:
    """A judge's endpoint that is asked without retries, and no key in the environment."""
    monkeypatch.setattr("trimtab.model.endpoint.RETRIES", 0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    stub = StubEndpoint()
    thread = Thread(target=stub.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stub
    stub.server.shutdown()
    thread.join()
    stub.server.server_close()


@pytest.fixture(scope="session")
def default_model() -> LanguageModel:
    """The embedded default model in float32 on the CPU; half a minute to load, so ask sparingly."""
    try:
        default_model_file()
    except ModelError as error:
        pytest.skip(str(error))
    return load_model(dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def default_sae(default_model: LanguageModel) -> SAE:
    """The packaged SAE."""
    sae = load_sae("default", default_model)
    assert sae is not None
    return sae


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data that some checkouts have beside them."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data here")
    return folder
