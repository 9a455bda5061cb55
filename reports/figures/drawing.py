"""Draws figures into files with matplotlib; the page draws them again, as matplotlib's SVG would add 782 kB to it."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from reports.figures.plan import FigurePlan, Subplot, plan_figures, space_out
from reports.figures.styles import COLOURS, Style, choose_style
from reports.files import replace_file
from reports.run import Run
from reports.table import describe_provenance
from reports.text import shorten_text

_MARKERS, _DASHES = "osD^vPX<>*ph", ("-", "--", ":", "-.")
_LABELS = 1.035  # where labels start, in widths of the axes
_INK, _GREY = "#222222", "#666666"
_RC: dict[Any, object] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 11.5,
    "grid.color": "#E4E4E4",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "reports",  # the same run gives the same bytes
    "text.parse_math": False,  # a name may hold dollar signs
}

_Looks = Mapping[str, dict[str, Any]]  # of each backend
_Label = tuple[Annotation, float, float, dict[str, Any]]


def draw(run: Run, out: Path) -> list[Path]:
    """Draw the figures of a run into the folder `out`, each as SVG and as PNG, 1,200 pixels wide; return their paths.

    The folder is made if need be, and files of the same names are replaced. The same run gives the same bytes.
    """
    looks = {backend: _translate_style(choose_style(backend)) for backend in run.backends}
    out.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with _set_defaults():
        for plan in plan_figures(run):
            figure = _draw_figure(plan, looks, describe_provenance(run))
            about = {"Title": plan.title, "Description": f"{plan.note} {describe_provenance(run)}", "Date": None}
            paths += [out / f"{plan.stem}.svg", out / f"{plan.stem}.png"]
            _save_figure(figure, paths[-2], format="svg", metadata=about)
            _save_figure(figure, paths[-1], format="png", dpi=100)
    return paths


def _save_figure(figure: Figure, path: Path, **options: Any) -> None:  # noqa: ANN401 - of matplotlib
    content = io.BytesIO()
    figure.savefig(content, **options)
    replace_file(path, content.getvalue())


def _translate_style(style: Style) -> dict[str, Any]:
    return {"color": COLOURS[style.colour], "linestyle": _DASHES[style.dashes], "marker": _MARKERS[style.marker]}


@contextmanager
def _set_defaults() -> Iterator[None]:
    """Set how figures look, whatever matplotlib's settings on this machine."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not support")  # names in other scripts
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def _draw_figure(plan: FigurePlan, looks: _Looks, footer: str) -> Figure:
    """Draw one figure: title and note on top, its subplots, where it comes from below."""
    height = max(5.3, 2.3 + 0.22 * max(len(subplot.lines) + 1 for subplot in plan.subplots))  # inches; a label has 0.2
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.6 / height, 0.98, 1 - 1.5 / height), wspace=0.05)
    figure = Figure(figsize=(12, height), layout=layout)
    figure.text(0.015, 1 - 0.15 / height, plan.title, size=15, weight="bold", color=_INK, va="top")
    figure.text(0.015, 1 - 0.5 / height, plan.note, color=_GREY, va="top")
    figure.text(0.015, 0.12 / height, footer, size=10, color=_GREY, va="bottom")
    pairs = zip(figure.subplots(1, len(plan.subplots), squeeze=False)[0], plan.subplots, strict=True)
    labelled = [(axes, _draw_subplot(axes, subplot, looks)) for axes, subplot in pairs]
    figure.draw_without_rendering()  # from here on all sizes are known
    figure.set_layout_engine("none")
    for axes, labels in labelled:
        _spread_labels(axes, labels)
    return figure


def _draw_subplot(axes: Axes, subplot: Subplot, looks: _Looks) -> list[_Label]:
    """Draw lines, spread and axes; return a label for each line, still to be placed, with the end of its line."""
    ends: list[tuple[str, float, float, dict[str, Any]]] = []
    for backend, line in subplot.lines.items():
        x, low, middle, high = np.transpose(line)
        spread = (middle - low, high - middle)
        axes.errorbar(x, middle, spread, **looks[backend], capsize=3, markeredgecolor=_INK, markeredgewidth=0.5)
        if backend in subplot.marked:
            axes.plot(x, middle, marker="o", markersize=13, markerfacecolor="none", color=_INK, linestyle="none")
        ends.append((shorten_text(backend, 18), x[-1], middle[-1], looks[backend]))
    _fit_axis(axes, "x", [x for line in subplot.lines.values() for x, *_ in line], log=subplot.scale != "linear")
    _fit_axis(axes, "y", subplot.values, log=subplot.is_logarithmic)
    if subplot.reference:
        axes.axhline(subplot.reference[1], color=_GREY, linestyle="--", linewidth=1)
        ends.append((subplot.reference[0], axes.get_xlim()[1], subplot.reference[1], {"color": _GREY}))
    axes.set(title=subplot.title, xlabel=subplot.across, ylabel=subplot.unit)
    beside: Any = ((_LABELS, 0.5), (9, 0), "axes fraction", "offset points")
    return [(axes.annotate(name, *beside, va="center", color=_INK), x, y, style) for name, x, y, style in ends]


def _fit_axis(axes: Axes, name: str, values: Sequence[float], *, log: bool) -> None:
    """Fit one axis to what it shows, with plain numbers at its ticks; linear axes start at zero."""
    low, high, axis = min(values), max(values), {"x": axes.xaxis, "y": axes.yaxis}[name]
    if log:
        room = max((high / low) ** 0.05, 1.5 if name == "x" else 2)
        decades = int(np.log10(room * high) - np.log10(low / room))
        axes.set(**{f"{name}scale": "log", f"{name}lim": (low / room, high * room)})
        axis.set_major_locator(LogLocator(subs={0: (1, 2, 3, 5), 1: (1, 2, 5)}.get(decades, (1,))))
    else:
        axes.set(**{f"{name}lim": (0, 1.06 * high or 1)})
        axis.set_major_locator(MaxNLocator(4 if name == "x" else 6, steps=[1, 2, 5, 10], integer=name == "x"))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12f}".rstrip("0").rstrip(".")))


def _spread_labels(axes: Axes, labels: Sequence[_Label]) -> None:
    """Put each label beside the end of its line, as near as the others let it, and lead the line to it."""
    ends = (axes.transData + axes.transAxes.inverted()).transform([(x, y) for _, x, y, _ in labels])
    order = np.argsort(ends[:, 1], kind="stable")
    step = 1.1 * max(text.get_window_extent().height for text, *_ in labels) / axes.bbox.height
    for place, height in zip(order, space_out(ends[order, 1].tolist(), step), strict=True):
        text, _, _, style = labels[place]
        text.xy = (_LABELS, height)
        lead = style | {"linestyle": ":", "linewidth": 1, "markevery": [1]}
        axes.plot([ends[place, 0], _LABELS], [ends[place, 1], height], transform=axes.transAxes, clip_on=False, **lead)
