"""The plots of the benches: measured runs as bars and lines, axes from zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

OURS, PEERS, INK, FAINT = "#0b6e8f", "#b4bac2", "#23272e", "#7a828c"

mpl.rcParams.update(
    {
        # Text stays text: small files, and a reader's browser can search them.
        "svg.fonttype": "none",
        "svg.hashsalt": "shipclock",
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "xtick.color": FAINT,
        "ytick.color": INK,
    }
)


def compare(result: Mapping[str, Any], path: Path) -> None:
    """Draw the engines side by side: throughput, what a CPU-second does, memory."""
    names = list(result["engines"])
    labels = [result["engines"][name]["label"] for name in names]
    figure = Figure(figsize=(11, 1.7 + 0.42 * len(names)), layout="constrained")
    panels = (
        ("events_per_s", "events a second, wall\nmore is better"),
        ("events_per_cpu_s", "events a CPU-second of the engine\nmore is better"),
        ("rss_peak_mb", "peak memory, MB\nless is better"),
    )
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (name, title) in zip(all_axes, panels, strict=True):
        runs = [[r[name] for r in result["runs"] if r["engine"] == e] for e in names]
        colors = [OURS if engine.startswith("shipclock") else PEERS for engine in names]
        bars(axes, labels, runs, colors)
        axes.set_title(title, fontsize=9)
    job, machine = result["job"], result["machine"]
    figure.suptitle(
        f"First-scan deadlines: {job['events']:,} events, {job['timeouts']:,} timeouts, exact "
        f"answer in every run",
        fontsize=11,
    )
    figure.supxlabel(
        f"Bars: medians of the runs (dots), {result['rounds']} of each engine in alternation. "
        f"{machine['cpu']}, {machine['cores']} cores shared with the broker, {result['date']}."
        + smaller_jobs(result),
        fontsize=8,
        color=FAINT,
    )
    save(figure, path)


def latency(result: Mapping[str, Any], path: Path) -> None:
    """Draw how late timeouts are seen: all of them, and how the worker's settings trade."""
    table = result["table"]
    figure = Figure(figsize=(11 if table else 6, 4), layout="constrained")
    left, *right = figure.subplots(1, 2 if table else 1, squeeze=False)[0]
    for run, color in zip(result["runs"], (OURS, FAINT), strict=False):
        shares = [float(share) for share in run["quantiles_ms"]]
        slack = run["settings"]["idle_slack_ms"]
        left.plot(
            list(run["quantiles_ms"].values()), [100 * share for share in shares], color=color,
            label=f"{run['policy']}, idle slack {slack} ms: p50 {run['ms']['p50']}, "
            f"p99 {run['ms']['p99']}, max {run['ms']['max']} ms",
        )  # fmt: skip
    left.set(xlim=(0, None), ylim=(0, 101), ylabel="% of timeouts seen")
    left.set_xlabel("ms from due time to a read_committed consumer")
    above(left)
    plain(left)
    for axes in right:
        commits = sorted({run["settings"]["commit_interval_ms"] for run in table})
        for commit, shade in zip(commits, (OURS, "#d08a2e", FAINT), strict=False):
            group = [r for r in table if r["settings"]["commit_interval_ms"] == commit]
            slacks = [r["settings"]["idle_slack_ms"] for r in group]
            p50, p99 = ([r["ms"][name] for r in group] for name in ("p50", "p99"))
            axes.plot(
                slacks,
                p50,
                "o-",
                color=shade,
                markersize=3,
                label=f"commit interval {commit} ms: p50",
            )
            axes.plot(slacks, p99, "o--", color=shade, markersize=3, label="p99")
        axes.set(xlim=(0, None), ylim=(0, None), xlabel="idle slack, ms", ylabel="ms to be seen")
        above(axes, columns=len(commits))
        plain(axes)
    load, machine = result["load"], result["machine"]
    figure.suptitle(
        f"{load['rate']:,} events a second, {load['timeouts']} deadlines falling due a second, "
        f"{load['workers']} workers",
        fontsize=11,
    )
    figure.supxlabel(
        f"{machine['cpu']}, {machine['cores']} cores shared with broker and load, {result['date']}",
        fontsize=8,
        color=FAINT,
    )
    save(figure, path)


def above(axes: Axes, columns: int = 1) -> None:
    """Put the legend above the plot, where it hides nothing."""
    axes.legend(
        frameon=False, fontsize=7, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1),
        borderaxespad=0,
    )  # fmt: skip


def smaller_jobs(result: Mapping[str, Any]) -> str:
    """Say which engines had a smaller job."""
    sizes = {r["engine"]: r["events"] for r in result["runs"]}
    return "".join(
        f"\n{result['engines'][name]['label']}: on {size:,} events."
        for name, size in sizes.items()
        if size < result["job"]["events"]
    )


def bars(
    axes: Axes, labels: Sequence[str], runs: Sequence[Sequence[float]], colors: Sequence[str]
) -> None:
    """Draw one horizontal bar a label, its median written at its end, each run as a dot."""
    middles = [median(values) for values in runs]
    positions = range(len(labels))
    axes.barh(positions, middles, color=colors, height=0.62)
    longest = max(max(values) for values in runs)
    for position, values, middle in zip(positions, runs, middles, strict=True):
        axes.plot(values, [position] * len(values), ".", color=INK, markersize=3)
        axes.text(max(values) + longest * 0.02, position, f"{middle:,.0f}", va="center", fontsize=8)
    axes.set_yticks(positions, labels)
    axes.set_xlim(0, longest * 1.22)
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    plain(axes)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def thousands(value: float, position: int) -> str:  # noqa: ARG001
    """Write a tick."""
    return f"{value / 1000:.0f} k" if value >= 1000 else f"{value:.0f}"


def plain(axes: Axes) -> None:
    """Leave out the frame's upper and right side and the ticks' strokes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)


def save(figure: Figure, path: Path) -> None:
    """Write a figure the same way each time; the ending tells the format."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
