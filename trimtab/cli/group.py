"""A group of commands that tells mistakes in one line, and the end of a command's help."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from typer.core import TyperGroup

from trimtab.errors import TrimtabError


class Commands(TyperGroup):
    """Turns a user's mistake into one line on stderr, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command as `in_a_line` does."""
        with in_a_line():
            return super().invoke(ctx)


@contextmanager
def in_a_line() -> Iterator[None]:
    """Exit with a line and 1 after an error of the user's, with a line and 130 after Ctrl-C."""
    try:
        yield
    except TrimtabError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except KeyboardInterrupt as stop:
        _fail(str(stop) or "interrupted; run the same command again to resume", 130)


def example(*lines: str) -> str:
    """Return the end of a command's help: examples to copy."""
    return "Example:\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def _fail(message: str, code: int) -> NoReturn:
    from trimtab.model.features.descriptions import visible

    shown = "\n".join(visible(line) for line in message.split("\n"))  # it may quote anybody's text
    print(f"trimtab: {shown}", file=sys.stderr)
    sys.exit(code)
