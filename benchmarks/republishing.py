"""What a changed corpus costs to publish again: bytes that the real Xet client sends to a Hub on the loopback.

A corpus is made, published, made again from a source that lacks a few documents near its beginning, and published
over the first. Once as the files are written now, and once as they were until then: row groups of 1,000 rows, pages
that end after so many bytes, no index of pages. Both pushes come from one machine, whose client remembers what it has
sent: a new one asks the Hub about one of a thousand pieces, and finds a corpus again by the hundred MB.

python benchmarks/republishing.py
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

import pyarrow.parquet as pq
from common import EXAMPLES, RESULTS, ROOT, Report, publish, texts_of, write_documents

from hfsynth.core.records import Document

sys.path.append(str(ROOT / "tests"))  # the Hub that the tests use

from loopback_hub.server import Hub  # noqa: E402

GONE = frozenset({40, 41, 300, 301, 302, 700, 1500})
REPO = "user/corpus"


def documents(number: int) -> list[Document]:
    """Return documents of 60 to 300 words, none like another, in the frequencies of a language."""
    stream, words = random.Random(0), sorted({word for text in texts_of(EXAMPLES) for word in text.split()})
    weights = list(accumulate(1 / (rank + 2) for rank in range(len(words))))
    return [
        Document(str(n), " ".join(stream.choices(words, cum_weights=weights, k=stream.randint(60, 300))) + ".")
        for n in range(number)
    ]


def made(hub: Hub, folder: Path, source: list[Document]) -> Path:
    """Make a corpus with pairs and training texts."""
    read, corpus = write_documents(folder.with_suffix(".jsonl"), source), folder / "corpus"
    command = [sys.executable, "-m", "hfsynth", "synthesize", read, corpus, "--engine", "scripted", "--quiet"]
    hub.run([*map(str, command)], hub.env(folder.parent), timeout=600)
    hub.run([sys.executable, "-m", "hfsynth", "render", str(corpus), "--quiet"], hub.env(folder.parent), timeout=600)
    return corpus


def as_before(corpus: Path) -> Path:
    """Copy a corpus with its files in the layout of before."""
    copy = corpus.with_name("before")
    shutil.copytree(corpus, copy)
    manifest = json.loads((copy / ".hfsynth/manifest.json").read_text("utf-8"))
    for name in [name for name in manifest["files"] if name.endswith(".parquet")]:
        pq.write_table(pq.read_table(copy / name), copy / name, compression="zstd", row_group_size=1000)
        content = (copy / name).read_bytes()
        manifest["files"][name] |= {"size": len(content), "sha256": sha256(content).hexdigest()}
    (copy / ".hfsynth/manifest.json").write_text(json.dumps(manifest), "utf-8")
    return copy


def sent(corpora: list[Path], folder: Path) -> list[int]:
    """Publish one corpus over the other; return the bytes of the xorbs that each push sent."""
    counts, before = [], 0
    with Hub(xet=True) as hub:
        env = hub.env(folder)
        for corpus in corpora:
            command = [sys.executable, "-m", "hfsynth", "push", str(corpus), REPO, "--license", "mit", "--quiet"]
            hub.run(command, env, timeout=600)
            total = sum(len(hub.api.xet.xorbs[name]) * times for name, times in hub.sent.items())
            counts.append(total - before)
            before = total
    return counts


def measured(number: int, folder: Path) -> Report:
    old = documents(number)
    new = [one for position, one in enumerate(old) if position not in GONE]
    with Hub(xet=True) as hub:
        corpora = [made(hub, folder / name, source) for name, source in (("old", old), ("new", new))]
    layouts: dict[str, Callable[[Path], Path]] = {"before": as_before, "now": lambda corpus: corpus}
    rows = []
    for layout, written in layouts.items():
        folders = [written(corpus) for corpus in corpora]
        size = sum(path.stat().st_size for path in folders[1].rglob("*.parquet") if ".hfsynth" not in path.parts)
        first, again = sent(folders, folder)
        shown = {"bytes of the corpus": size, "sent at first": first, "sent again": again}
        rows.append({"layout": layout, **shown, "share": f"{again / size:.0%}"})
    return Report(
        "republishing",
        f"Bytes sent for a corpus of {number:,} documents that lost {len(GONE)} of them",
        rows,
        {"rows": rows},
        bars={row["layout"]: row["sent again"] / 2**20 for row in rows},
        unit="MiB sent again",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=12_288)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hfsynth-republishing-") as folder:
        publish(measured(args.documents, Path(folder)), args.results)


if __name__ == "__main__":
    main()
