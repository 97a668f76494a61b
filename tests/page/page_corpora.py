"""Corpora for the tests of the page, small with everything in them or large in seconds, and the page as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from started import start_process

from hfsynth.corpus.parquet import output_schema
from hfsynth.corpus.readme import configured_readme

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "</textarea></div><h1 id=taken>Taken</h1>",
    "${document.title = 'taken'} {{constructor.constructor('return this')()}} {%raw%}",
    "[a](javascript:alert(1)) `code` **bold** # heading $x^2$",
    "\u202etxt.exe \u200f\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \x07\x00",
    "x" * 5000,
]
REJECTED = [{"reason": "no_answer", "text": "What is <b>that</b>?"}]


def row(
    number: int,
    text: str,
    pairs: Sequence[tuple[str, str]] = (),
    *,
    status: str = "ok",
    chain: str = "",
    shot: int = 0,
    rejected: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    synthesis = {
        "status": status,
        "chain": chain or f"chain-{number}",
        "shot": shot,
        "follows": shot > 0,
        "prompt_tokens": 10,
        "output_tokens": 5,
        "cached_tokens": 2,
        "truncated": 0,
        "finish_reason": "stop",
        "rejected": list(rejected),
    }
    told = [{"instruction": asked, "response": said} for asked, said in pairs]
    return {"id": f"doc-{number}", "text": text, "domain": "tests", "pairs": told, "synthesis": synthesis}


def small_corpus(root: Path, rows: Sequence[Mapping[str, Any]], *, files: int = 1, shots: int = 2) -> Path:
    """Write a finished corpus of these rows, without a manifest, as a repo of the Hub is."""
    (root / "pairs").mkdir(parents=True)
    size = -(-len(rows) // files)
    for number in range(files):
        name = f"train-{number:05d}-of-{files:05d}.parquet"
        some = list(rows[number * size : (number + 1) * size])
        pq.write_table(pa.Table.from_pylist(some, schema=_schema(rows)), root / "pairs" / name)
    counted: dict[str, int] = {}
    for one in rows:
        counted[one["synthesis"]["status"]] = counted.get(one["synthesis"]["status"], 0) + 1
    lost = [found["reason"] for one in rows for found in one["synthesis"]["rejected"]]
    stats = {
        "documents": counted,
        "rejected": {reason: lost.count(reason) for reason in lost},
        "pairs": sum(len(one["pairs"]) for one in rows),
        "pairs_per_document": {"2": len(rows)},
        "prompt_tokens": 10 * len(rows),
        "cached_tokens": 2 * len(rows),
        "output_tokens": 5 * len(rows),
    }
    (root / "stats.json").write_text(json.dumps(stats), encoding="utf-8")
    recipe = {"model": "scripted", "shots": shots, "prompt_format": "instruction-pretrain"}
    (root / "synthesizer_config.json").write_text(json.dumps(recipe), encoding="utf-8")
    (root / "README.md").write_text(configured_readme("", {"pairs": {"train": "pairs/train-*.parquet"}}), "utf-8")
    return root


def _schema(rows: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """Return the columns of these rows, as a job has them; other columns are of whatever type they are."""
    ours = output_schema(recipe=False)
    others = pa.Table.from_pylist(list(rows)).schema
    return pa.schema([ours.field(own.name) if own.name in ours.names else own for own in others])


def everything(root: Path) -> Path:
    """Write a corpus with chains, every status, rejections and hostile texts."""
    rows = [
        row(0, "The lamp was lit in 1823 at Cordouan.", [("When?", "In 1823."), ("Who?", "Napoleon")], chain="a"),
        row(1, "Potatoes grow in the Andes.", [("Where?", "In the Andes.")], chain="a", shot=1, rejected=REJECTED),
        row(2, "A bond is a loan.", status="no_pairs", chain="b", rejected=REJECTED),
        row(3, "", status="empty", chain="b", shot=1),
        row(4, "灯台は海を照らす。", [("何を照らす？", "海を照らす")], chain="c"),
        row(5, "مرحبا بالعالم. المنارة تضيء البحر.", [("ماذا تضيء؟", "البحر")], chain="c", shot=1),
        *(row(6 + at, text, [(text, text)], chain=f"h{at}") for at, text in enumerate(HOSTILE)),
    ]
    return small_corpus(root, rows)


def large_corpus(root: Path, rows: int, *, files: int, group: int = 50_000, text: str = "word " * 20) -> Path:
    """Write a corpus of many equal rows, one in 1,000 without pairs; a million takes some seconds."""
    (root / "pairs").mkdir(parents=True)
    (root / "stats.json").write_text("{}")
    (root / "synthesizer_config.json").write_text("{}")
    kept = row(0, text, [("What?", "A word.")])
    lost = row(0, text, status="no_pairs", rejected=REJECTED)
    table = pa.Table.from_pylist([*[kept] * 999, lost])
    whole = pa.concat_tables([table] * (rows // files // 1000)).combine_chunks()
    first = root / "pairs" / f"train-00000-of-{files:05d}.parquet"
    pq.write_table(whole, first, row_group_size=group, compression="zstd")
    for number in range(1, files):
        (root / "pairs" / f"train-{number:05d}-of-{files:05d}.parquet").hardlink_to(first)
    return root


SAID: list[str] = []
"""What each page that was opened has said to people."""


def command(*words: str) -> list[str]:
    """Return the command that opens the page."""
    return [sys.executable, "-m", "hfsynth", "page", *words]


@contextmanager
def opened(*words: str, reads: Sequence[str] = ()) -> Iterator[str]:
    """Open the page in a process of its own, lend its address, and close it as a person does.

    With `reads` the process is forked from a Python that has read these modules.
    """
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if reads:
        process = start_process(command(*words), reads=reads, outlives=True, **streams)
    else:
        process = subprocess.Popen(command(*words), text=True, **streams)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), process.communicate()
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        SAID.append(said)
    assert process.returncode == 0, said


@contextmanager
def slow_job(
    root: Path, *, documents: int, shard_rows: int, latency: float = 0.15, up_to: int | None = None
) -> Iterator[Path]:
    """Run a job in a process of its own that takes seconds; lend its folder once it has begun, and let it end.

    With `up_to` it waits before the document of that number, until `let` says another.
    """
    source = root.parent / f"{root.name}.jsonl"
    source.write_text(
        "".join(json.dumps({"text": f"Document {n} is about the tides."}) + "\n" for n in range(documents))
    )
    let(root, documents if up_to is None else up_to)
    program = _SLOW.format(source=str(source), root=str(root), gate=str(_gate(root)), rows=shard_rows, latency=latency)
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        while not (root / ".hfsynth" / "job.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        yield root
    finally:
        let(root, documents)
        process.wait(timeout=120)
    assert process.returncode == 0


def let(root: Path, number: int) -> None:
    """Let a slow job go on up to the document of a number."""
    new = root.parent / f"{root.name}.new"
    new.write_text(str(number))
    new.replace(_gate(root))


def _gate(root: Path) -> Path:
    return root.parent / f"{root.name}.gate"


_SLOW = """
import pathlib, re, time
from hfsynth import ScriptedEngine, Source, SynthesizerConfig, synthesize
from hfsynth.engine.scripted import first_sentences

def answer(prompt):
    number = int(re.findall(r"Document (\\d+) is", prompt)[-1])
    while number >= int(pathlib.Path({gate!r}).read_text()):
        time.sleep(0.05)
    return first_sentences(prompt)

engine = ScriptedEngine(answer, latency={latency}, max_in_flight=2)
recipe = SynthesizerConfig(model="scripted", shots=2)
synthesize(Source({source!r}), {root!r}, recipe, engine=engine, shard_rows={rows})
"""
