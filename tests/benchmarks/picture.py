"""The picture of a benchmark: bars of steps per second, drawn by hand."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from tests.benchmarks.figures import Figures
from tests.benchmarks.report import WORKLOADS, number
from tests.benchmarks.systems import SYSTEMS

WIDTH, LABELS, VALUES = 960, 380, 170
LENGTH = WIDTH - LABELS - VALUES
HEIGHT, STEP, TITLE, SPACE = 18, 26, 34, 16
STYLE = """text { font: 13px system-ui, sans-serif; fill: #1f2933 } .title { font-weight: 600 } .small { fill: #616e7c }
.ours { fill: #2f6f9f } .peer { fill: #9fb3c8 } .range { stroke: #1f2933 }
@media (prefers-color-scheme: dark) { text { fill: #e4e7eb } .small { fill: #9aa5b1 } .ours { fill: #62b0e8 }
.peer { fill: #52667a } .range { stroke: #e4e7eb } }"""
WORDS = "Steps per second of workflow_engine and of other systems, measured in one run on the same servers"


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    low: float
    high: float
    is_peer: bool


def draw(figures: Figures) -> str:
    """Return an SVG with a group of bars per workload; a thin line shows the range of the rounds."""
    parts: list[str] = []
    top = 8
    for workload in ("chain5", "group10", "payload10k"):
        bars = bars_of(figures, workload)
        if not bars:
            continue
        longest = max(bar.high for bar in bars)
        parts.append(f'<text class="title" x="0" y="{top + 16}">{escape(WORKLOADS[workload])}; steps/s</text>')
        top += TITLE
        for bar in bars:
            parts += shapes(bar, top, LENGTH / longest)
            top += STEP
        top += SPACE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" aria-label="{WORDS}">'
    return "\n".join([head, f"<title>{WORDS}</title>", f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def bars_of(figures: Figures, workload: str) -> list[Bar]:
    """Return a bar per measured system with its own number of processes, the fastest first."""
    bars = []
    for name, system in SYSTEMS.items():
        key = f"{name}/{system.processes}/{workload}/steps_per_s"
        value, spread = figures.median(key), figures.spread(key)
        if value is not None and spread is not None:
            durable = "" if system.durable == "yes" else f" (durable: {system.durable})"
            bars.append(Bar(system.label + durable, value, *spread, system.is_peer))
    return sorted(bars, key=lambda bar: -bar.value)


def shapes(bar: Bar, top: int, scale: float) -> list[str]:
    kind, middle = "peer" if bar.is_peer else "ours", top + HEIGHT / 2
    low, high = (LABELS + value * scale for value in (bar.low, bar.high))
    return [
        f'<text x="{LABELS - 8}" y="{top + 13}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{kind}" x="{LABELS}" y="{top}" width="{bar.value * scale:.1f}" height="{HEIGHT}" rx="2"/>',
        f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{high + 8:.1f}" y="{top + 13}">{number(bar.value)} '
        f'<tspan class="small">({number(bar.low)}-{number(bar.high)})</tspan></text>',
    ]
