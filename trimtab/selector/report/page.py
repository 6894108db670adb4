"""How a page is filled: its templates, and the filters that they write numbers and texts with."""

import re
import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trimtab.model.features.descriptions import visible
from trimtab.selector.report.numbers import estimate, number, places

LONGEST = 420  # letters of a text that are shown; the table holds it whole


def environment() -> Environment:
    """Return the environment of all pages; whatever it is filled with is escaped."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # texts, tokens and labels are other people's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "number": number,
        "places": places,
        "estimate": estimate,
        "unbroken": _unbroken,
        "shortened": _shortened,
        "visible": visible,
        "quoted": shlex.quote,
    }
    return templates


def write_page(page: str, file: Path) -> Path:
    """Write a page over an earlier one, whole or not at all, and return its path."""
    part = file.with_name(file.name + ".part")
    part.write_text(page, encoding="utf-8", errors="replace")
    return part.replace(file)


def _unbroken(text: str) -> str:
    """Keep the two bounds of an interval on one line."""
    return re.sub(r"\[([^\[\]]*), ([^\[\]]*)\]", "[\\1,\N{NO-BREAK SPACE}\\2]", text)


def _shortened(text: str | None) -> str:
    text = (text or "").strip()
    return text if len(text) <= LONGEST else text[:LONGEST].rstrip() + " …"
