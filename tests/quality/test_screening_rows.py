"""Rows that are screened: what is marked, what is taken out and why, and that nothing disappears."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from identifier_makers import MAKERS

from hfsynth.core.errors import ConfigError
from hfsynth.core.screening import Screening, screening_sentences, steps_of
from hfsynth.quality.identifiers import identifiers
from hfsynth.quality.marking import mark_of, marked
from hfsynth.quality.screening import Repeated, Screened, screened, without_repeated

MAIL = "jane@acme.io"


def row(text: str | None, *pairs: tuple[str, str], **synthesis: Any) -> dict[str, Any]:  # noqa: ANN401
    status = "ok" if pairs else "no_pairs"
    made = {"status": status, "rejected": [], "truncated": 0, **synthesis}
    return {"text": text, "pairs": [{"instruction": q, "response": a} for q, a in pairs], "synthesis": made}


def test_a_report_counts_and_changes_nothing() -> None:
    given = row(f"Write to {MAIL} or {MAIL}.", ("Who?", "Jane."), ("How?", f"By {MAIL} or +44 20 7946 0958."))
    found = screened(given, Screening(pii="report"))
    assert found.row is given
    [step] = steps_of(Screening(pii="report"), found.counts)
    assert (step["documents"], step["pairs"], step["documents_out"], step["pairs_out"]) == (1, 1, 0, 0)
    assert step["kinds"] == {"email": {"documents": 2, "pairs": 1}, "phone": {"documents": 0, "pairs": 1}}


def test_a_mark_takes_the_place_of_each_wherever_the_row_quotes_it() -> None:
    filtered = json.dumps({"instruction": "Q", "response": MAIL})
    rejected = [{"reason": "no_answer", "text": f"Ask {MAIL}"}, {"reason": "filtered_grounding", "text": filtered}]
    quoted = {"rejected": rejected, "rewritten": f"Anew: {MAIL}", "reasoning": None}
    given = row(f"Ö {MAIL}.", (f"Is {MAIL} right?", "Yes."), **quoted)
    found = screened(given, Screening(pii="mark")).row
    assert MAIL not in json.dumps(found)
    assert found["text"] == "Ö <EMAIL>." and found["pairs"] == [
        {"instruction": "Is <EMAIL> right?", "response": "Yes."}
    ]
    texts = [one["text"] for one in found["synthesis"]["rejected"]]
    assert texts[0] == "Ask <EMAIL>" and json.loads(texts[1]) == {"instruction": "Q", "response": "<EMAIL>"}
    assert found["synthesis"]["rewritten"] == "Anew: <EMAIL>" and found["synthesis"]["status"] == "ok"
    assert MAIL in json.dumps(given)  # what went in is as it was


def test_a_row_without_identifiers_is_the_very_same() -> None:
    given = row("Nothing here.", ("Q?", "A."), rejected=[{"reason": "no_answer", "text": "Why?"}])
    assert screened(given, Screening(pii="mark")).row is given


@pytest.mark.parametrize(("seen", "left"), [(4, "And <EMAIL> then."), (8, " then."), (20, "n.")])
def test_what_the_model_did_not_see_is_what_is_behind_the_same_place(seen: int, left: str) -> None:
    text = f"And {MAIL} then."
    found = screened(row(text, truncated=len(text) - seen), Screening(pii="mark")).row
    assert found["text"][len(found["text"]) - found["synthesis"]["truncated"] :] == left.removeprefix("And ")


def test_five_hundred_identifiers_of_every_kind_are_marked_and_none_is_left() -> None:
    draw = random.Random(5)
    for kind, make in MAKERS.items():
        planted = [make(draw) for _ in range(500)]
        given = [row(f"Word {one}, and more.", ("What is it?", f"It is {one}.")) for one in planted]
        counts: Counter[str] = Counter()
        for one, before in zip(planted, given, strict=True):
            found = screened(before, Screening(pii="mark"))
            counts += found.counts
            assert found.row["text"] == f"Word {marked(one)}, and more." and marked(one) in map(mark_of, MAKERS)
            assert not identifiers(json.dumps(found.row))
        assert counts[f"documents/{kind}"] == counts[f"pairs/{kind}"] == 500


def test_drop_takes_a_document_out_with_its_pairs_and_elsewhere_the_pairs_alone() -> None:
    drop = Screening(pii="drop")
    document = screened(row(f"By {MAIL}.", ("Q1", "A1"), ("Q2", MAIL)), drop)
    assert document.row["pairs"] == [] and document.row["synthesis"]["status"] == "screened"
    rejected = document.row["synthesis"]["rejected"]
    assert [one["reason"] for one in rejected] == ["identifier"] * 3 and rejected[-1]["text"] == "email"
    assert [json.loads(one["text"])["response"] for one in rejected[:2]] == ["A1", "<EMAIL>"]
    assert MAIL not in json.dumps(document.row)
    pairs = screened(row("Text.", ("Q1", "A1"), ("Q2", MAIL)), drop)
    assert pairs.row["pairs"] == [{"instruction": "Q1", "response": "A1"}] and pairs.row["synthesis"]["status"] == "ok"
    alone = screened(row("Text.", ("Q2", MAIL)), drop)
    assert alone.row["synthesis"]["status"] == "no_pairs"
    assert document.counts["out/documents/identifier"] == 1 and document.counts["out/pairs/identifier"] == 2
    written = screened(row("Text.", ("Q2", MAIL), rewritten="Anew."), drop)
    assert written.row["synthesis"]["status"] == "ok"  # it has a text still


def test_only_documents_in_the_languages_stay_and_each_other_says_which_it_is() -> None:
    german = row("Die Brücke wurde neunzehnhundert eröffnet und ist über einen Kilometer lang.", ("Wann?", "1900."))
    english = row("The bridge was opened in nineteen hundred, and is more than a kilometre long.", ("When?", "1900."))
    empty, short = row("  ", status="empty"), row("12 34")
    wanted = Screening(languages=("en",))
    found = [screened(one, wanted) for one in (german, english, empty, short)]
    assert [one.row["synthesis"]["status"] for one in found] == ["screened", "ok", "empty", "screened"]
    assert [one["text"] for one in found[0].row["synthesis"]["rejected"]][-1] == "de"
    [step] = steps_of(wanted, sum((one.counts for one in found), Counter()))
    assert step["found"] == {"de": 1, "unknown": 1} and (step["documents_out"], step["pairs_out"]) == (2, 1)
    assert screened(short, Screening(languages=("unknown",))).row is short


def test_duplicates_say_of_what_and_verdicts_go_with_their_pairs() -> None:
    verdicts = [{"relevance": 0.5, "accuracy": number, "unjudged": None} for number in (0.1, 0.2)]
    given = {**row("Text.", ("Q1", "A1"), ("Q2", "A2")), "verdicts": verdicts}
    pair = without_repeated(Screened(given), Repeated(pairs=frozenset({0}))).row
    assert pair["pairs"] == [{"instruction": "Q2", "response": "A2"}] and pair["verdicts"] == verdicts[1:]
    left = json.loads(pair["synthesis"]["rejected"][0]["text"])
    assert left == {"instruction": "Q1", "response": "A1", "relevance": 0.5, "accuracy": 0.1}
    document = without_repeated(Screened(given), Repeated("row 3 of train-00000-of-00001.parquet", exact=True)).row
    assert document["verdicts"] == [] and document["synthesis"]["status"] == "screened"
    assert document["synthesis"]["rejected"][-1]["text"] == "exact duplicate of row 3 of train-00000-of-00001.parquet"


def test_a_document_that_was_taken_out_before_keeps_its_reason() -> None:
    out = screened(row(f"Die Brücke wurde eröffnet und ist lang, sagt {MAIL} uns."), Screening(languages=("en",))).row
    again = screened(out, Screening(pii="drop", languages=("fr",)))
    assert [one["reason"] for one in again.row["synthesis"]["rejected"]] == ["language"]
    assert "<EMAIL>" in again.row["text"]


def test_nothing_or_nonsense_asked_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="Nothing was asked for") as nothing:
        Screening()
    assert "--duplicates" in nothing.value.hint
    with pytest.raises(ConfigError, match="mark, drop, report"):
        Screening(pii="hide")


def test_what_was_not_done_is_said() -> None:
    everything = "Not screened for benchmark questions, personal identifiers, duplicates or languages."
    assert screening_sentences({}) == [everything]
    steps = steps_of(Screening(pii="mark"), Counter({"holding/documents": 2, "documents/email": 3}))
    said = screening_sentences({"screen": {"steps": steps}})
    assert said[0].endswith("marks in 2 documents and 0 pairs (3 email).")
    assert said[1] == "Not screened for benchmark questions, duplicates or languages."
