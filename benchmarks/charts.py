"""A chart of one simulated run as SVG: goodput and pace over time, refusals marked."""

from __future__ import annotations

from html import escape

from benchmarks.simulation import World

__all__ = ["chart"]

WIDTH, HEIGHT = 960, 320
LEFT, TOP, RIGHT, BOTTOM = 48, 36, 12, 32


def chart(title: str, world: World, quota: float) -> str:
    """Return the SVG: each sender's pace thin, their sum and the goodput of each second, 429s as ticks."""
    end = world.samples[-1][0]
    sums = [(time, sum(rates)) for time, rates in world.samples]
    goodput = [(second + 0.5, world.goodput(second, second + 1.0)) for second in range(int(end))]
    top = max(2.2 * quota if max(value for _, value in sums) > 1.5 * quota else 1.5 * quota, 1.0)

    def x(time: float) -> float:
        return LEFT + time / end * (WIDTH - LEFT - RIGHT)

    def y(rate: float) -> float:
        return TOP + (1.0 - min(rate, top) / top) * (HEIGHT - TOP - BOTTOM)

    def line(points: list[tuple[float, float]], style: str) -> str:
        path = " ".join(f"{x(time):.1f},{y(rate):.1f}" for time, rate in points)
        return f'<polyline points="{path}" fill="none" {style}/>'

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="16" font-size="14">{escape(title)}</text>',
        (
            f'<text x="{LEFT}" y="31" fill="#555">goodput (black), pace of all (blue) and of each (light), '
            "429s (red), requests a second over seconds</text>"
        ),
    ]
    step = 25 if top > 60 else 10
    for rate in range(0, int(top) + 1, step):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(rate):.1f}" y2="{y(rate):.1f}" stroke="#eee"/>'
        )
        parts.append(
            f'<text x="{LEFT - 6}" y="{y(rate) + 4:.1f}" text-anchor="end" fill="#555">{rate}</text>'
        )
    for tenth in range(11):
        time = end * tenth / 10
        parts.append(
            f'<text x="{x(time):.1f}" y="{HEIGHT - 10}" text-anchor="middle" fill="#555">{time:.0f}</text>'
        )
    parts.append(line([(0.0, quota), (end, quota)], 'stroke="#999" stroke-dasharray="4 3"'))
    if len(world.senders) > 1:
        for number in range(len(world.senders)):
            own = [(time, rates[number]) for time, rates in world.samples]
            parts.append(line(own, 'stroke="#9ecae1" stroke-width="0.7"'))
    parts.append(line(sums, 'stroke="#3182bd"'))
    parts.append(line(goodput, 'stroke="black" stroke-width="1.5"'))
    ticks = "".join(
        f"M{x(time):.1f} {TOP}v8" for sender in world.senders for time in sender.refused if time <= end
    )
    parts.append(f'<path d="{ticks}" stroke="#d62728" stroke-width="1"/>')
    return "\n".join([*parts, "</svg>", ""])
