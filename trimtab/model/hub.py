"""What can go wrong while a model or SAE is loaded, in words that say what to do."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from trimtab.errors import ModelError


@contextmanager
def loading_errors(what: str) -> Iterator[None]:
    """Turn whatever fails while `what` is loaded into one `ModelError`.

    Files from elsewhere can break their readers in any way, so every exception is caught. A failure
    of the hub gets the way out of it; transformers and sae_lens wrap the hub's own exceptions, so
    the whole chain of causes is looked at.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = _way_out(error) or f"{type(error).__name__}: {_first_line(error)}"
        raise ModelError(f"{what} cannot be loaded: {reason}") from error


def _way_out(error: BaseException) -> str | None:
    from huggingface_hub import errors

    # Order matters: a gated repository is also a repository that was not found, and an unreachable
    # hub also an entry that was not found.
    explanations: list[tuple[type[BaseException], str]] = [
        (
            errors.GatedRepoError,
            "it is gated; accept its terms on its page on the hub, then run `hf auth login`",
        ),
        (
            errors.RepositoryNotFoundError,
            "there is no such folder here and no such name on the hub; check the spelling, "
            "or run `hf auth login` if it is private",
        ),
        (errors.RevisionNotFoundError, "the hub has no such revision of it"),
        (
            errors.HFValidationError,
            "there is no such file or folder, and it is not a valid name on the hub",
        ),
        (
            errors.LocalEntryNotFoundError,
            "the hub cannot be reached and it is not in the local cache; check the connection, "
            "or copy its folder here and give the path",
        ),
        (
            errors.OfflineModeIsEnabled,
            "HF_HUB_OFFLINE is set and it is not in the local cache; unset it, "
            "or copy its folder here and give the path",
        ),
        (errors.EntryNotFoundError, "a file that it needs is missing on the hub"),
        (
            pickle.UnpicklingError,
            "its file holds pickled objects, which can run code when loaded; "
            "ask whoever made it for safetensors",
        ),
        (errors.HfHubHTTPError, f"the hub answered: {_first_line(error)}"),
    ]
    chain = list(_causes(error))
    for kind, way_out in explanations:
        if any(isinstance(cause, kind) for cause in chain):
            return way_out
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
