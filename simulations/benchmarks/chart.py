"""A chart of figures: a panel for each unit of a benchmark, a bar for each figure and its peers."""

from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from simulations.benchmarks.measurement import Measurement, figure

OURS: Final = "#1b6e6a"
PEER: Final = "#b9b9b4"
BAR_INCHES: Final = 0.26
PANEL_INCHES: Final = 0.9


def draw(results: list[Measurement], title: str, path: Path) -> None:
    """Write the chart to a PNG."""
    kinds = list(dict.fromkeys(map(_kind, results)))
    panels = [_bars([item for item in results if _kind(item) == kind]) for kind in kinds]
    heights = [len(bars) * BAR_INCHES + PANEL_INCHES for bars in panels]
    chart = Figure(figsize=(11, sum(heights) + PANEL_INCHES), layout="constrained")
    chart.suptitle(title, fontsize=10)
    axes = chart.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for plot, bars, (_, unit) in zip(axes[:, 0], panels, kinds, strict=True):
        places = range(len(bars))
        drawn = plot.barh(places, [bar[1] for bar in bars], color=[bar[2] for bar in bars])
        plot.bar_label(drawn, labels=[figure(bar[1]) for bar in bars], padding=3, fontsize=7)
        plot.set_yticks(places, [bar[0] for bar in bars], fontsize=7)
        plot.invert_yaxis()
        plot.margins(x=0.12)
        plot.xaxis.set_major_formatter("{x:,.10g}")
        plot.set_xlabel(unit, fontsize=8)
        plot.tick_params(axis="x", labelsize=7)
        plot.spines[["top", "right"]].set_visible(False)
    chart.savefig(path, dpi=120)


def _kind(item: Measurement) -> tuple[str, str]:
    """The benchmark that a figure is of, and its unit: what can stand on one axis."""
    return item.name.partition("/")[0], item.unit


def _bars(items: list[Measurement]) -> list[tuple[str, float, str]]:
    bars: list[tuple[str, float, str]] = []
    for item in items:
        bars.append((f"{item.name}: {item.metric}", item.value, OURS))
        bars += [(name, peer.value, PEER) for name, peer in item.peers.items()]
    return bars
