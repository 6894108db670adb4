"""The table of a text's features: everything in it is shown, nothing of it is obeyed."""

from typing import Any

from rich.console import Console

from trimtab.model.features.token_table import token_table


def drawn(rows: list[dict[str, Any]], *, colour: bool = False) -> str:
    console = Console(width=100, record=True, force_terminal=colour, color_system="standard")
    with console.capture() as capture:
        console.print(token_table(rows))
    return capture.get()


def row(token: str, *features: tuple[int, float, str | None], **more: Any) -> dict[str, Any]:
    active = [{"feature": f, "value": value, "label": label} for f, value, label in features]
    return {**more, "position": 3, "token": token, "features": active}


def test_tokens_features_values_and_labels_stand_side_by_side() -> None:
    text = drawn([row(" joy", (18, 2.5, "happy words"), (7, 0.125, None)), row("\n")])
    lines = text.splitlines()
    first = next(line for line in lines if "joy" in line)
    assert all(part in first for part in ("3", "18", "2.50", "happy words"))
    assert any("7" in line and "0.12" in line for line in lines)
    assert "⏎" in text
    assert "side" not in text
    assert "negative" in drawn([row("x", side="negative")])


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    text = drawn([row("[red]\x1b[2J", (1, 1.0, "[bold]x\x1b]0;t\x07"))], colour=True)
    assert "[red]" in text
    assert "[bold]" in text
    assert "\x1b[2J" not in text
    assert "\x07" not in text


def test_the_stronger_a_feature_is_the_clearer_it_stands_out() -> None:
    text = drawn([row("a", (1, 9.0, "strong"), (2, 1.0, "weak"))], colour=True)
    assert "\x1b[1;32mstrong" in text
    assert "\x1b[2mweak" in text
