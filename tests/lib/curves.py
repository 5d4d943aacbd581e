# SPDX-License-Identifier: BSD-2-Clause
"""Curves over time as an SVG picture: panels one above the other, each with a title, a shaded span and named curves from 0 to 1."""
import html

WIDTH, HEIGHT, LEFT, TOP, GAP, RIGHT = 900, 190, 60, 40, 70, 190
COLOURS = ("#888888", "#d62728", "#1f77b4", "#2ca02c")


def panel(at, title, end, span, curves):
    x = lambda t: LEFT + t / end * (WIDTH - LEFT - RIGHT)
    y = lambda v: at + HEIGHT * (1 - v)
    out = [f'<text x="{LEFT}" y="{at - 10}" font-size="15">{html.escape(title)}</text>',
           f'<rect x="{x(span[0]):.1f}" y="{at}" width="{x(span[1]) - x(span[0]):.1f}" height="{HEIGHT}" fill="#f6e8d8"/>',
           f'<rect x="{LEFT}" y="{at}" width="{x(end) - LEFT:.1f}" height="{HEIGHT}" fill="none" stroke="#444"/>']
    for v in (0, 0.25, 0.5, 0.75, 1):
        out.append(f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.0%}</text>'
                   f'<path d="M{LEFT} {y(v):.1f}H{x(end):.1f}" stroke="#ddd"/>')
    out += [f'<text x="{x(t):.1f}" y="{at + HEIGHT + 16}" text-anchor="middle">{t} s</text>' for t in range(0, int(end) + 1, 2)]
    for i, (name, points) in enumerate(curves.items()):
        path = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[i]}" stroke-width="2"/>'
                   f'<text x="{x(end) + 12:.1f}" y="{at + 20 + 18 * i}" fill="{COLOURS[i]}">{html.escape(name)}</text>')
    return out


def draw(path, end, span, panels):
    """panels: {title: {curve: [(seconds, share)]}}."""
    total = TOP + len(panels) * (HEIGHT + GAP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{total}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{total}" fill="white"/>']
    for i, (title, curves) in enumerate(panels.items()):
        out += panel(TOP + i * (HEIGHT + GAP), title, end, span, curves)
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join([*out, "</svg>"]) + "\n")
