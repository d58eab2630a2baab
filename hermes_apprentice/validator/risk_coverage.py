"""What abstaining buys: how often answers are wrong when only the surest are given.

Risk against coverage (El-Yaniv and Wiener, "On the Foundations of Noise-free Selective
Classification", 2010), as figures, as an SVG drawing and as lines for a terminal. Knows
nothing about how a threshold is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hermes_apprentice.statistics.intervals import binomial_upper
from hermes_apprentice.validator.evaluate import Row

CONFIDENCE = 0.95
MOST_POINTS = 200

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 400, 60, 50, 30, 20
_BAR = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One threshold."""

    threshold: float
    """Confidence from which on requests are answered."""

    coverage: float
    """Share of the requests that are answered."""

    risk: float
    """Share of those whose answer is not the upstream's."""

    risk_at_most: float
    """Upper bound of the risk, one-sided, for this threshold alone (Clopper and Pearson)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The whole trade-off."""

    rows: int
    """Requests that it was measured on."""

    area: float
    """Mean risk over all coverages that were reached: smaller is better (AURC)."""

    chosen: float
    """The threshold that was chosen."""

    points: tuple[Point, ...]
    """From the surest answers to all of them; at most `MOST_POINTS`."""


def risk_coverage(rows: Sequence[Row], chosen: float) -> Curve:
    """Return the trade-off on judged rows; a row without an answer is never covered."""
    answered = sorted(
        (row for row in rows if row.text is not None), key=lambda row: -row.confidence
    )
    points: list[Point] = []
    wrong, risks = 0, 0.0
    for count, row in enumerate(answered, 1):
        wrong += not row.agrees
        risks += wrong / count
        if count < len(answered) and answered[count].confidence == row.confidence:
            continue  # no threshold tells these two apart
        points.append(
            Point(
                threshold=row.confidence,
                coverage=count / len(rows),
                risk=wrong / count,
                risk_at_most=binomial_upper(wrong, count, CONFIDENCE),
            )
        )
    step = max(1, -(-len(points) // MOST_POINTS))
    thinned = [point for index, point in enumerate(points) if (len(points) - 1 - index) % step == 0]
    return Curve(
        rows=len(rows),
        area=risks / len(answered) if answered else 0.0,
        chosen=chosen,
        points=tuple(thinned),
    )


def as_lines(curve: Curve) -> str:
    """Return the curve as lines of text, one for each tenth of coverage that was reached."""
    if not curve.points:
        return "No request was answered, so there is nothing to draw."
    highest = max(point.risk for point in curve.points) or 1.0
    lines = ["answered   wrong  at most  threshold"]
    tenths = [max(1, int(10 * point.coverage + 1e-9)) for point in curve.points]
    for tenth in range(1, 11):
        if tenth not in tenths:
            continue
        point = curve.points[tenths.index(tenth)]
        bar = "#" * round(_BAR * point.risk / highest)
        mark = " answered" if point.threshold >= curve.chosen else ""
        lines.append(
            f"{point.coverage:8.0%} {point.risk:7.1%} {point.risk_at_most:8.1%}"
            f"  {point.threshold:9.3f}  {bar}{mark}"
        )
    lines.append(
        f"Measured on {curve.rows} requests; answered from a confidence of {curve.chosen:.3f} on. "
        f"Mean risk over all coverages: {curve.area:.3f}."
    )
    return "\n".join(lines)


def as_svg(curve: Curve, title: str) -> str:
    """Return the curve as an SVG drawing; ``title`` must be a plain name."""
    highest = max([0.05, *(point.risk_at_most for point in curve.points if point.coverage > 0.1)])
    highest = min(1.0, 1.1 * highest)
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(coverage: float, risk: float) -> str:
        x = _LEFT + inner_width * coverage
        y = _TOP + inner_height * (1 - min(risk, highest) / highest)
        return f"{x:.1f},{y:.1f}"

    risk = " ".join(place(point.coverage, point.risk) for point in curve.points)
    bound = " ".join(place(point.coverage, point.risk_at_most) for point in curve.points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{_escaped(title)}: risk and coverage, '
        f"{curve.rows} requests</text>",
    ]
    for tick in range(6):
        x, share = _LEFT + inner_width * tick / 5, tick / 5
        y, level = _TOP + inner_height * (1 - tick / 5), highest * tick / 5
        below = _HEIGHT - _BOTTOM + 18
        parts += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{level:.1%}</text>',
            f'<text x="{x:.1f}" y="{below}" text-anchor="middle">{share:.0%}</text>',
        ]
    reached = [point.coverage for point in curve.points if point.threshold >= curve.chosen]
    if reached:
        x = _LEFT + inner_width * max(reached)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" '
            'stroke="#999" stroke-dasharray="4 3"/>'
        )
    parts += [
        f'<polyline points="{bound}" fill="none" stroke="#c33" stroke-dasharray="2 3"/>',
        f'<polyline points="{risk}" fill="none" stroke="#247" stroke-width="2"/>',
        f'<text x="{_LEFT + inner_width / 2:.0f}" y="{_HEIGHT - 10}" text-anchor="middle">'
        "share of requests answered (dashed line: the chosen threshold)</text>",
        f'<text transform="translate(14 {_TOP + inner_height / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">share of wrong answers (dots: upper bound)</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
