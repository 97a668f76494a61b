"""Make `finished/` and `half/` beside this file with the code of commit a674fcb, whose folders must stay readable.

    git worktree add --detach ../old a674fcb
    PYTHONPATH=../old:tests python tests/old_layout/make.py

`finished/` is a corpus, rendered; `half/` is the same job killed in its second shard of three. The names of machines
are made up, for files that are published.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path

from scripts import quoting

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.job import leases
from hfsynth.job.run import synthesize
from hfsynth.texts.corpus_folder import render_folder

HERE = Path(__file__).parent
MACHINE = "old-machine"
CALLS = 7


def half(prompt: str) -> str:
    """Quote as the other script does; end the process in the middle of the work, one shard finished."""
    global CALLS
    CALLS -= 1
    if CALLS < 0:
        while not Path("half/.hfsynth/parts/00000.json").exists():
            time.sleep(0.01)
        os._exit(9)
    return quoting(prompt)


def job(name: str, out: Path) -> None:
    engine = EngineConfig("scripted", {"max_in_flight": 2})
    config = SynthesizerConfig("scripts:quoting", shots=2)
    if name == "half":
        import scripts

        scripts.quoting = half
    synthesize(Source("texts.jsonl"), out, config, engine=engine, shard_rows=4)


def main() -> None:
    socket.gethostname = lambda: MACHINE
    leases._machine = lambda: MACHINE
    os.chdir(HERE)
    texts = [f"Text number {n:02} says little." for n in range(9)] + [
        " ",
        "Text number 10 is the last but one.",
        "End.",
    ]
    lines = [json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(texts)]
    Path("texts.jsonl").write_text("".join(lines))
    for name in ("finished", "half"):
        shutil.rmtree(name, ignore_errors=True)
        if (pid := os.fork()) == 0:
            job(name, Path(name))
            render_folder(Path(name))
            os._exit(0)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
