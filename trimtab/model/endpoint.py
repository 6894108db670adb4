"""Asking a language model behind an OpenAI-compatible endpoint, many questions at a time.

The key is read from the environment and goes nowhere but into requests.
"""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import EndpointError
from trimtab.model.features.descriptions import visible

KEY = "OPENAI_API_KEY"
AT_ONCE = 8  # requests under way
EMBEDDED_AT_ONCE = 256  # texts of a request
RETRIES = 4  # of a request that timed out, was throttled or found a server at fault
SECONDS = 120.0  # for one answer
OPTIONS = {"temperature": 0, "max_tokens": 1024}  # room for a model that thinks before it answers
GOES_ON = "Its answers so far are kept; run the same command again to continue"
FILTERED = "(the endpoint's filter gave no answer)"
MOST_SAID = 300  # letters of an endpoint's own words in an error
_FEW = r"[^.\n]{{0,40}}?"
REFUSALS = (
    r"\b(?:unsupported|unrecogni[sz]ed|unknown|unexpected|extra|invalid)\b" + _FEW + r"\b{}\b",
    r"\b{}\b" + _FEW + r"\b(?:not (?:supported?|permitted|allowed)|unsupported|deprecated)\b",
    r"\b{}\W{{1,3}}extra inputs",
)
"""What refusals of an option look like where the error names no parameter."""

Remember = Callable[[tuple[Any, ...], Callable[[], Any]], Any]
"""Returns what a key was measured as before, or measures it and keeps it; see `Journal.once`."""


@dataclass(frozen=True)
class Endpoint:
    """Where a language model that is asked something is found.

    Attributes:
        model: its name there.
        url: what comes before `/chat/completions`, such as `http://localhost:8000/v1`.
        role: what it is asked as; options of the command line are called `--ROLE-url` and so on.

    Raises:
        EndpointError: the URL is none, or holds what belongs into the key's variable.
    """

    model: str
    url: str
    role: str = "judge"

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            whole = False
        if not whole:
            secret = "@" in self.url or "?" in self.url  # a key may be in it
            shown = "(which is not repeated here)" if secret else repr(self.url)
            raise EndpointError(
                f"--{self.role}-url {shown} is not a URL such as http://localhost:8000/v1"
            )
        if parts.username is not None or parts.query:  # URLs are stored and shown, keys are not
            raise EndpointError(
                f"--{self.role}-url must not contain a user, password or query: put the key in "
                f"{KEY}"
            )

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc


class Connection:
    """Asks a model questions and remembers the answers.

    Args:
        endpoint: where the model is.
        remember: keeps question and answer under a key, so that neither is asked nor paid twice;
            None keeps nothing.

    Raises:
        EndpointError: the library that asks is not installed, or the key is none.
    """

    def __init__(self, endpoint: Endpoint, remember: Remember | None = None) -> None:
        try:
            import openai
        except ImportError:
            raise EndpointError(
                "an endpoint needs the openai library: pip install 'trimtab[endpoint]'"
            ) from None
        self.endpoint = endpoint
        self._remember = remember or (lambda _, measure: measure())
        self._goes_on = remember is not None
        self._key = _key()
        self._options: dict[str, Any] = dict(OPTIONS)
        self._client: Any = openai.OpenAI(
            api_key=self._key or "none",  # the library wants one; a local server does not
            base_url=endpoint.url,
            max_retries=RETRIES,
            timeout=SECONDS,
        )

    def ask(self, prompts: Sequence[str]) -> list[str]:
        """Return the answer to every prompt; the same prompt is asked once.

        Raises:
            EndpointError: the endpoint cannot be reached or refuses.
        """
        different = list(dict.fromkeys(prompts))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = dict(zip(different, pool.map(self._once, different), strict=True))
        return [answers[prompt] for prompt in prompts]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return an embedding of unit length of every text, `(n, width)`.

        Raises:
            EndpointError: the endpoint cannot be reached, refuses, or leaves some out.
        """
        import openai

        rows: list[list[float]] = []
        for start in range(0, len(texts), EMBEDDED_AT_ONCE):
            some = list(texts[start : start + EMBEDDED_AT_ONCE])
            try:
                found = self._client.embeddings.create(model=self.endpoint.model, input=some)
            except openai.OpenAIError as error:
                raise self._explained(error) from error
            data = getattr(found, "data", None) or []
            if len(data) != len(some):
                raise EndpointError(
                    f"{self.endpoint.url} answers, but not with one embedding per text: {self._way}"
                )
            rows += [one.embedding for one in sorted(data, key=lambda one: one.index)]
        found_rows: NDArray[np.float64] = np.array(rows, dtype=np.float64)
        lengths = np.linalg.norm(found_rows, axis=1, keepdims=True)
        units: NDArray[np.float64] = found_rows / np.maximum(lengths, 1e-12)
        return units

    def _once(self, prompt: str) -> str:
        def measure() -> dict[str, str]:
            return {"prompt": prompt, "answer": self._complete(prompt)}

        key = (self.endpoint.role, self.endpoint.url, self.endpoint.model, prompt)
        answer: str = self._remember(key, measure)["answer"]
        return answer

    def _complete(self, prompt: str) -> str:
        import openai

        options = self._options
        try:
            completion = self._client.chat.completions.create(
                model=self.endpoint.model,
                messages=[{"role": "user", "content": prompt}],
                **options,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            refused = {option for option in options if _refuses(error, option)}
            if refused:  # reasoning models take neither a temperature nor this name of the limit
                self._options = {k: v for k, v in self._options.items() if k not in refused}
                return self._complete(prompt)
            if error.code == "content_filter":
                return FILTERED
            raise self._explained(error) from error
        except openai.OpenAIError as error:
            raise self._explained(error) from error
        choices = getattr(completion, "choices", None)
        if not choices:
            raise EndpointError(
                f"{self.endpoint.url} answers, but not as a chat endpoint: {self._way}"
            )
        return choices[0].message.content or ""

    @property
    def _way(self) -> str:
        option = f"--{self.endpoint.role}-url"
        return (
            f"check {option}: the part before /chat/completions or /embeddings, often ending in /v1"
        )

    def _explained(self, error: Exception) -> EndpointError:
        import openai

        url, model, role = self.endpoint.url, self.endpoint.model, self.endpoint.role
        if isinstance(error, openai.APIConnectionError):
            why = self._said(error.__cause__ or error)
            return EndpointError(f"the endpoint {url} cannot be reached ({why}): {self._way}")
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            key = f"does not accept the key in {KEY}" if self._key else f"needs a key: set {KEY}"
            return EndpointError(f"the endpoint {url} {key}")
        if isinstance(error, openai.NotFoundError):
            return EndpointError(
                f"{url} has no model {model!r} ({self._said(error)}): check --{role}-model; or "
                f"{self._way}"
            )
        return EndpointError(
            f"the model {model!r} at {url} refused: {self._said(error)}."
            + (f" {GOES_ON}" if self._goes_on else "")
        )

    def _said(self, error: BaseException) -> str:
        """What the endpoint says, as one line that obeys no terminal and holds no key."""
        said = str(error).strip()
        if self._key:
            said = said.replace(self._key, "…")
        return visible(said[:MOST_SAID])


def _key() -> str | None:
    """Return the key of the environment; what is none is refused without being shown."""
    key = os.environ.get(KEY, "").strip()  # a file that it was read from ends in a line break
    if not (key.isascii() and key.isprintable()):
        raise EndpointError(
            f"{KEY} contains characters that no key has, such as a line break or a non-ASCII "
            "letter; set it again"
        )
    return key or None


def _refuses(error: Any, option: str) -> bool:
    """Whether an error says that an option is refused: by name, or in a sentence about it.

    An endpoint that echoes what it was sent may well say "temperature" about the weather.
    """
    if error.param is not None:
        return bool(error.param == option)
    body = error.body
    said = str(body["message"] if isinstance(body, dict) and "message" in body else error)
    return any(re.search(form.format(option), said, re.I) for form in REFUSALS)
