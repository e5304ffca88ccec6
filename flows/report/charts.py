"""Charts as inline SVG: plain functions from figures to markup.

Positions along x are per cent of the width, along y pixels, so a chart fills a phone as well as a desk and its text
keeps its size. Colours are CSS classes of the page (style.css), so that dark mode and print need no other chart.
Each chart says in words, for those who do not see it, what it shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from tasks.evaluate.score import MODELS
from tasks.wording import as_per_cent, figure

Point = tuple[float, float]
GLYPHS = {"chance": "M0,-5L5,0L0,5L-5,0Z", "unigram": "M0,-5L5,4L-5,4Z", "trigram": "M-4,-4H4V4H-4Z"}
OTHER_GLYPH = "M0,-6V6"
REFERENCE_GLYPH = "M-4,-4L4,4M4,-4L-4,4"
LABEL_PIXELS = 15.0  # least distance of two labels at the end of lines


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to shares of the length, 0 to 1."""

    low: float
    high: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, 1e-300))
        return (value - low) / (high - low) if high > low else 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a line chart; `kind` is its colour class; `marked` sets a dot on every point."""

    label: str
    points: Sequence[Point]
    kind: str
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval, where there is one."""

    value: float
    low: float | None
    high: float | None
    kind: str


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values within bounds, about `count` of them: steps of 1, 2, 2.5 or 5 times a power of ten."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if span / (factor * power) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number on an axis: `250`, `1.5k`, `2M`, `0.25`."""
    # Not `figure`: an axis has room for few characters.
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def line_chart(
    lines: Sequence[Line],
    *,
    says: str,
    x_name: str,
    height: int = 240,
    zero: bool = False,
    events: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Lines over steps, each with its name at its end; a dashed line at each event, which says what happened."""
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup()
    xs = [x for line in lines for x, _ in line.points]
    ys = sorted(y for line in lines for _, y in line.points)
    # The first steps of a training are far off; what matters comes later: 2 % of the points may leave the frame.
    top = ys[min(len(ys) - 1, int(len(ys) * 0.98))]
    low, high = (0.0 if zero else ys[0]), top
    margin = 0.06 * (high - low) or 0.5
    x, y = Scale(min(xs), max(xs)), Scale(low - (0 if zero else margin), high + margin)
    bottom = height - 34

    def down(value: float) -> float:
        return round(bottom - min(max(y(value), 0.0), 1.0) * (bottom - 8), 1)

    out = [_grid(ticks(y.low, y.high), down), _x_axis(x, ticks(x.low, x.high), bottom, x_name)]
    for line in lines:
        path = "L".join(f"{1000 * x(px):.0f},{down(py)}" for px, py in line.points)
        out.append(
            f'<svg width="100%" height="{height}" viewBox="0 0 1000 {height}" preserveAspectRatio="none">'
            f'<path class="line {line.kind}" d="M{path}"/></svg>'
        )
        if line.marked:
            dots = (
                f'<circle class="dot {line.kind}" r="4" cx="{_at(x(px))}" cy="{down(py)}"/>' for px, py in line.points
            )
            out.extend(dots)
    for step, what in events:
        place = _at(x(step))
        out.append(
            f'<line class="bound" x1="{place}" x2="{place}" y1="8" y2="{bottom}"><title>{escape(what)}</title></line>'
        )
    ends = _apart([down(line.points[-1][1]) for line in lines])
    for line, end in zip(lines, ends, strict=True):
        if not line.label:
            continue
        name, value = escape(line.label), figure(line.points[-1][1])
        out.append(
            f'<text class="end {line.kind}" x="100%" dx="8" y="{end + 4:.1f}">{name}'
            f'<tspan class="number"> {value}</tspan></text>'
        )
    return _svg(out, height, says)


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    says: str,
    logarithmic: bool = False,
    low: float | None = None,
    high: float | None = None,
    height: int = 132,
) -> Markup:
    """Bars over bins; those wholly outside of [low, high] in the colour of what is dropped; a line at each bound."""
    x, most, bottom = Scale(edges[0], edges[-1], logarithmic), max(counts), height - 22
    out = [f'<line class="axis" x1="0" x2="100%" y1="{bottom + 0.5}" y2="{bottom + 0.5}"/>']
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            size = max(1.0, (bottom - 18) * count / most)
            outside = (low is not None and right <= low) or (high is not None and left >= high)
            kind = "dropped" if outside else "kept"
            title = f"{short(left)} to {short(right)}: {figure(count)}"
            out.append(
                f'<rect class="bar {kind}" x="{_at(x(left))}" width="{_at(x(right) - x(left))}" '
                f'y="{bottom - size:.1f}" height="{size:.1f}"><title>{title}</title></rect>'
            )
    for value in _powers(edges[0], edges[-1]) if logarithmic else ticks(edges[0], edges[-1], 4):
        out.append(_tick_label(x(value), bottom + 16, short(value)))
    for name, bound in (("min", low), ("max", high)):
        if bound is not None and edges[0] <= bound <= edges[-1]:
            place = x(bound)
            side = 'text-anchor="end" dx="-4"' if place > 0.6 else 'dx="4"'
            out.append(
                f'<line class="bound" x1="{_at(place)}" x2="{_at(place)}" y1="2" y2="{bottom}"/>'
                f'<text class="bound" x="{_at(place)}" {side} y="11">{name} {figure(bound)}</text>'
            )
    return _svg(out, height, says)


def stacked_bar(parts: Sequence[tuple[float, str]], *, says: str, height: int = 20) -> Markup:
    """Shares of the width, side by side: (share, colour class)."""
    out, left = [], 0.0
    for share, kind in parts:
        if share > 0:
            width = max(share, 0.002)
            out.append(f'<rect class="bar {kind}" x="{_at(left)}" width="{_at(width)}" height="{height}"/>')
        left += share
    return _svg(out, height, says)


def interval_row(
    dots: Sequence[Dot],
    baselines: Sequence[tuple[str, float]],
    references: Sequence[float],
    scale: Scale,
    *,
    says: str,
) -> Markup:
    """One row of a dot-and-interval chart: a lane a model; baselines as signs across; off the scale at the rim."""
    height = 14 * max(len(dots), 1) + 12
    out = [f'<rect class="lane" width="100%" height="{height}" rx="3"/>']
    out += [f'<line class="grid" x1="{_at(scale(t))}" x2="{_at(scale(t))}" y2="{height}"/>' for t in _inner(scale)]
    for name, value in baselines:
        place = scale(value)
        off = not -0.001 <= place <= 1.001
        shift = "M-5,-4L1,0L-5,4Z" if place > 1 else "M5,-4L-1,0L5,4Z"
        kind = "off" if off else "baseline"
        out.append(_sign(min(max(place, 0.0), 1.0), height / 2, shift if off else GLYPHS.get(name, OTHER_GLYPH), kind))
    out += [
        _sign(scale(value), height / 2, REFERENCE_GLYPH, "reference") for value in references if 0 <= scale(value) <= 1
    ]
    for number, dot in enumerate(dots):
        y = 13 + 14 * number
        if dot.low is not None and dot.high is not None:
            ends = (_at(min(max(scale(end), 0.0), 1.0)) for end in (dot.low, dot.high))
            out.append('<line class="interval {}" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'.format(dot.kind, *ends, y=y))
        out.append(f'<circle class="dot {dot.kind}" r="5" cx="{_at(min(max(scale(dot.value), 0.0), 1.0))}" cy="{y}"/>')
    return _svg(out, height, says)


def scale_axis(scale: Scale, *, per_cent: bool = False) -> Markup:
    """The numbers below the rows of a dot-and-interval chart."""
    labels = [(t, as_per_cent(t) if per_cent else short(t)) for t in ticks(scale.low, scale.high)]
    return Markup(
        '<svg class="chart" width="100%" height="18" aria-hidden="true">'
        + "".join(_tick_label(scale(t), 13, text) for t, text in labels)
        + "</svg>"
    )


def sign(name: str, kind: str = "baseline") -> Markup:
    """The sign of a baseline, of a `reference` or of one of MODELS as the charts draw it, for the text beside them."""
    if kind in MODELS:
        inner = f'<circle class="dot {kind}" r="5" cx="7" cy="7"/>'
    else:
        path = REFERENCE_GLYPH if kind == "reference" else GLYPHS.get(name, OTHER_GLYPH)
        inner = f'<path class="sign {kind}" transform="translate(7 7)" d="{path}"/>'
    return Markup(f'<svg class="key" width="14" height="14" aria-hidden="true">{inner}</svg>')


def reliability(lines: Sequence[Line], *, says: str, size: int = 260) -> Markup:
    """Accuracy over confidence, both 0 to 1, with the diagonal on which a well-calibrated model lies."""
    unit = Scale(0.0, 1.0)
    bottom = size - 34

    def down(value: float) -> float:
        return round(bottom - value * (bottom - 8), 1)

    out = [_grid(ticks(0, 1, 4), down), _x_axis(unit, ticks(0, 1, 4), bottom, "confidence")]
    out.append(f'<line class="diagonal" x1="0" x2="100%" y1="{down(0)}" y2="{down(1)}"/>')
    for line in lines:
        path = "L".join(f"{1000 * px:.0f},{down(py)}" for px, py in line.points)
        out.append(
            f'<svg width="100%" height="{size}" viewBox="0 0 1000 {size}" preserveAspectRatio="none">'
            f'<path class="line {line.kind}" d="M{path}"/></svg>'
        )
        out += [f'<circle class="dot {line.kind}" r="4" cx="{_at(px)}" cy="{down(py)}"/>' for px, py in line.points]
    ends = _apart([down(line.points[-1][1]) for line in lines if line.points])
    for line, end in zip((line for line in lines if line.points), ends, strict=True):
        out.append(f'<text class="end {line.kind}" x="100%" dx="8" y="{end + 4:.1f}">{escape(line.label)}</text>')
    return _svg(out, size, says)


def _svg(inner: Sequence[str], height: float, says: str) -> Markup:
    body = "".join(inner)
    return Markup(
        f'<svg class="chart" width="100%" height="{height:g}" role="img" aria-label="{escape(says)}">{body}</svg>'
    )


def _at(share: float) -> str:
    """A place in SVG, not a figure for people."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def _grid(values: Sequence[float], down) -> str:  # type: ignore[no-untyped-def]
    return "".join(
        f'<line class="grid" x1="0" x2="100%" y1="{down(value)}" y2="{down(value)}"/>'
        f'<text class="tick" x="0" dx="-8" y="{down(value) + 4}" text-anchor="end">{short(value)}</text>'
        for value in values
    )


def _x_axis(x: Scale, values: Sequence[float], bottom: float, name: str) -> str:
    labels = "".join(_tick_label(x(value), bottom + 16, short(value)) for value in values)
    return f'{labels}<text class="tick name" x="50%" y="{bottom + 32:g}" text-anchor="middle">{escape(name)}</text>'


def _tick_label(place: float, y: float, text: str) -> str:
    anchor = "start" if place < 0.04 else "end" if place > 0.96 else "middle"
    return f'<text class="tick" x="{_at(place)}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _sign(place: float, y: float, path: str, kind: str) -> str:
    return f'<svg class="at" x="{_at(place)}" y="{y:g}"><path class="sign {kind}" d="{path}"/></svg>'


def _inner(scale: Scale) -> list[float]:
    return [t for t in ticks(scale.low, scale.high) if 0.001 < scale(t) < 0.999]


def _powers(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def _apart(places: Sequence[float]) -> list[float]:
    """The same places moved down where two would overlap."""
    moved = list(places)
    order = sorted(range(len(places)), key=lambda number: places[number])
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + LABEL_PIXELS)
    return moved
