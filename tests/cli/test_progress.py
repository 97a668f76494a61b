"""What a job shows before it has anything to count, and of documents that are under way."""

from __future__ import annotations

import io
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from hfsynth.cli import console
from hfsynth.cli.console import summary
from hfsynth.cli.publish import sending
from hfsynth.core.conditions import Condition
from hfsynth.core.phases import phase, phases
from hfsynth.core.records import Counts, Document, Synthesized
from hfsynth.corpus.folder import Corpus
from hfsynth.engine.protocol import Chain, Generation
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.driver import Early
from hfsynth.job.journal import JournalPaths
from hfsynth.job.progress import JournalView, Progress
from hfsynth.job.sessions import Session, Sessions
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.synthesis.chains import Chainer

NOW = time.time()
STARTED = Session("one", "here", 1, "", NOW - 60, NOW)


def test_phases_have_a_beginning_and_an_end() -> None:
    before = phases()
    with phase("loading"):
        name, since, until = phases()[-1]
        assert (name, until) == ("loading", 0.0) and since > 0
        with pytest.raises(ValueError, match="inner"), phase("inner"):
            raise ValueError("inner")
    assert [name for name, _, _ in phases()[len(before) :]] == ["loading", "inner"]
    assert all(until >= since > 0 for _, since, until in phases())


def test_a_session_says_what_it_is_about() -> None:
    loading = replace(STARTED, phases=[["starting vLLM", NOW - 20, NOW - 12], ["loading the model", NOW - 12, 0.0]])
    loaded = replace(loading, phases=[["loading the model", NOW - 12, NOW - 5]], working_from=NOW - 5)
    assert STARTED.phase == ("starting", pytest.approx(60))
    assert loading.phase == ("loading the model", pytest.approx(12))
    assert loaded.phase == ("reading the first documents", pytest.approx(5))
    assert replace(loaded, written=3).phase == ("", 0.0)


def test_the_display_says_the_phase_where_it_said_zeros_and_counts_tokens_as_they_are_written() -> None:
    nothing = Progress(Counts(), 0, 24, 0.0, phase="loading the model", phase_seconds=12.3)
    assert summary(nothing) == "loading the model: 12 s"
    writing = Progress(Counts(), 0, 24, 10.0, workers=1, in_flight=1500)
    assert summary(writing) == "0 of 24 rows, 0 documents, 0 pairs, 1,500 tokens (150/s)"
    again = replace(nothing, rows=4)
    assert summary(again) == "4 of 24 rows, 0 documents, 0 pairs, 0 tokens (0/s), loading the model: 12 s"


def test_a_job_tells_tokens_of_documents_that_are_under_way(tmp_path: Path) -> None:
    view, sessions = JournalView(Corpus(tmp_path)), Sessions(JournalPaths(Corpus(tmp_path).journal).sessions)
    assert view.progress().phase == "starting"
    counts, began, seen = Counts(Counter(ok=1), output_tokens=40), time.time() - 30, time.time()
    at_work = replace(
        STARTED, updated=seen, working_from=began, working_to=began, counts=counts, written=100, early_documents=2
    )
    sessions.write(at_work)
    found = view.progress()
    assert (found.in_flight, found.phase, found.documents_seen) == (60, "", 2)
    assert found.seconds == pytest.approx(seen - began)
    sessions.write(replace(at_work, ended="done"))
    assert (view.progress().in_flight, view.progress().seconds) == (0, 0)


@pytest.mark.parametrize("keep", [(), (Condition.parse("grounding>=0.1"),)], ids=["all pairs", "some pairs"])
def test_the_pairs_of_a_first_shot_are_seen_before_its_chain_has_ended(keep: tuple[Condition, ...]) -> None:
    engine, early = ScriptedEngine(), Early()
    chainer = Chainer(InstructionPretrain(engine.tokenizer), window=4096, max_tokens=256, shots=2, keep=keep)
    heard, seen = early.heard(chainer), []

    def chain() -> Chain[list[Synthesized]]:
        inner = heard.chain([Document(str(n), f"The lamp of tower {n} is lit at night.") for n in range(2)])
        request = next(inner)
        while True:
            completion = yield request
            try:
                request = inner.send(completion)
            except StopIteration as end:
                return end.value
            seen.append((early.documents, early.pairs))

    (results,) = engine.run([chain()], Generation())
    assert seen == ([(0, 0)] if keep else [(1, len(results[0].pairs))])
    assert keep or results[0].pairs
    early.ended(results)
    assert (early.documents, early.pairs) == (0, 0)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(on: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, quiet: bool = False) -> str:
    """Return what the one display shows of a count, of a job and of any other work."""
    monkeypatch.setattr(sys, "stderr", on)
    with console.counting("texts", quiet=quiet) as count:
        for number in range(1, 1001):
            count(number, 1000)
    with console.job_progress(quiet=quiet) as display:
        display(Progress(Counts(), 0, 24, 0.0, phase="loading the model", phase_seconds=12.3))
    with console.progress(quiet=quiet, estimate=True) as show:
        show(0, 4, "no step")
        show(4, 4, "step 4 [of 4]")
    return on.getvalue()


def test_the_display_is_a_bar_on_a_terminal_lines_elsewhere_and_nothing_when_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    lines = shown(io.StringIO(), monkeypatch)
    assert lines.splitlines() == ["1,000 of 1,000 texts", "loading the model: 12 s", "step 4 [of 4]"]
    bar = shown(_Terminal(), monkeypatch)
    assert "\x1b[" in bar and "\u2501" in bar  # drawn over itself, with a bar
    assert all(line in bar for line in lines.splitlines())  # the last figures are drawn, not those of a moment before
    assert shown(io.StringIO(), monkeypatch, quiet=True) == shown(_Terminal(), monkeypatch, quiet=True) == ""


def test_elsewhere_a_line_comes_every_so_many_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setattr(console, "_LINE_EVERY", 0.0)
    with console.counting("texts", quiet=False) as count:
        count(1)
        count(2)
    assert errors.getvalue() == "1 texts\n2 texts\n"


def test_a_push_tells_how_fast_it_is() -> None:
    told: list[tuple[int, int | None, str]] = []
    sent = sending(lambda done, total, words: told.append((done, total, words)), iter([50.0, 54.0]).__next__)
    sent(1_000_000, 9_000_000)
    sent(9_000_000, 9_000_000)
    assert told == [
        (1_000_000, 9_000_000, "1.0 MB of 9.0 MB sent"),
        (9_000_000, 9_000_000, "9.0 MB of 9.0 MB sent, 2.0 MB/s"),
    ]
