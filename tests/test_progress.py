"""What a job shows before it has anything to count, and of documents that are under way."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from hfsynth.console import summary
from hfsynth.corpus import Corpus
from hfsynth.journal import JournalPaths
from hfsynth.phases import phase, phases
from hfsynth.progress import JournalView, Progress
from hfsynth.sessions import Session, Sessions
from hfsynth.stats import Counts

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
    at_work = replace(STARTED, updated=seen, working_from=began, working_to=began, counts=counts, written=100)
    sessions.write(at_work)
    found = view.progress()
    assert (found.in_flight, found.phase) == (60, "")
    assert found.seconds == pytest.approx(seen - began)
    sessions.write(replace(at_work, ended="done"))
    assert (view.progress().in_flight, view.progress().seconds) == (0, 0)
