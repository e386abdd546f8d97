"""The result as a chart."""

from pathlib import Path
from typing import Any


def draw(result: dict[str, Any], path: Path) -> None:
    """matplotlib is imported here because only charts need it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(result["measurements"])
    figure, axes = pyplot.subplots(
        1, 1 if "sizes" in result else 2, figsize=(13, 1.5 + 0.6 * len(names)), squeeze=False
    )
    (_growth if "sizes" in result else _throughput)(result, names, *axes[0])
    for plot in axes[0]:
        plot.invert_yaxis()
        plot.grid(axis="x", alpha=0.3)
        plot.margins(x=0.15)
    figure.text(0.01, 0.01, f"{result['machine']['cores']}; {result['machine']['database']}", fontsize=8)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(path, dpi=150)


def _throughput(result: dict[str, Any], names: list[str], rates: Any, latencies: Any) -> None:
    found = list(result["measurements"].values())
    medians = [row["rate"] for row in found]
    spread = [[row["rate"] - row["least"] for row in found], [row["most"] - row["rate"] for row in found]]
    rates.set(title="How many per second: median, least and most of the rounds", xlabel="per second")
    rates.bar_label(rates.barh(names, medians, xerr=spread, capsize=4), fmt="{:.0f}", padding=6)
    _pairs(latencies, names, {kind: [row[kind] for row in found] for kind in ("p50", "p99")})
    latencies.set(title="How long an answer takes", xlabel="milliseconds")


def _growth(result: dict[str, Any], names: list[str], latencies: Any) -> None:
    found = result["measurements"].values()
    labels = {size: "{wallets:,} wallets, {rows:,} rows".format(**numbers) for size, numbers in result["sizes"].items()}
    _pairs(latencies, names, {label: [row[size]["p50"] for row in found] for size, label in labels.items()})
    latencies.set(title="How long an answer takes when the ledger grows: p50", xlabel="milliseconds")


def _pairs(plot: Any, names: list[str], series: dict[str, list[float]]) -> None:
    for index, (label, values) in enumerate(series.items()):
        bars = plot.barh([n + 0.4 * index - 0.2 for n in range(len(names))], values, height=0.38, label=label)
        plot.bar_label(bars, fmt="{:.1f}", padding=3, fontsize=8)
    plot.set_yticks(range(len(names)), names)
    plot.legend(loc="upper left", bbox_to_anchor=(1, 1))
