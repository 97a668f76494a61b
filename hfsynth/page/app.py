"""The page itself: widgets, and which function fills them. The one module that imports gradio.

No text reaches a widget as markup but through `hfsynth.page.markup`. Nothing is sent anywhere: no analytics, no fonts
from elsewhere, no tunnel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read as gradio is imported

import gradio as gr

from hfsynth.core.errors import HfsynthError
from hfsynth.models.resolve import recommended_sampling
from hfsynth.page import markup, mixing, trying
from hfsynth.page.answering import CorpusAnswers
from hfsynth.page.commands import Ways
from hfsynth.page.filters import Filters
from hfsynth.page.looking import CorpusLook
from hfsynth.page.settings import PageSettings, trusting
from hfsynth.synthesis.prompts import prompt_names

_WAITING = 32  # calls that wait at most; more are refused
_EVERY = 2.0  # seconds between two looks at a running job
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class BuiltPage:
    """The page of some settings; see `hfsynth.build_page`."""

    def __init__(self, settings: PageSettings) -> None:
        self.settings = settings
        self.blocks = _blocks(settings)

    def launch(self, *, host: str = "127.0.0.1", port: int | None = None, wait: bool = True) -> str:
        """Show the page and return its address; with `wait`, return when it is closed. Without a port the next free."""
        _, url, _ = self.blocks.queue(max_size=_WAITING, default_concurrency_limit=4).launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=not wait,
            share=False,
            ssr_mode=False,
            quiet=True,
            allowed_paths=[],
            max_file_size="1kb",
            app_kwargs=trusting(host),
            enable_monitoring=False,
            run_history=False,
            footer_links=["settings"],
            theme=_theme(),
            css=(files("hfsynth.page") / "style.css").read_text("utf-8"),
        )
        return str(url)

    def wait(self) -> None:
        """Show the page until the keyboard's interrupt, or the end of the process."""
        self.blocks.block_thread()

    def close(self) -> None:
        """Show the page no more."""
        self.blocks.close(verbose=False)


def _theme() -> gr.themes.Base:
    """Return a look with the system's own fonts, and buttons that can be read while they are pointed at."""
    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return theme.set(button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800")


def _blocks(settings: PageSettings) -> Any:  # noqa: ANN401 - gr.Blocks, whose annotations are partial
    name = settings.look.location if settings.look else "no corpus"
    with gr.Blocks(title=f"hfsynth: {markup.one_line(name, 60)}", analytics_enabled=False) as blocks:
        gr.HTML("<h1>hfsynth</h1>", padding=False)
        with gr.Tabs(selected="corpus" if settings.look else "try") as tabs:
            with gr.Tab("Corpus", id="corpus"):
                taken = _Corpus(settings.look).build(blocks) if settings.look else None
                if taken is None:
                    gr.HTML(markup.message("No corpus was named.", "", "Start the page with one: hfsynth page CORPUS"))
            with gr.Tab("Try", id="try"):
                documents = _Try(settings).build()
            with gr.Tab("Mix", id="mix"):
                _Mix(settings).build()
        if taken is not None and settings.look is not None:
            button, rows = taken
            button.click(partial(_taken, settings.look), rows, [tabs, *documents], **_PRIVATE)
    return blocks


def _taken(look: CorpusLook, number: int | None) -> list[Any]:
    """Return what goes to a row's documents, to try them."""
    return [gr.Tabs(selected="try"), *look.documents(number, trying.DOCUMENTS, trying.LONGEST)]


class _WaysShown:
    """The command line and the Python lines of a view."""

    def __init__(self, ways: Ways) -> None:
        with gr.Accordion("The same from the command line, and in Python", open=False):
            settings: dict[str, Any] = {"interactive": False, "buttons": ["copy"], "elem_classes": "hs-ways"}
            self.command = gr.Textbox(ways.command, label="Command line", lines=1, max_lines=6, **settings)
            self.python = gr.Textbox(ways.python, label="Python", lines=4, max_lines=20, **settings)

    @property
    def outputs(self) -> list[Any]:
        return [self.command, self.python]


class _Corpus:
    """The rows of a corpus by filters, one of them with its document, pairs and chain, and the figures."""

    def __init__(self, look: CorpusLook) -> None:
        self.look = look
        self.answers = CorpusAnswers(look)

    def build(self, blocks: gr.Blocks) -> tuple[gr.Button, gr.Radio]:
        """Lay out the tab; return the button that takes a row's documents elsewhere, and the row that is chosen."""
        look, answers, running = self.look, self.answers, self.look.corpus.running
        summary = gr.HTML(look.summary(), elem_id="hs-summary")
        with gr.Accordion("Figures, and what was lost", open=running):
            plots = gr.HTML(look.plots(), elem_id="hs-plots")
            _WaysShown(look.plots_ways())
        asked = self._filters()
        listed = look.listed(Filters(), look.first_split())
        first = listed.rows[0][1] if listed.rows else None
        shown = self.answers.row(first, "")
        starts, following = gr.State([None]), gr.State(listed.next)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                rows = gr.Radio(list(listed.rows), value=first, label="Rows", elem_classes="hs-rows", elem_id="hs-rows")
                follow = gr.Checkbox(True, label="Follow the newest rows", visible=running)
                said = gr.HTML(markup.message(listed.said), elem_id="hs-said")
                with gr.Row():
                    back = gr.Button("Previous", size="sm", min_width=80)
                    onward = gr.Button("Next", size="sm", min_width=80)
            with gr.Column(scale=5, min_width=320):
                with gr.Row():
                    marks = gr.Radio(shown[4]["choices"], value="", label="Mark the words of", scale=3, min_width=320)
                    take = gr.Button("Try these documents", size="sm", scale=1, min_width=160)
                with gr.Row():
                    with gr.Column(min_width=280):
                        document = gr.HTML(shown[0], elem_id="hs-document")
                    with gr.Column(min_width=280):
                        pairs = gr.HTML(shown[1], elem_id="hs-pairs")
                chain = gr.HTML(shown[2], elem_id="hs-chain")
                with gr.Accordion("Its training text, and every style", open=False):
                    texts = gr.HTML(shown[3], elem_id="hs-texts")
                ways = _WaysShown(look.ways(Filters(), look.first_split()))
        listing = [rows, said, starts, following, *ways.outputs]
        showing = [document, pairs, chain, texts, marks]
        for widget in asked:
            events = {gr.Textbox: "submit", gr.Dropdown: "input"}  # a running job changes the splits itself
            event = getattr(widget, events.get(type(widget), "change"))
            event(answers.search, asked, listing, api_visibility="private", show_progress="minimal").then(
                answers.chosen, rows, showing, **_PRIVATE
            )
        for button, move in ((back, answers.back), (onward, answers.onward)):
            button.click(move, [starts, following, *asked], listing, api_visibility="private").then(
                answers.chosen, rows, showing, **_PRIVATE
            )
        rows.input(answers.chosen, rows, showing, api_visibility="private", show_progress="minimal")
        marks.input(answers.marked, [rows, marks], [document, pairs], **_PRIVATE)
        self._served(asked)
        if running:
            timer = gr.Timer(_EVERY)
            refreshed = [summary, plots, timer, asked[-1], rows, said, starts, following, *showing]
            rows.input(lambda: False, None, follow, **_PRIVATE)
            timer.tick(answers.again, [follow, rows, starts, *asked], refreshed, **_PRIVATE)
            blocks.load(answers.again, [follow, rows, starts, *asked], refreshed, **_PRIVATE)
        return take, rows

    def _filters(self) -> list[Any]:
        choices, running = self.look.choices(), self.look.corpus.running
        with gr.Row():
            split = gr.Dropdown(
                choices["split"],
                value=self.look.first_split() if running else self.look.first_split() or None,
                label="Rows of" if running else "Split",
                min_width=160,
                visible=len(choices["split"]) > 1,
            )
            status = gr.Dropdown(choices["status"], value="", label="Status", min_width=160)
            reason = gr.Dropdown(choices["reason"], value="", label="Something rejected for", min_width=160)
            text = gr.Textbox(
                label="Text in the document or a pair",
                placeholder="press Enter to search",
                max_length=200,
                min_width=200,
            )
        with gr.Accordion("More filters", open=False), gr.Row():
            kind = gr.Dropdown(choices["kind"], value="", label="A pair of the kind", min_width=160)
            prompt = gr.Dropdown(
                choices["prompt"], value="", label="Prompt", min_width=160, visible=len(choices["prompt"]) > 1
            )
            grounded = gr.Slider(0, 1, 0, step=0.05, label="A pair grounded below (0: any)", min_width=200)
            judged = "verdicts" in self.look.corpus.rows.columns
            accurate = gr.Slider(
                0, 1, 0, step=0.05, label="A pair judged accurate below (0: any)", min_width=200, visible=judged
            )
            style = gr.Dropdown(
                choices["style"] or [("any", "")],
                value="",
                label="Its training text in the style",
                min_width=160,
                visible=bool(choices["style"]),
            )
        return [status, reason, text, kind, prompt, grounded, accurate, style, split]

    def _served(self, asked: list[Any]) -> None:
        """Give programs the same two views, under names of their own."""
        hidden = gr.JSON(visible=False)
        number, button = gr.Number(visible=False, precision=0), gr.Button(visible=False)
        button.click(self.answers.list_rows, asked, hidden, api_name="list_rows")
        parts = [gr.HTML(visible=False) for _ in range(4)]
        button.click(self.answers.show_row, number, parts, api_name="show_row")


class _Try:
    """Documents that are pasted, a model, and what it makes of them."""

    def __init__(self, settings: PageSettings) -> None:
        self.settings = settings

    def build(self) -> list[Any]:
        """Lay out the tab; return the boxes of the documents."""
        models = self.settings.models
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                first = self._box(0)
                example = gr.Dropdown([("none", ""), *trying.EXAMPLES.items()], value="", label="Or an example")
                with gr.Accordion("More documents: a chain", open=False):
                    documents = [first, *(self._box(place) for place in range(1, trying.DOCUMENTS))]
                model = gr.Dropdown(list(models), value=models[0], label="Model")
                shots = gr.Slider(1, trying.DOCUMENTS, 2, step=1, label="Documents a chain (shots)")
                with gr.Accordion("More settings", open=False):
                    prompt = gr.Dropdown(
                        [("none", ""), *((name, name) for name in prompt_names())],
                        value="",
                        label="Prompt recipe (chat models)",
                    )
                    usual = recommended_sampling(models[0])
                    temperature = gr.Slider(0, 1.5, usual.temperature, step=0.1, label="Temperature (0: greedy)")
                    most = gr.Slider(50, 1000, usual.max_tokens, step=50, label="Tokens a completion at most")
                with gr.Row():
                    go = gr.Button("Write pairs", variant="primary", min_width=120)
                    stop = gr.Button("Stop", min_width=80)
            with gr.Column(scale=5, min_width=320):
                hint = "Paste a text or choose an example, or take a row of the corpus, and press “Write pairs”."
                result = gr.HTML(markup.message("Nothing was tried yet.", "", hint), elem_id="hs-trial")
                texts = gr.HTML("", elem_id="hs-trial-texts")
                ways = _WaysShown(Ways("hfsynth synthesize SOURCE corpus/", ""))
        example.input(lambda text: text, example, first, **_PRIVATE)
        inputs = [*documents, model, shots, prompt, temperature, most]
        running = go.click(
            self._try,
            inputs,
            [result, texts, *ways.outputs],
            api_name="try",
            concurrency_limit=1,
            show_progress="minimal",
        )
        stop.click(None, cancels=[running])
        return documents

    @staticmethod
    def _box(place: int) -> gr.Textbox:
        label, lines = ("Document", 10) if not place else (f"Document {place + 1}", 5)
        return gr.Textbox(label=label, lines=lines, max_length=trying.LONGEST)

    def _try(self, *given: Any) -> Iterator[list[Any]]:  # noqa: ANN401
        *texts, model, shots, prompt, temperature, most = given
        try:
            wanted = trying.Wanted(
                tuple(text or "" for text in texts),
                self._known(model),
                int(shots),
                prompt,
                float(temperature),
                int(most),
            )
            ways = wanted.ways(self.settings.engines)
            for trial in trying.try_documents(wanted, self.settings.engines):
                yield [trying.shown(trial), trying.texts(trial), ways.command, ways.python]
        except HfsynthError as error:
            yield [markup.failure(error), "", gr.skip(), gr.skip()]

    def _known(self, model: str) -> str:
        """Return the model if it is one of those that the page was started with: no other is ever loaded."""
        return model if model in self.settings.models else self.settings.models[0]


class _Mix:
    """The parts of a mixture, their shares by sliders, and exactly what they give."""

    def __init__(self, settings: PageSettings) -> None:
        self.settings = settings

    def build(self) -> None:
        """Lay out the tab."""
        parts = self.settings.parts
        if not parts:
            look = self.settings.look
            folder = look.location if look and look.corpus.folder else "CORPUS"
            first = f"Make training texts: hfsynth render {folder}"
            hint = f"{first}. Name other parts as the page is started: --augmented, --raw, --general."
            gr.HTML(markup.message("There is nothing to mix yet.", "", hint))
            return
        plan = mixing.Plan(parts, self.settings.tokenizer)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                weights = [
                    gr.Slider(0, 100, 0, step=1, label=f"{part.name}: {markup.one_line(part.location, 60)}")
                    for part in parts
                ]
                gr.HTML('<p class="hs-note">Shares in tokens, of their sum. All at 0: every part whole, once.</p>')
                budget = gr.Number(0, label="Tokens in all (0: as many as there are)", precision=0, minimum=0)
                repeat = gr.CheckboxGroup([part.name for part in parts], label="May start again when it runs out")
                seed = gr.Number(0, label="Seed", precision=0)
                with gr.Row():
                    go = gr.Button("Count tokens", variant="primary", min_width=120)
                    stop = gr.Button("Stop", min_width=80)
            with gr.Column(scale=5, min_width=320):
                told = markup.message("Nothing was counted yet.", "", "Set shares and press “Count tokens”.")
                result = gr.HTML(told, elem_id="hs-mixture")
                ways = _WaysShown(plan.ways())
        inputs: list[Any] = [budget, repeat, seed, *weights]
        for widget in inputs:
            widget.change(self._ways, inputs, ways.outputs, **_PRIVATE)
        running = go.click(
            self._count, inputs, [result, *ways.outputs], api_name="count", concurrency_limit=1, show_progress="minimal"
        )
        stop.click(None, cancels=[running])

    def _plan(self, *given: Any) -> mixing.Plan:  # noqa: ANN401
        budget, repeat, seed, *weights = given
        return mixing.planned(self.settings.parts, self.settings.tokenizer, weights, budget, repeat, seed)

    def _ways(self, *given: Any) -> list[str]:  # noqa: ANN401
        ways = self._plan(*given).ways()
        return [ways.command, ways.python]

    def _count(self, *given: Any) -> Iterator[list[Any]]:  # noqa: ANN401
        try:
            plan = self._plan(*given)
            ways = plan.ways()
            yield [markup.message("Counting…"), ways.command, ways.python]
            for counted in mixing.count(plan):
                yield [mixing.shown(counted), ways.command, ways.python]
        except HfsynthError as error:
            yield [markup.failure(error), gr.skip(), gr.skip()]
