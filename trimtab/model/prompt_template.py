"""Templates of what language models are asked."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def prompt_template(file: Path) -> Template:
    """Return a Jinja template of a prompt: nothing is escaped, nothing may be left undefined."""
    environment = Environment(
        loader=FileSystemLoader(file.parent),
        autoescape=False,  # a prompt is no HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(file.name)
