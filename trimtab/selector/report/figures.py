"""Figures of the report, drawn from plain numbers as SVG that takes its colours from the page.

Nothing is measured here. Figures are about as wide as a phone, so that their type stays legible
there, and text stays text. Colours are drawn as stand-ins and handed over as CSS variables, so that
the page's light and dark schemes hold for figures, too. One colour means one thing throughout:
accent is what was chosen.
"""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from trimtab.selector.intervals import Estimate
from trimtab.selector.report.contents import Point
from trimtab.selector.report.numbers import number

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

WIDTH, HEIGHT = 4.2, 3.0  # inches
INK, MUTED, FAINT, ACCENT, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    FAINT: "var(--rule)",
    ACCENT: "var(--accent)",
    PAPER: "var(--paper)",
}
STYLE: "dict[RcKeyType, Any]" = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trimtab",
    "text.parse_math": False,
    "text.color": INK,
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
}
FEW_DECADES = 2.2  # spans of less get ticks at 1, 2 and 5, others at powers of ten alone


MARKERS = {
    "pruning": "o",
    "joint pruning": "s",
    "few samples": "p",
    "decomposition": "P",
    "pursuit": "^",
    "gates": "D",
    "search": "v",
    "random": "x",
}


def forest(rows: Sequence[tuple[str, Estimate]], label: str, *, share: bool) -> str:
    """Return estimates with their intervals, one above the other; the first is the one to compare.

    A band carries the first one's interval through all the rows.

    Args:
        rows: name and estimate; those without a value are passed over.
        label: of the axis.
        share: the values are shares, so that the axis goes from 0 to 1.
    """
    measured = [(name, found, found.value) for name, found in rows if found.value is not None]
    if not measured:
        return ""
    with rc_context(STYLE):
        figure, axes = _axes(height=0.75 + 0.27 * len(measured), left=0.335)
        first_name, first = rows[0]
        if first.low is not None and first.high is not None:
            axes.axvspan(first.low, first.high, color=ACCENT, alpha=0.1, linewidth=0)
        if not share:
            axes.axvline(0, color=FAINT, linewidth=0.8)
        for place, (name, found, value) in enumerate(measured):
            colour = ACCENT if name == first_name else INK
            if found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [place] * 2, color=colour, linewidth=1.2)
            axes.plot(value, place, "o", color=colour, markersize=5, markeredgecolor=PAPER)
        axes.set_yticks(range(len(measured)), [name for name, _, _ in measured])
        axes.set_ylim(len(measured) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelcolor=INK, pad=6)
        axes.spines["left"].set_visible(False)
        if share:
            axes.set_xlim(-0.03, 1.03)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(label)
        return _svg(figure, f"forest-{'rate' if share else 'effect'}", f"Forest plot: {label}")


def curve(
    points: Sequence[tuple[int, float]],
    *,
    of: str,
    label: str,
    floor: float | None,
    chosen: int | None,
) -> str:
    """Return a pruning curve over what is kept, on a logarithmic axis.

    Args:
        points: (kept, value).
        of: what is pruned, "samples" or "features".
        label: of the value's axis.
        floor: the value at which pruning stops; None draws none.
        chosen: how many the chosen vector keeps; None draws none.
    """
    if not points:
        return ""
    points = sorted(points)
    kept, values = zip(*points, strict=True)
    with rc_context(STYLE):
        figure, axes = _axes()
        if chosen is not None:
            axes.axvline(chosen, color=ACCENT, linewidth=1, alpha=0.6)
            axes.annotate(
                f"{chosen} chosen", (chosen, 0.03), xycoords=("data", "axes fraction"),
                xytext=(4, 0), textcoords="offset points", color=ACCENT,
            )  # fmt: skip
        if floor is not None:
            axes.axhline(floor, color=MUTED, linewidth=0.8, dashes=(4, 3))
        axes.plot(kept, values, "-o", color=INK, linewidth=1.2, markersize=4, clip_on=False)
        axes.set_ylim(min(0.0, 1.1 * min(values)), 1.08 * max(*values, floor or 0.0, 0.0) or 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _logarithmic(axes, [*kept, *([chosen] if chosen else [])])
        axes.set_xlabel(f"{of} kept")
        axes.set_ylabel(label)
        return _svg(figure, f"curve-{of}", f"Pruning curve of {of}: {label} against {of} kept")


def learning(
    points: Sequence[tuple[int, Estimate]],
    fitted: Sequence[tuple[float, float]],
    *,
    needed: float | None,
) -> str:
    """Return the effect over the number of random samples, and the curve that was fitted to it.

    Args:
        points: (samples, effect).
        fitted: (samples, effect) along the curve; empty where none was fitted.
        needed: samples that reach the share that is asked for; None draws none.
    """
    measured = [(n, found, found.value) for n, found in points if found.value is not None]
    if not measured:
        return ""
    with rc_context(STYLE):
        figure, axes = _axes()
        if needed is not None:
            axes.axvline(needed, color=ACCENT, linewidth=1, alpha=0.6)
            axes.annotate(
                f"{number(needed, 0)} needed", (needed, 0.03), xycoords=("data", "axes fraction"),
                xytext=(4, 0), textcoords="offset points", color=ACCENT,
            )  # fmt: skip
        axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
        if fitted:
            x, y = zip(*fitted, strict=True)
            axes.plot(x, y, color=MUTED, linewidth=1.2)
        for n, found, value in measured:
            if found.low is not None and found.high is not None:
                axes.plot([n, n], [found.low, found.high], color=INK, linewidth=1.2)
            axes.plot(n, value, "o", color=INK, markersize=5, markeredgecolor=PAPER)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _logarithmic(axes, [n for n, _, _ in measured])
        axes.set_xlabel("random samples")
        axes.set_ylabel("effect on the target")
        return _svg(figure, "learning", "Effect against the number of random samples")


def surrogate(effects: Sequence[float], rates: Sequence[float], *, name: str, chosen: bool) -> str:
    """Return what one surrogate says of unlike vectors beside how often their replies show it."""
    with rc_context(STYLE):
        figure, axes = _axes()
        axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.plot(
            effects, rates, "o", color=ACCENT if chosen else INK, markersize=5,
            markeredgecolor=PAPER, clip_on=False,
        )  # fmt: skip
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(f"effect on {name}")
        axes.set_ylabel("behaviour rate")
        alt = f"Behaviour rate of the panel's vectors against their effect on {name}"
        return _svg(figure, f"surrogate-{re.sub(r'[^a-z]+', '-', name.lower())}", alt)


def explained(lines: Mapping[str, Sequence[tuple[int, float]]], *, control: str) -> str:
    """Return cosines over the number of features, a line a way of choosing them.

    Args:
        lines: (features, cosine) by name.
        control: the name of the line that is chance.
    """
    drawn = {name: points for name, points in lines.items() if points}
    if not drawn:
        return ""
    ways = [name for name in drawn if name != control]
    styles = {name: (INK, dash) for name, dash in zip(ways, ("-", ":", "--"), strict=False)}
    styles |= {ways[0]: (ACCENT, "-")} if ways else {}
    styles[control] = (MUTED, "-")
    with rc_context(STYLE):
        figure, axes = _axes()
        for name, points in drawn.items():
            x, y = zip(*points, strict=True)
            colour, dash = styles[name]
            axes.plot(
                x, y, marker="o", linestyle=dash, color=colour, markersize=4, linewidth=1.2,
                clip_on=False, label=name,
            )  # fmt: skip
        axes.set_ylim(min(0.0, *(y for points in drawn.values() for _, y in points)), 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _logarithmic(axes, [n for points in drawn.values() for n, _ in points])
        axes.set_xlabel("features")
        axes.set_ylabel("cosine to the vector")
        axes.legend(loc="upper left", handlelength=1.4, labelcolor=MUTED, fontsize=9)
        return _svg(figure, "explained", "Cosine to the vector against the number of features")


def surface(points: Sequence[Point], *, label: str) -> str:
    """Return every measured point's effect over its size, on a logarithmic axis, a marker a method.

    Points of the Pareto front are filled; random ones are crosses. A line joins the largest effect
    that any point of up to each size has.

    Args:
        points: what was measured.
        label: of the size.
    """
    if not points:
        return ""
    with rc_context(STYLE):
        figure, axes = _axes(height=HEIGHT + 0.25, top=0.5)
        reached: list[tuple[int, float]] = []
        for point in sorted((p for p in points if p.method != "random"), key=lambda p: p.size):
            reached.append((point.size, max([point.effect, *(e for _, e in reached[-1:])])))
        if reached:
            x, y = zip(*reached, strict=True)
            axes.step(x, y, where="post", color=MUTED, linewidth=0.8)
        for method, marker in MARKERS.items():
            some = [p for p in points if p.method == method]
            for front in (False, True):
                x_y = [(p.size, p.effect) for p in some if p.front == front and not p.chosen]
                axes.plot(
                    *(zip(*x_y, strict=True) if x_y else ([], [])), marker, color=MUTED,
                    markerfacecolor=INK if front else PAPER,
                    markeredgecolor=INK if front else MUTED,
                    markersize=5, clip_on=False, label=method if some and not front else None,
                )  # fmt: skip
        for point in (p for p in points if p.chosen):
            axes.plot(
                point.size, point.effect, MARKERS[point.method], color=ACCENT, markersize=9,
                markeredgecolor=PAPER, clip_on=False, label="chosen",
            )  # fmt: skip
        axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _logarithmic(axes, [point.size for point in points])
        axes.set_xlabel(label)
        axes.set_ylabel("effect on the target")
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=4, borderpad=0, borderaxespad=0.2,
            handletextpad=0.1, columnspacing=0.8, labelcolor=MUTED, fontsize=9,
        )  # fmt: skip
        return _svg(figure, "surface", f"Effect of every measured point against {label}")


def plane(points: Sequence[Point]) -> str:
    """Return the Pareto front over samples and features, each point as large as its effect.

    The chosen point is with them wherever it is: what is near the dense vector may be chosen for
    what the model writes, beside the target's front.
    """
    front = [p for p in points if (p.front or p.chosen) and p.features and p.effect > 0]
    if not front:
        return ""
    largest = max(p.effect for p in front)
    with rc_context(STYLE):
        figure, axes = _axes()
        for p in front:
            axes.plot(
                p.samples, p.features or 1, "o", color=ACCENT if p.chosen else INK,
                alpha=1.0 if p.chosen else 0.45, markersize=2 + 12 * p.effect / largest,
                markeredgewidth=0, clip_on=False,
            )  # fmt: skip
        _logarithmic(axes, [p.samples for p in front])
        _logarithmic(axes, [p.features or 1 for p in front], upright=True)
        axes.set_xlabel("samples")
        axes.set_ylabel("features")
        return _svg(figure, "plane", "The Pareto front over samples and features")


def damage(
    points: Sequence[tuple[float, float]], *, multiplier: float, kl: float, budget: float
) -> str:
    """Return damage over multiplier, with the budget and the calibrated point.

    The dotted guide grows with the square of the multiplier through the calibrated point.
    """
    top = max([multiplier, *(m for m, _ in points)])
    guide = [top * i / 40 for i in range(41)]
    with rc_context(STYLE):
        figure, axes = _axes()
        axes.plot(guide, [kl * (m / multiplier) ** 2 for m in guide], ":", color=MUTED, linewidth=1)
        axes.axhline(budget, color=MUTED, linewidth=0.8, dashes=(4, 3))
        axes.annotate(
            f"budget {number(budget)}", (0, budget), xycoords=("axes fraction", "data"),
            xytext=(4, 4), textcoords="offset points", color=MUTED,
        )  # fmt: skip
        x, y = zip((0.0, 0.0), *points, strict=True)
        axes.plot(x, y, "o", color=INK, markersize=4, markeredgecolor=PAPER, clip_on=False)
        axes.plot(multiplier, kl, "o", color=ACCENT, markersize=8, markeredgecolor=PAPER)
        axes.set_xlim(0, 1.06 * top)
        axes.set_ylim(0, 1.12 * max(budget, kl, *y))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("multiplier")
        axes.set_ylabel("KL, nats per token")
        return _svg(figure, "damage", "Damage against multiplier, with the budget")


def ranks(usefulness: Sequence[tuple[float, bool]]) -> str:
    """Return every sample's usefulness, `(usefulness, kept)`, from the highest to the lowest."""
    if not usefulness:
        return ""
    ranked = sorted(usefulness, key=lambda pair: -pair[0])
    with rc_context(STYLE):
        figure, axes = _axes()
        axes.axhline(0, color=FAINT, linewidth=0.8)
        for wanted, colour, width in ((False, MUTED, 0.8), (True, ACCENT, 2.0)):
            some = [(i, u) for i, (u, kept) in enumerate(ranked, start=1) if kept == wanted]
            places, heights = [i for i, _ in some], [u for _, u in some]
            axes.vlines(places, 0, heights, color=colour, linewidth=width)
            if wanted:
                axes.plot(places, heights, "o", color=colour, markersize=4, clip_on=False)
        axes.set_xlim(0, len(ranked) + 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("samples, most useful first")
        axes.set_ylabel("usefulness")
        return _svg(figure, "ranks", "Usefulness of every sample, ranked; kept ones marked")


def _axes(*, height: float = HEIGHT, left: float = 0.16, top: float = 0.25) -> tuple[Figure, Axes]:
    """Return a figure of the common width and its only axes, with margins in fixed inches."""
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((left, 0.5 / height, 0.97 - left, 1 - (0.5 + top) / height))
    return figure, axes


def _logarithmic(axes: Axes, values: Sequence[int], *, upright: bool = False) -> None:
    low, high = min(values), max(values)
    axis = axes.yaxis if upright else axes.xaxis
    (axes.set_yscale if upright else axes.set_xscale)("log")
    (axes.set_ylim if upright else axes.set_xlim)(low / 1.25, high * 1.25)
    few = high / low < 10**FEW_DECADES
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(lambda value, _: number(value))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _svg(figure: Figure, name: str, alt: str) -> str:
    """Return the figure as an inline SVG element whose ids begin with `name`."""
    stream = io.StringIO()
    figure.savefig(
        stream,
        format="svg",
        transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: (\d+(?:\.\d+)?)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    opening = f'<svg {view[0]} role="img" aria-label="{escape(alt)}">'
    svg = re.sub(r"<svg [^>]*>", lambda _: opening, svg, count=1)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
