"""Draw the pictures of the documentation: `make pictures`, or `python docs/pictures/draw.py [FOLDER]`.

The progress display and the card are what hfsynth itself shows, of the example corpus and the scripted engine; the same
code gives the same bytes with the same versions of matplotlib and rich.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from datasets import load_dataset
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from rich.console import Console, Group
from rich.markdown import Markdown
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.terminal_theme import TerminalTheme
from rich.theme import Theme

import hfsynth
from hfsynth.cli.console import summary

FOLDER = Path(__file__).parent
EXAMPLE = FOLDER.parent.parent / "examples" / "corpus.jsonl"

INK, PALE = "#37474f", "#eceff1"
DOCUMENT, PAIR, ENGINE = "#bbdefb", "#c8e6c9", "#ffe0b2"
PAPER = TerminalTheme(
    (255, 255, 255),
    (55, 71, 79),
    [
        (0, 0, 0),
        (183, 28, 28),
        (46, 125, 50),
        (245, 127, 23),
        (21, 101, 192),
        (106, 27, 154),
        (0, 105, 120),
        (97, 97, 97),
    ],
)
CODE = Theme({"markdown.code": "cyan"})  # without the black behind it
# As rich's own, less the window around it and the font that it would fetch from elsewhere.
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {terminal_width} {terminal_height}">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
  line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect width="{terminal_width}" height="{terminal_height}" rx="6" fill="#ffffff" stroke="#cfd8dc"/>
<g clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hfsynth", "font.family": "sans-serif"})
    road(folder / "road.svg")
    chain(folder / "chain.svg")
    progress(folder / "progress.svg")
    card(folder / "card.svg")


def road(path: Path) -> None:
    """Draw what becomes of a document, from the source to the Hub."""
    figure, axes = canvas(11.0, 2.5)
    stations = (
        ("source", "documents", DOCUMENT),
        ("chains", "M neighbours", DOCUMENT),
        ("engine", "vLLM, a server,\na script", ENGINE),
        ("pairs", "parsed, filtered,\ncounted", PAIR),
        ("texts", "rendered, mixed,\nexported", PAIR),
        ("Hub", "a card, one\nvisible change", PALE),
    )
    for place, (name, what, colour) in enumerate(stations):
        left = 0.1 + place * 1.84
        box(axes, left, 0.75, 1.45, 1.15, colour)
        axes.text(left + 0.725, 1.62, name, ha="center", va="center", fontsize=13, weight="bold", color=INK)
        axes.text(left + 0.725, 1.14, what, ha="center", va="center", fontsize=9, color=INK)
        if place:
            arrow(axes, (left - 0.36, 1.32), (left - 0.03, 1.32))
    returned = "the next prompt shows the last one's pairs"
    arrow(axes, (6.2, 0.72), (2.7, 0.72), bend=-0.22)
    axes.text(4.45, 0.1, returned, ha="center", va="center", fontsize=9, style="italic", color=INK)
    save(figure, path)


def chain(path: Path) -> None:
    """Draw the prompts of a chain of three documents, one above the other."""
    figure, axes = canvas(11.0, 3.5)
    for shot in range(3):
        top = 2.55 - shot * 0.95
        axes.text(0.1, top + 0.3, f"shot {shot}", va="center", fontsize=12, weight="bold", color=INK)
        left = 1.0
        for number in range(shot + 1):
            box(axes, left, top, 1.55, 0.6, DOCUMENT)
            axes.text(
                left + 0.775, top + 0.3, f"document {number + 1}", ha="center", va="center", fontsize=10, color=INK
            )
            left += 1.65
            written = number == shot
            box(axes, left, top, 1.15, 0.6, PAIR, dashed=written)
            words = "written now" if written else f"pairs {number + 1}"
            axes.text(left + 0.575, top + 0.3, words, ha="center", va="center", fontsize=10, color=INK)
            left += 1.3
        if shot:
            start, end = 1.0, 1.0 + shot * 2.95 - 0.15
            axes.plot((start, end), (top - 0.12, top - 0.12), color=INK, linewidth=1.2)
            said = "the shot before: computed already, found in the prefix cache"
            axes.text(start, top - 0.25, said, va="center", fontsize=8, style="italic", color=INK)
    save(figure, path)


@dataclass(frozen=True)
class Figures:
    """A job on its way, as `hfsynth synthesize` reports it."""

    rows: int = 61_440
    total: int | None = 200_000
    documents_seen: int = 61_440
    pairs_seen: int = 287_112
    tokens_written: int = 14_929_824
    seconds: float = 1_620.0
    workers: int = 4
    seconds_left: float | None = 3_654.0
    phase: str = ""
    phase_seconds: float = 0.0


def progress(path: Path) -> None:
    """Show a job on its way."""
    figures = Figures()
    console = Console(record=True, width=146, file=io.StringIO(), force_terminal=True)
    columns = (SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.description}"))
    bar = Progress(*columns, console=console, get_time=lambda: 0.0)
    bar.add_task(summary(figures), total=figures.total, completed=figures.rows)
    command = "$ hfsynth synthesize user/raw corpus/ --shots 2 --workers 4"
    console.print(Padding(Group(command, bar.get_renderable()), (1, 2)), highlight=False)
    export(console, path)


def card(path: Path) -> None:
    """Show the beginning of the card of the example corpus."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "corpus"
        ds = load_dataset("json", data_files=str(EXAMPLE), split="train", cache_dir=scratch)
        synthesize = hfsynth.Synthesizer("scripted", engine="scripted", shots=2)
        ds = ds.map(synthesize, batched=True, batch_size=24)
        hfsynth.save_corpus(folder, pairs=ds, texts=hfsynth.render(ds, seed=0), synthesizer=synthesize)
        stated = {
            "license": "cc-by-4.0",
            "language": "en",
            "repo": "user/name",
            "title": "Lighthouses, potatoes and bonds",
        }
        hfsynth.card(folder, **stated)
        text = (folder / "README.md").read_text("utf-8").partition("<!-- hfsynth:begin")[2].partition("\n## Samples")[0]
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True, theme=CODE)
    shown = "\n".join(line for line in text.splitlines()[1:] if not line.startswith("<!--"))
    console.print(Padding(Markdown(shown, code_theme="bw", inline_code_theme="bw", hyperlinks=False), (1, 3)))
    export(console, path)


def canvas(width: float, height: float) -> tuple[matplotlib.figure.Figure, Axes]:
    figure = pyplot.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(
    axes: Axes, left: float, bottom: float, width: float, height: float, colour: str, *, dashed: bool = False
) -> None:
    style = "dashed" if dashed else "solid"
    shape = "round,pad=0,rounding_size=0.08"
    patch = FancyBboxPatch(
        (left, bottom), width, height, boxstyle=shape, facecolor=colour, edgecolor=INK, linestyle=style
    )
    axes.add_patch(patch)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], *, bend: float = 0.0) -> None:
    style = f"arc3,rad={bend}"
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color=INK, connectionstyle=style))


def save(figure: matplotlib.figure.Figure, path: Path) -> None:
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    pyplot.close(figure)


def export(console: Console, path: Path) -> None:
    drawn = console.export_svg(theme=PAPER, code_format=SVG, unique_id=path.stem)
    path.write_text("\n".join(line.rstrip() for line in drawn.splitlines()) + "\n", "utf-8")


if __name__ == "__main__":
    main()
