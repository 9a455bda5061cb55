"""The figures of a run as files, drawn with matplotlib's objects, without its global state."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from reports.figures.plan import plan_figures
from reports.figures.styles import COLOURS, Style, choose_styles
from reports.figures.subplot import Panel, Picture, space_out
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
    """Draw the figures of a run into the directory `out`, each as SVG and as PNG, 1,200 pixels wide.

    The directory is made if need be; files of the same names are replaced. Returns what was
    written; the same run gives the same bytes.

    Raises
    ------
    BrokenRunError, OSError
        The run has more backends than can be told apart; the directory or a file in it cannot be written.
    """
    looks = {backend: _translate_style(style) for backend, style in choose_styles(run).items()}
    out.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with _draw_alike():
        for picture in plan_figures(run):
            figure = _paint_picture(picture, looks, describe_provenance(run))
            about = {"Title": picture.title, "Description": f"{picture.note} {describe_provenance(run)}", "Date": None}
            paths += [out / f"{picture.stem}.svg", out / f"{picture.stem}.png"]
            figure.savefig(paths[-2], metadata=about)
            figure.savefig(paths[-1], dpi=100)
    return paths


def _translate_style(style: Style) -> dict[str, Any]:
    """Say to matplotlib how a backend looks."""
    return {
        "color": COLOURS[style.colour],
        "linestyle": _DASHES[style.dashes],
        "marker": _MARKERS[style.marker],
    }


@contextmanager
def _draw_alike() -> Iterator[None]:
    """Set how figures look, whatever this machine's matplotlib is set to."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not support")  # names in other scripts
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def _paint_picture(picture: Picture, looks: _Looks, footer: str) -> Figure:
    """Paint one figure: its title and note on top, its panels, where it comes from below."""
    height = max(5.3, 2.3 + 0.22 * max(len(panel.lines) + 1 for panel in picture.panels))  # inches; a label has 0.2
    room = ConstrainedLayoutEngine(rect=(0.01, 0.6 / height, 0.98, 1 - 1.5 / height), wspace=0.05)
    figure = Figure(figsize=(12, height), layout=room)
    figure.text(0.015, 1 - 0.15 / height, picture.title, size=15, weight="bold", color=_INK, va="top")
    figure.text(0.015, 1 - 0.5 / height, picture.note, color=_GREY, va="top")
    figure.text(0.015, 0.12 / height, footer, size=10, color=_GREY, va="bottom")
    plots = zip(figure.subplots(1, len(picture.panels), squeeze=False)[0], picture.panels, strict=True)
    labelled = [(plot, _paint_panel(plot, panel, looks)) for plot, panel in plots]
    figure.draw_without_rendering()  # from here on it is known how large everything is
    figure.set_layout_engine("none")
    for plot, labels in labelled:
        _spread_labels(plot, labels)
    return figure


def _paint_panel(plot: Plot, panel: Panel, looks: _Looks) -> list[_Label]:
    """Paint lines, spread and axes; return a label for each line, still to be placed, with the end of its line."""
    ends: list[tuple[str, float, float, dict[str, Any]]] = []
    for backend, line in panel.lines.items():
        x, low, middle, high = np.transpose(line)
        spread = (middle - low, high - middle)
        plot.errorbar(x, middle, spread, **looks[backend], capsize=3, markeredgecolor=_INK, markeredgewidth=0.5)
        if backend in panel.marked:
            plot.plot(x, middle, marker="o", markersize=13, markerfacecolor="none", color=_INK, linestyle="none")
        ends.append((shorten_text(backend, 18), x[-1], middle[-1], looks[backend]))
    _fit_axis(plot, "x", [x for line in panel.lines.values() for x, *_ in line], log=panel.scale != "linear")
    _fit_axis(plot, "y", panel.values, log=panel.is_logarithmic)
    if panel.reference:
        plot.axhline(panel.reference[1], color=_GREY, linestyle="--", linewidth=1)
        ends.append((panel.reference[0], plot.get_xlim()[1], panel.reference[1], {"color": _GREY}))
    plot.set(title=panel.title, xlabel=panel.across, ylabel=panel.unit)
    beside: Any = ((_LABELS, 0.5), (9, 0), "axes fraction", "offset points")
    return [(plot.annotate(name, *beside, va="center", color=_INK), x, y, style) for name, x, y, style in ends]


def _fit_axis(plot: Plot, name: str, values: Sequence[float], *, log: bool) -> None:
    """Fit one axis to what it shows, with plain numbers at its ticks; linear axes start at zero."""
    low, high, axis = min(values), max(values), {"x": plot.xaxis, "y": plot.yaxis}[name]
    if log:
        room = max((high / low) ** 0.05, 1.5 if name == "x" else 2)
        decades = int(np.log10(room * high) - np.log10(low / room))
        plot.set(**{f"{name}scale": "log", f"{name}lim": (low / room, high * room)})
        axis.set_major_locator(LogLocator(subs={0: (1, 2, 3, 5), 1: (1, 2, 5)}.get(decades, (1,))))
    else:
        plot.set(**{f"{name}lim": (0, 1.06 * high or 1)})
        axis.set_major_locator(MaxNLocator(4 if name == "x" else 6, steps=[1, 2, 5, 10], integer=name == "x"))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12f}".rstrip("0").rstrip(".")))


def _spread_labels(plot: Plot, labels: Sequence[_Label]) -> None:
    """Put each label beside the end of its line, as near as the others let it, and lead the line to it."""
    ends = (plot.transData + plot.transAxes.inverted()).transform([(x, y) for _, x, y, _ in labels])
    order = np.argsort(ends[:, 1], kind="stable")
    step = 1.1 * max(text.get_window_extent().height for text, *_ in labels) / plot.bbox.height
    for place, height in zip(order, space_out(ends[order, 1].tolist(), step), strict=True):
        text, _, _, style = labels[place]
        text.xy = (_LABELS, height)
        lead = style | {"linestyle": ":", "linewidth": 1, "markevery": [1]}
        plot.plot([ends[place, 0], _LABELS], [ends[place, 1], height], transform=plot.transAxes, clip_on=False, **lead)
