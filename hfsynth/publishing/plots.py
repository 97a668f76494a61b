"""Pictures of a corpus's statistics, as PNG. The one module that imports matplotlib, and only when it draws.

A picture carries the digest of the numbers it was drawn from, so that an old one is recognised without drawing it
again. Knows nothing of cards.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hfsynth.core.config import digest
from hfsynth.core.files import replaced
from hfsynth.core.store_paths import AnyPath
from hfsynth.publishing.card import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes


FOLDER = "plots"
_BLUE, _GREY = "#3b6ea5", "#b8c4d0"
_FEWEST_BARS = 8  # a picture of one number is not one block


def available() -> bool:
    """Say whether pictures can be drawn here."""
    return find_spec("matplotlib") is not None


def current(root: AnyPath, stats: Mapping[str, Any]) -> tuple[Plot, ...]:
    """Return the pictures in `root` that show these statistics."""
    return tuple(plot for name, plot in _PLOTS.items() if _shows(root / plot.path, _DATA[name](stats)))


def stale(root: AnyPath, stats: Mapping[str, Any]) -> list[str]:
    """Return the pictures in `root` that show other numbers."""
    there = {plot.path for plot in _PLOTS.values() if (root / plot.path).exists()}
    return sorted(there - {plot.path for plot in current(root, stats)})


def draw(root: AnyPath, stats: Mapping[str, Any]) -> None:
    """Draw the pictures of `stats` under `root` where they are not there yet, and remove those of other numbers."""
    for name, plot in _PLOTS.items():
        data = _DATA[name](stats)
        (root / plot.path).with_suffix(".svg").unlink(missing_ok=True)  # what earlier versions drew
        if _shows(root / plot.path, data):
            continue
        (root / plot.path).unlink(missing_ok=True)
        if sum(data.values()):
            _draw(root / plot.path, data, plot.about, _DRAWINGS[name])


def _shows(path: AnyPath, data: Mapping[str, int]) -> bool:
    return path.is_file() and _mark(data).encode() in path.read_bytes()


def _mark(data: Mapping[str, int]) -> str:
    return f"hfsynth {digest(data)}"


def _pairs_per_document(stats: Mapping[str, Any]) -> dict[str, int]:
    counted = stats.get("pairs_per_document", {})
    return {number: counted[number] for number in sorted(counted, key=int)}


def _token_shares(stats: Mapping[str, Any]) -> dict[str, int]:
    cached = stats.get("cached_tokens", 0)
    return {
        "prompt, computed": stats.get("prompt_tokens", 0) - cached,
        "prompt, from the prefix cache": cached,
        "written by the model": stats.get("output_tokens", 0),
    }


def _mixture(stats: Mapping[str, Any]) -> dict[str, int]:
    parts = (stats.get("mix") or {}).get("parts") or ()
    return {str(part["name"]): int(part["tokens"]) for part in parts}


def _verdicts(stats: Mapping[str, Any]) -> dict[str, int]:
    """Return the pairs by score, in tenths, for each thing that a judge was asked."""
    scores = (stats.get("verify") or {}).get("scores") or {}
    return {f"{name} {tenth}": int(number) for name in scores for tenth, number in enumerate(scores[name])}


def _draw(
    path: AnyPath, data: Mapping[str, int], title: str, drawing: Callable[[Axes, Mapping[str, int]], None]
) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    look: dict[Any, Any] = {"font.family": "DejaVu Sans", "text.parse_math": False}
    with rc_context(look), replaced(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters of a name that the font does not have
        figure = Figure(figsize=(6.4, 2.8), layout="tight")
        axes = figure.subplots()
        drawing(axes, data)
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        metadata: dict[str, Any] = {"Software": None, "Description": _mark(data)}
        figure.savefig(temporary, format="png", dpi=160, metadata=metadata)


def _bars(axes: Axes, data: Mapping[str, int]) -> None:
    from matplotlib.ticker import MaxNLocator

    numbers = [int(number) for number in data]
    axes.bar(numbers, list(data.values()), color=_BLUE)
    axes.set_xlim(-0.6, max(numbers[-1], _FEWEST_BARS) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True))
    axes.set_xlabel("pairs")
    axes.set_ylabel("documents")


def _lying_bars(axes: Axes, data: Mapping[str, int]) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.barh(list(data), list(data.values()), color=[_BLUE, _GREY])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("tokens")


def _scores(axes: Axes, data: Mapping[str, int]) -> None:
    """Draw the scores of each question beside each other, a pair of bars for each tenth."""
    names = list(dict.fromkeys(key.rpartition(" ")[0] for key in data))
    width = 0.08 / len(names)
    for place, name in enumerate(names):
        heights = [number for key, number in data.items() if key.rpartition(" ")[0] == name]
        left = [0.01 + tenth / 10 + place * width for tenth in range(len(heights))]
        axes.bar(left, heights, width=width, align="edge", color=(_BLUE, _GREY)[place % 2], label=name)
    axes.set_xlim(0, 1)
    axes.set_xticks([tenth / 10 for tenth in range(11)])
    axes.set_xlabel("score of the judge")
    axes.set_ylabel("pairs")
    axes.legend(frameon=False, fontsize=8)


_PLOTS = {
    "pairs": Plot(f"{FOLDER}/pairs_per_document.png", "Documents by their number of pairs"),
    "tokens": Plot(f"{FOLDER}/tokens.png", "Tokens by where they come from"),
    "mixture": Plot(f"{FOLDER}/mixture.png", "Tokens of the mixture by part"),
    "verdicts": Plot(f"{FOLDER}/verdicts.png", "Verdicts of the judge on the pairs"),
}
_DATA = {"pairs": _pairs_per_document, "tokens": _token_shares, "mixture": _mixture, "verdicts": _verdicts}
_DRAWINGS = {"pairs": _bars, "tokens": _lying_bars, "mixture": _lying_bars, "verdicts": _scores}
