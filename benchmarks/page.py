"""How quickly the page opens and finds: functions on a million and ten million rows, and its first paint in a browser.

python benchmarks/page.py [--rows 10000000]

Rows are all alike but for one in a thousand, which has no pairs; files are links to one another, so that ten million
rows take little disk. The browser is looked at where Playwright and a Chromium are installed.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from common import EXAMPLES, RESULTS, Report, publish, timed

import hfsynth
from hfsynth.corpus.folder import part_name
from hfsynth.page.filters import Filters, find
from hfsynth.page.opening import open_corpus

FILE_ROWS, GROUP_ROWS = 100_000, 50_000
TEXT = "A sentence of a document that is about tides, lamps and bonds. " * 16
MILLION = 1_000_000


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=int, default=10 * MILLION, help="rows of the large corpus")
    rows = made.parse_args().rows
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        measured = [*functions(corpus(Path(place) / "corpus", rows)), *browser(Path(place))]
    publish(Report("page", "The page", measured), RESULTS)


def corpus(root: Path, rows: int) -> Path:
    """Write a corpus of so many rows."""
    (root / "pairs").mkdir(parents=True)
    (root / "synthesizer_config.json").write_text("{}")
    table = pa.Table.from_pylist([row(number) for number in range(1000)])
    first, files = None, rows // FILE_ROWS
    for number in range(files):
        path = root / "pairs" / part_name(number, files)
        if first is None:
            whole = pa.concat_tables([table] * (FILE_ROWS // 1000)).combine_chunks()
            pq.write_table(whole, path, row_group_size=GROUP_ROWS, compression="zstd")
            first = path
        else:
            path.hardlink_to(first)
    return root


def row(number: int) -> dict[str, Any]:
    lost = number == 999
    pairs = [] if lost else [{"instruction": "What is it about?", "response": "Tides, lamps and bonds."}]
    synthesis = {
        "status": "no_pairs" if lost else "ok",
        "chain": f"chain-{number // 2}",
        "shot": number % 2,
        "follows": bool(number % 2),
        "rejected": [{"reason": "no_answer", "text": "What?"}] if lost else [],
    }
    return {"id": f"doc-{number}", "text": TEXT, "pairs": pairs, "synthesis": synthesis}


def functions(root: Path) -> list[dict[str, Any]]:
    """Measure what the page calls; memory is the most that the process has had so far."""
    rows: list[dict[str, Any]] = []

    def note(what: str, seconds: float, told: str = "") -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"what": what, "seconds": f"{seconds:.2f}", "MB": f"{peak:.0f}", "": told})

    note("before", 0.0)
    seconds, opened = timed(lambda: open_corpus(root))
    note(f"open {len(opened.rows):,} rows", seconds)
    seconds, _ = timed(lambda: opened.rows.read(len(opened.rows) // 2, 20))
    note("a page of 20 in the middle", seconds)
    seconds, _ = timed(lambda: opened.rows.chain(len(opened.rows) // 2))
    note("a chain there", seconds)
    whole: dict[str, Any] = {"end": MILLION, "limit": MILLION, "seconds": 600.0}
    for name, filters in (("status", Filters(status="no_pairs")), ("reason", Filters(reason="no_answer"))):
        seconds, found = timed(lambda filters=filters: find(opened.rows, filters, **whole))
        note(f"{name} over {found.seen:,} rows", seconds, f"{len(found.numbers):,} found")
    seconds, found = timed(lambda: find(opened.rows, Filters(status="failed"), seconds=600))
    note(f"a status that no row has over {found.seen:,} rows", seconds)
    for name, filters in (("text that is nowhere", Filters(text="nowhere")), ("grounding", Filters(grounding=0.1))):
        seconds, found = timed(lambda filters=filters: find(opened.rows, filters))
        note(f"{name}, until the time is up", seconds, f"{found.seen:,} rows looked at")
    return rows


def browser(place: Path) -> list[dict[str, Any]]:
    """Measure the page on the demo's documents in a browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not (find_spec("playwright") and find_spec("gradio")):
        return [{"what": "first paint", "seconds": "", "MB": "", "": "skipped: no Chromium, Playwright or Gradio"}]
    from playwright.sync_api import sync_playwright

    hfsynth.synthesize(hfsynth.Source(str(EXAMPLES)), place / "demo", hfsynth.SynthesizerConfig(model="mined"))
    command = [sys.executable, "-m", "hfsynth", "page", str(place / "demo"), "--model", "mined"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        started = time.monotonic() - began
        with sync_playwright() as library:
            page = library.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
            asked = time.monotonic()
            page.goto(address)
            page.wait_for_selector("#hs-document .hs-text")
            shown = time.monotonic() - asked
            paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    told = (("from the command to its address", started), ("first paint", paint), ("first row shown", shown))
    return [{"what": what, "seconds": f"{seconds:.2f}", "MB": "", "": ""} for what, seconds in told]


if __name__ == "__main__":
    main()
