"""The page as programs and browsers get it from a real server: the scripted engine, hostile texts, refusals."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from page_corpora import HOSTILE, SAID, command, everything, opened
from typer.testing import CliRunner

from hfsynth.cli.app import app
from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.errors import ConfigError
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine, first_sentences
from hfsynth.job.run import synthesize
from hfsynth.models.resolve import recommended_sampling
from hfsynth.page import markup, mixing, trying
from hfsynth.page.commands import mixing as mixing_ways
from hfsynth.page.filters import Filters
from hfsynth.page.looking import CorpusLook
from hfsynth.page.start import build_page
from hfsynth.texts.calls import render

pytest.importorskip("gradio")
TEXT = "The lamp was lit in 1823 at Cordouan, and every ship in the bay saw it that night."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(tmp_path_factory.mktemp("page") / "corpus")


@pytest.fixture(scope="module")
def page(corpus: Path) -> Iterator[str]:
    with opened(str(corpus), "--engine", "scripted") as address:
        yield address


@pytest.fixture(scope="module")
def client(page: str) -> Iterator[Any]:
    from gradio_client import Client

    made = Client(page, verbose=False)
    yield made
    made.close()


class Tags(HTMLParser):
    """The tags and attributes that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(name for name, _ in attrs)}

    def handle_data(self, data: str) -> None:
        self.text += data


OURS = {"div", "dl", "dt", "dd", "mark", "u", "ol", "ul", "li", "p", "strong", "code", "h2", "h4", "span", "details"}
OURS |= {"summary", "section", "table", "caption", "thead", "tbody", "tr", "th", "td", "progress"}
OURS |= {"class", "dir", "role", "title", "open", "tabindex", "aria-label", "scope", "style", "max", "value"}


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as response:
        return str(response.read().decode())


def answer(client: Any, name: str, *given: object) -> Any:  # noqa: ANN401
    return client.predict(*given, api_name=f"/{name}")


def test_rows_can_be_listed_and_shown(client: Any) -> None:  # noqa: ANN401
    listed = answer(client, "list_rows", "no_pairs", "", "", "", "", 0, 0, "", "train")
    assert [number for _, number in listed["rows"]] == [2] and "looked at rows 1 to 13 of 13" in listed["said"]
    document, pairs, chain, texts = answer(client, "show_row", 1)
    assert "<mark>Andes</mark>" in document and "no_answer" in pairs and "Row 1" in chain and "Andes" in texts


@pytest.mark.parametrize("number", range(6, 6 + len(HOSTILE)))
def test_hostile_texts_are_text(client: Any, number: int) -> None:  # noqa: ANN401
    parts = answer(client, "show_row", number)
    for part in parts:
        assert Tags(part).found <= OURS
        assert not re.search(r"\$\{|\{\{|[\u202e\u200f]", part)
    shown = Tags(parts[0]).text
    assert HOSTILE[number - 6][:20].strip("\u202e")[:6] in shown or "\u202e" in HOSTILE[number - 6]


def test_documents_are_tried_shot_by_shot(client: Any) -> None:  # noqa: ANN401
    job = client.submit(TEXT, "A bond is a loan. It can be sold.", "", "scripted", 2, "", 0, 400, api_name="/try")
    job.result(timeout=60)
    result, texts, command, python = job.outputs()[-1]
    assert "4 pairs in" in result and "The prompt as it was sent" in result and "&lt;CON&gt;" in result
    assert result.count("<section") == 2 and Tags(result).found <= OURS
    assert all(name in texts for name in ("classic", "dialogue", "numbered", "inline few shot", "next turn"))
    assert command.startswith("hfsynth synthesize documents.jsonl corpus/ --model scripted --shots 2")
    compile(python, "python", "exec")


def test_what_cannot_be_tried_is_said_in_words(client: Any) -> None:  # noqa: ANN401
    assert "Paste a text" in answer(client, "try", "", "", "", "scripted", 1, "", 0, 400)[0]
    long = answer(client, "try", "x" * 20_001, "", "", "scripted", 1, "", 0, 400)
    assert "20,000" in str(long[0])


def test_nothing_outside_the_corpus_is_served(page: str, corpus: Path) -> None:
    (corpus.parent / "secret.txt").write_text("secret")
    for path in ("/etc/passwd", corpus.parent / "secret.txt", corpus / "stats.json", f"{corpus}/../secret.txt"):
        for route in ("gradio_api/file=", "file=", "gradio_api/file/"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{page}{route}{path}", timeout=10)
            refused.value.close()
            assert refused.value.code in (403, 404)


def test_the_page_asks_nothing_of_others_and_names_no_token(page: str) -> None:
    html = fetched(page)
    config = json.loads(fetched(f"{page}config"))
    assert config["analytics_enabled"] is False and not config.get("is_space") and config.get("share_url") is None
    assert "fonts.googleapis" not in html
    assert not {"list_rows", "show_row", "try"} - {one["api_name"] for one in config["dependencies"]}


def test_a_token_of_the_environment_is_nowhere_in_the_page(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretOfTheEnvironment")
    with opened(str(corpus), "--engine", "scripted") as address:
        for path in ("", "config", "gradio_api/info", "theme.css"):
            assert "hf_secret" not in fetched(f"{address}{path}"), path


def test_names_of_others_that_lead_here_are_refused(page: str) -> None:
    asked = urllib.request.Request(page, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=10)
    refused.value.close()
    assert refused.value.code == 400


def test_a_model_that_the_page_was_not_started_with_is_never_loaded(client: Any) -> None:  # noqa: ANN401
    with pytest.raises(Exception, match="is not in the list of choices"):
        answer(client, "try", TEXT, "", "", "some/other-model", 1, "", 0, 400)


def test_a_page_without_a_corpus_and_one_of_nothing(tmp_path: Path) -> None:
    with opened("--engine", "scripted") as address:
        assert "No corpus was named" in fetched(f"{address}config")
    refused = subprocess.run(command(str(tmp_path / "nothing")), capture_output=True, text=True)
    assert refused.returncode == 1 and "is no folder" in refused.stderr and "hfsynth synthesize" in refused.stderr


def test_without_gradio_the_next_step_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfsynth.page.start.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed") as missing:
        build_page()
    assert "pip install 'hfsynth[app]'" in missing.value.hint


def test_pairs_come_before_a_trial_has_ended() -> None:
    wanted = trying.Wanted((TEXT, TEXT, TEXT), "scripted", shots=3)
    seen = list(trying.try_documents(wanted, ScriptedEngine(latency=0.05)))
    assert [len(trial.shots) for trial in seen if not trial.ended][-1] == 3
    assert seen[-1].ended and len(seen[-1].rows) == 3 and seen[-1].rows[2].synthesis["follows"]
    assert TEXT in seen[-1].shots[2].prompt and "How does it end?" in trying.shown(seen[-1])
    assert "in the prompt" in trying.shown(seen[-1])


def test_rules_need_no_model_and_read_each_document_by_itself() -> None:
    *_, trial = trying.try_documents(trying.Wanted((TEXT, "Tides are the rise of the sea."), "mined", shots=2))
    assert trial.ended and trial.wanted.shots == 1 and trial.rows[0].pairs
    assert "--shots 1" in trial.wanted.ways(trying.Engines()).command


def test_an_engine_and_its_arguments_are_in_the_command() -> None:
    engines = trying.Engines("server", {"base_url": "http://host:8000/v1", "timeout": 5})
    ways = trying.Wanted((TEXT,), "some/model", temperature=0.5).ways(engines)
    assert "--temperature 0.5 --engine server --base-url http://host:8000/v1 --engine-arg timeout=5" in ways.command
    assert "engine='server', engine_args={'base_url'" in ways.python
    with pytest.raises(ConfigError, match="engine"):
        trying.Engines("nonsense")


def test_a_trial_samples_as_its_model_recommends_and_so_does_its_command() -> None:
    wanted = trying.Wanted((TEXT,), "embedded", max_tokens=100)
    assert wanted.sampling == replace(recommended_sampling("embedded"), max_tokens=100)
    assert wanted.sampling.frequency_penalty > 0
    ways = wanted.ways(trying.Engines())
    assert "--max-tokens 100" in ways.command and "penalty" not in ways.command
    assert "Sampling(max_tokens=100, frequency_penalty=0.5)" in ways.python
    usual = trying.Wanted((TEXT,), "embedded").ways(trying.Engines())
    assert "ampling" not in usual.python and "--max-tokens" not in usual.command


def test_one_trial_runs_at_a_time_and_one_that_was_left_ends() -> None:
    first = trying.try_documents(trying.Wanted((TEXT,), "scripted"), ScriptedEngine(latency=0.2))
    next(first)
    with pytest.raises(ConfigError, match="Another trial"):
        next(trying.try_documents(trying.Wanted((TEXT,), "scripted"), ScriptedEngine()))
    first.close()  # type: ignore[attr-defined]
    assert list(trying.try_documents(trying.Wanted((TEXT,), "scripted"), ScriptedEngine()))[-1].ended


def test_an_error_of_a_model_ends_the_trial_and_not_the_page() -> None:
    def broken(prompt: str) -> str:
        raise ZeroDivisionError("no luck")

    with pytest.raises(Exception, match="no luck"):
        list(trying.try_documents(trying.Wanted((TEXT,), "scripted"), ScriptedEngine(broken)))
    assert first_sentences("<CON> a </CON>")


def test_a_running_job_is_followed(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps({"text": f"Document {n}: {TEXT}"}) + "\n" for n in range(6)))
    root, recipe = tmp_path / "corpus", SynthesizerConfig(model="scripted", shots=1)
    synthesize(Source(str(source)), root, recipe, engine=ScriptedEngine(), shard_rows=2, shards=(0, 1))
    look = CorpusLook(str(root))
    assert "unfinished" in look.summary() and len(look.listed(Filters()).rows) == 2
    synthesize(Source(str(source)), root, recipe, engine=ScriptedEngine(), shard_rows=2)
    look.again()
    assert "finished" in look.summary() and len(look.listed(Filters()).rows) == 6
    assert not look.corpus.running


def test_an_empty_corpus_and_no_match_say_the_next_step(tmp_path: Path, corpus: Path) -> None:
    look = CorpusLook(str(corpus))
    assert "No row fits" in look.listed(Filters(status="failed")).said
    assert look.listed(Filters()).next is None
    (tmp_path / "synthesizer_config.json").write_text("{}")
    assert "hfsynth synthesize" in CorpusLook(str(tmp_path)).listed(Filters()).said
    assert "no figures yet" in CorpusLook(str(tmp_path)).plots()


def test_the_python_lines_of_a_view_give_the_same_rows(corpus: Path) -> None:
    look = CorpusLook(str(corpus))
    for filters in (
        Filters(status="no_pairs"),
        Filters(reason="no_answer"),
        Filters(text="andes"),
        Filters(grounding=0.5),
        Filters(kind="when"),
    ):
        scope: dict[str, Any] = {}
        exec(look.ways(filters, "train").python.rpartition("print")[0], scope)
        expected = [number for _, number in look.listed(filters).rows]
        assert scope["rows"]["id"] == [f"doc-{number}" for number in expected], filters


def test_a_mixture_is_counted_exactly_before_it_is_written(tmp_path: Path, tiny_llama: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps({"text": f"Document {n}: {TEXT}"}) + "\n" for n in range(6)))
    root = tmp_path / "corpus"
    synthesize(Source(str(source)), root, SynthesizerConfig(model="scripted"), engine=ScriptedEngine())
    render(root, seed=0)
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": f"Raw {n}. {TEXT}"}) + "\n" for n in range(6)))
    parts = mixing.named_parts({"augmented": [str(root)], "raw": [str(raw)]})
    plan = mixing.Plan(parts, str(tiny_llama), {"augmented": 3, "raw": 1})
    *_, counted = mixing.count(plan)
    assert counted.ended and plan.ratios == {"augmented": 0.75, "raw": 0.25}
    assert "raw" in mixing.shown(counted) and plan.ways().command.startswith("hfsynth mix mixed/ --augmented")

    words = plan.ways().command.replace("mixed/", str(tmp_path / "mixed")).split()[1:]
    done = CliRunner().invoke(app, [*words, "--json"])
    made = json.loads(done.stdout)
    assert done.exit_code == 0 and made["tokens"] == counted.report.tokens
    assert [part["tokens"] for part in made["parts"]] == [part.tokens for part in counted.report.parts]
    compile(plan.ways().python, "python", "exec")
    with pytest.raises(ConfigError, match="no part"):
        list(mixing.count(mixing.Plan(parts, str(tiny_llama), {"augmented": 0.0, "raw": 0.0})))


def test_commands_are_quoted_for_the_shell() -> None:
    ways = mixing_ways([("raw", "raw", "a b.txt; rm x")], tokenizer="gpt2", ratios=None, budget_tokens=None)
    assert "'a b.txt; rm x'" in ways.command and "'a b.txt; rm x'" in ways.python


def test_long_texts_are_cut_and_say_so() -> None:
    shown = markup.text_block("x" * 60_000)
    assert "The first 50,000 of 60,000 characters" in shown and len(shown) < 51_000


def test_an_address_that_is_taken_and_one_that_others_reach(page: str, corpus: Path) -> None:
    port = page.rsplit(":", 1)[1].strip("/")
    refused = subprocess.run(
        command(str(corpus), "--engine", "scripted", "--port", port), capture_output=True, text=True
    )
    assert refused.returncode == 2 and "--port" in refused.stderr
    with opened(str(corpus), "--engine", "scripted", "--host", "0.0.0.0") as address:
        assert address  # and it is closed at once
    assert "there is no password" in SAID[-1] and "Ctrl-C closes the page" in SAID[-1]
