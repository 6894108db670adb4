"""A hub that answers in memory: all of transformers, sae_lens and huggingface_hub is real."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.utils._http import default_client_factory

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Repositories by name, each a mapping of file paths to bytes."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.down = False
        self.served: list[str] = []

    def upload(self, repo: str, folder: Path) -> None:
        self.repos[repo] = {
            str(file.relative_to(folder)): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.down:
            raise httpx2.ConnectError("Name or service not known", request=request)
        path = request.url.path.strip("/")
        repo = next((repo for repo in self.repos if f"{repo}/" in f"{path}/"), None)
        if repo is None:
            return refusal(request, 404, "RepoNotFound")
        _, _, rest = path.partition(f"{repo}/")
        if path.startswith("api/"):
            if rest not in ("", "revision/main", f"revision/{COMMIT}"):
                return refusal(request, 404, "EntryNotFound")
            siblings = [{"rfilename": name} for name in self.repos[repo]]
            info = {"id": repo, "sha": COMMIT, "siblings": siblings}
            return httpx2.Response(200, content=json.dumps(info), request=request)
        if repo in self.gated:
            return refusal(request, 403, "GatedRepo")
        _, revision, name = rest.split("/", 2)
        if revision not in ("main", COMMIT):
            return refusal(request, 404, "RevisionNotFound")
        content = self.repos[repo].get(name)
        if content is None:
            return refusal(request, 404, "EntryNotFound")
        headers = {
            "ETag": f'"{sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Content-Length": str(len(content)),
        }
        if request.method == "HEAD":
            return httpx2.Response(200, headers=headers, request=request)
        self.served.append(name)
        return httpx2.Response(200, headers=headers, content=content, request=request)


def refusal(request: httpx2.Request, status: int, code: str) -> httpx2.Response:
    headers = {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": COMMIT}
    return httpx2.Response(status, headers=headers, request=request)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between tries to reach a dead hub
    huggingface_hub.set_client_factory(
        lambda: httpx2.Client(transport=httpx2.MockTransport(fake.answer), follow_redirects=True)
    )
    yield fake
    huggingface_hub.set_client_factory(default_client_factory)
