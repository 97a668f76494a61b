"""What the page shows, as HTML: every text of a corpus is escaped here, and nothing in it is ever markup or run.

Braces and dollar signs are escaped too, for the page's library fills templates. Texts set their own direction of
writing. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from hfsynth.core.errors import HfsynthError
from hfsynth.core.records import Pair
from hfsynth.corpus.readme import printable
from hfsynth.page.marks import Span, answer_spans, foreign_spans
from hfsynth.page.rendered import RenderedText
from hfsynth.page.rows import CorpusRow
from hfsynth.quality.measures import grounding
from hfsynth.quality.task_categories import category_of

LONGEST = 50_000
"""Characters of a text that are shown at most."""
SCROLLED = 4_000
"""Characters from which a text scrolls in a place of its own."""

_SPECIAL = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})


def escaped(text: object) -> str:
    """Return a text as HTML that says the same; what is invisible or turns the direction of writing is a mark."""
    return escape(printable(str(text))).translate(_SPECIAL)


def one_line(text: str, length: int) -> str:
    """Return the beginning of a text as one plain line, without what is invisible."""
    line = printable(" ".join(text[: 4 * length].split()))
    return line if len(line) <= length else f"{line[: length - 1]}…"


def text_block(text: str, spans: Sequence[Span] = (), *, mark: str = "mark") -> str:
    """Return a text with marks; one that is very long is cut, and says so."""
    shown = text[:LONGEST]
    pieces, last = [], 0
    for start, end in spans:
        if end > len(shown):
            break
        pieces += [escaped(shown[last:start]), f"<{mark}>{escaped(shown[start:end])}</{mark.split()[0]}>"]
        last = end
    pieces.append(escaped(shown[last:]))
    cut = f'<p class="hs-note">The first {LONGEST:,} of {len(text):,} characters.</p>' if len(text) > LONGEST else ""
    long = ' tabindex="0" role="group" aria-label="A long text"' if len(text) > SCROLLED else ""
    return f'<div class="hs-text{" hs-long" if long else ""}" dir="auto"{long}>{"".join(pieces)}</div>{cut}'


def message(title: str, text: str = "", hint: str = "", *, alert: bool = False) -> str:
    """Return a state of the page in words: what is, and the next step."""
    step = f'<p class="hs-hint">{escaped(hint)}</p>' if hint else ""
    told = f"<p>{escaped(text)}</p>" if text else ""
    kind, role = ("hs-alert", "alert") if alert else ("hs-state", "status")
    return f'<div class="{kind}" role="{role}"><p><strong>{escaped(title)}</strong></p>{told}{step}</div>'


def failure(error: HfsynthError) -> str:
    """Return what went wrong and what to do next."""
    return message("This did not work.", error.message, error.hint, alert=True)


def document(row: CorpusRow, pair: int | None = None) -> str:
    """Return a row's document, with the words of one pair's answer marked, or of all; `pair` counts from 0."""
    if row.absent:
        return facts(row) + message("The document is not here yet.", row.absent)
    if not row.text:
        return message("This document is empty.", f"Its status is {row.status}." if row.status else "")
    chosen = row.pairs if pair is None else row.pairs[pair : pair + 1]
    spans = _united(span for one in chosen for span in answer_spans(row.text[:LONGEST], one.response))
    return facts(row) + text_block(row.text, spans)


def facts(row: CorpusRow) -> str:
    """Return what is known of a document beside its text."""
    cut = int(row.synthesis.get("truncated") or 0)
    told = {
        "id": row.id,
        "status": row.status,
        "chain": f"{row.chain}, shot {row.shot + 1}" if row.chain else "",
        "tokens": _tokens(row.synthesis),
        "prompt": row.synthesis.get("prompt") or "",
        "mined": "by rules" if row.synthesis.get("mined") else "",
        "not shown to the model": f"{cut:,} characters at the end" if cut else "",
        **{name: one_line(str(value), 80) for name, value in row.others.items() if value is not None},
    }
    return definitions({name: str(value) for name, value in told.items() if value})


def definitions(values: Mapping[str, str]) -> str:
    """Return names and values as a list of definitions."""
    items = "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="hs-facts">{items}</dl>' if items else ""


def pairs(row: CorpusRow, pair: int | None = None) -> str:
    """Return the pairs of a row, what was rejected, and what was thought or written instead."""
    if not row.pairs:
        why = row.rejected[0][0] if row.rejected else ""
        told = message("No pairs were kept.", f"The first reason: {why}." if why else "")
    else:
        items = (_pair(row, at, one, chosen=pair in (None, at)) for at, one in enumerate(row.pairs))
        told = f'<ol class="hs-pairs">{"".join(items)}</ol>'
    thought, written = row.synthesis.get("reasoning"), row.synthesis.get("rewritten")
    return (
        told
        + (f"<h4>Rejected</h4>{rejected(row.rejected)}" if row.rejected else "")
        + (folded("What the model thought", text_block(str(thought))) if thought else "")
        + (folded("The text that the model wrote", text_block(str(written)), shown=True) if written else "")
    )


def rejected(found: Sequence[tuple[str, str]]) -> str:
    """Return what was not kept, and why."""
    items = "".join(f"<li><code>{escaped(reason)}</code>{_lost(text)}</li>" for reason, text in found)
    return f'<ul class="hs-rejected">{items}</ul>'


def chain(rows: Sequence[CorpusRow], number: int) -> str:
    """Return the documents of a chain in order, each with its pairs; that of row `number` is open."""
    if len(rows) == 1:
        return message("This document is a chain of its own.", "Nothing stands before it in the prompt.")
    return f'<ol class="hs-chain">{"".join(_shot(row, shown=row.number == number) for row in rows)}</ol>'


def rendered(found: RenderedText) -> str:
    """Return a training text as it stands in the corpus, its pairs marked where it says where they are."""
    told = {
        "style": found.style.replace("_", " "),
        "split": found.split,
        "documents": f"{found.documents:,}",
        "pairs": f"{found.pairs:,}",
        "tokens": "" if found.tokens is None else f"{found.tokens:,}",
    }
    facts = definitions({name: value for name, value in told.items() if value})
    return f"<h4>The training text of the corpus</h4>{facts}{text_block(found.text, found.spans)}"


def folded(title: str, content: str, *, shown: bool = False) -> str:
    """Return something that is shown when its title is chosen. `content` is HTML."""
    return f"<details{' open' if shown else ''}><summary>{escaped(title)}</summary>{content}</details>"


def bars(title: str, values: Mapping[str, int]) -> str:
    """Return numbers as a table with bars, readable without them."""
    most = max(values.values(), default=0)
    if not most:
        return ""
    total = sum(values.values())
    rows = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td class="hs-number">{number:,}</td>'
        f'<td class="hs-number">{number / total:.1%}</td>'
        f'<td class="hs-bar"><div style="width:{100 * number / most:.1f}%"></div></td></tr>'
        for name, number in values.items()
    )
    head = "<tr><td></td><th scope='col'>number</th><th scope='col'>share</th><td></td></tr>"
    return (
        f'<table class="hs-bars"><caption>{escaped(title)}</caption><thead>{head}</thead><tbody>{rows}</tbody></table>'
    )


def counted(number: int, what: str) -> str:
    """Return a number of things in words: `1 pair`, `2 pairs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> str:
    """Return a table; numbers are set right."""
    titles = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return (
        f'<table class="hs-table"><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f'<td class="hs-number">{value:,}</td>'
    return f'<td class="hs-number">{value:.2%}</td>' if isinstance(value, float) else f"<td>{escaped(value)}</td>"


def _tokens(synthesis: Mapping[str, object]) -> str:
    prompt, output = synthesis.get("prompt_tokens"), synthesis.get("output_tokens")
    return f"{prompt:,} in the prompt, {output:,} written" if isinstance(prompt, int) and prompt else ""


def _united(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _pair(row: CorpusRow, at: int, pair: Pair, *, chosen: bool) -> str:
    text = row.text[:LONGEST]
    score = f"{grounding(text, pair.response):.2f}" if row.text else ""
    told = {"kind": category_of(pair).value.replace("_", " "), "grounding": score, **_verdict(row, at)}
    badges = "".join(f"<span>{escaped(name)} {escaped(value)}</span>" for name, value in told.items() if value)
    foreign = [] if row.absent else foreign_spans(text, pair.response)
    answer = text_block(pair.response, foreign, mark='u title="not in the document"')
    question = text_block(pair.instruction)
    return (
        f'<li{"" if chosen else " class=hs-dim"}><div class="hs-asked">{question}</div>'
        f'<div class="hs-said">{answer}</div><div class="hs-badges">{badges}</div></li>'
    )


def _verdict(row: CorpusRow, at: int) -> dict[str, str]:
    if at >= len(row.verdicts):
        return {}
    found = row.verdicts[at]
    scores = {name: found.get(name) for name in ("relevance", "accuracy")}
    told = {name: f"{score:.2f}" for name, score in scores.items() if isinstance(score, float)}
    return told or {"unjudged": str(found.get("unjudged") or "")}


def _lost(text: str) -> str:
    """Return what was rejected; a pair that was filtered is there as JSON."""
    try:
        found = json.loads(text) if text.startswith("{") else None
    except ValueError:
        found = None
    if isinstance(found, dict) and {"instruction", "response"} <= found.keys():
        return text_block(str(found["instruction"])) + text_block(str(found["response"]))
    return text_block(text) if text else ""


def _shot(row: CorpusRow, *, shown: bool) -> str:
    follows = " after the shot before" if row.synthesis.get("follows") else ""
    name = f"Shot {row.shot + 1}" if row.under_way else f"Row {row.number + 1:,}"
    title = f"{name}: {row.status}, {counted(len(row.pairs), 'pair')}{follows} — {one_line(row.text, 60)}"
    return f"<li>{folded(title, text_block(row.text) + pairs(row), shown=shown)}</li>"
