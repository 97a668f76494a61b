"""Where the time of the whole pipeline goes: from a file to rendered texts, with the real model.

The engine's share is the time by the clock that vLLM was computing (or the wait for it), of all the time from the
first chain to the last rendered file; loading the model and vLLM's libraries does not count. The other parts are the
processor seconds of their own threads: most of them run beside the engine, so the parts need not add up.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --full --load-format dummy
"""

from __future__ import annotations

import tempfile
import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from common import (
    Report,
    against_published,
    chosen,
    engine_of,
    gpu_name,
    made_documents,
    parser,
    publish,
    timed,
    write_documents,
)

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.documents import source as sources
from hfsynth.documents.source import Source
from hfsynth.engine import loading
from hfsynth.engine.loading import engine_for
from hfsynth.engine.vllm import _Requests
from hfsynth.job import finish, part_writer
from hfsynth.job.run import synthesize
from hfsynth.models import resolve
from hfsynth.models.resolve import pinned
from hfsynth.models.tokenizers import ModelTokenizer
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.texts import corpus_folder
from hfsynth.texts.corpus_folder import render_folder

TARGET = 0.95
ENGINE: list[tuple[Any, str]] = [(_Requests, "next_ended"), (_Requests, "submit")]
LOADING: list[tuple[Any, str]] = [(loading, "embedded_path"), (resolve, "embedded_revision")]
BESIDE: dict[str, list[tuple[Any, str]]] = {
    "tokenising": [(ModelTokenizer, "encode")],
    "parsing": [(InstructionPretrain, "parse")],
    "rendering": [(corpus_folder, "render_rows")],
    "writing": [(part_writer.ShardWriter, "add"), (part_writer.ShardWriter, "finish"), (finish, "_publish_pairs")],
    "hashing": [
        (sources, "content_id"),
        (sources, "files_digest"),
        (finish, "file_digest"),
        (part_writer, "file_digest"),
    ],
}
"""Functions that make up each part, where they are looked up."""


class Clocks:
    """Time functions where they are called from, without a change to what they do.

    A function's time is its own: what another watched function takes within it is that one's.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._within = threading.local()

    def watch(self, part: str, owner: Any, name: str, clock: Callable[[], float]) -> None:  # noqa: ANN401
        """Replace a function by one that adds the time it takes to its part."""
        plain = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            outer, self._within.seconds = getattr(self._within, "seconds", 0.0), 0.0
            started = clock()
            try:
                found = plain(*args, **kwargs)
                return list(found) if isinstance(found, Generator) else found
            finally:
                took = clock() - started
                self.seconds[part] += took - self._within.seconds
                self._within.seconds = outer + took

        setattr(owner, name, watched)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--shots", type=int, default=2)
    args = made.parse_args()
    publish(measured(args), args.results)


def measured(args: Namespace) -> Report:
    documents = made_documents(args.corpus, chosen(args.documents, args.full, small=48, large=8000))
    sampling = Sampling(max_tokens=chosen(args.max_tokens, args.full, small=96, large=400))
    model, engine_config = engine_of(args)
    config = pinned(SynthesizerConfig(model, shots=args.shots, sampling=sampling), engine_config)
    engine = engine_for(config, engine_config)
    raw_tokens = sum(len(engine.tokenizer.encode(document.text or "")) for document in documents)
    clocks = watching()
    with tempfile.TemporaryDirectory() as folder:
        path = write_documents(Path(folder) / "documents.jsonl", documents)
        whole, _ = timed(lambda: whole_pipeline(path, Path(folder) / "corpus", config, engine_config))
    seconds = whole - clocks.seconds.pop("loading", 0.0)
    shares = {part: clocks.seconds[part] / seconds for part in ("engine", *BESIDE)}
    return Report(
        "pipeline",
        f"Where the time goes: {len(documents)} documents, {args.model}, M={args.shots}, {seconds:.0f} seconds",
        [{"part": part, "seconds": share * seconds, "share": f"{share:.2%}"} for part, share in shares.items()],
        {"engine share": round(shares["engine"], 4), "target": TARGET},
        [against_published(raw_tokens, seconds, gpu_name())],
        {part: 100 * share for part, share in shares.items()},
        "percent of the time by the clock",
    )


def watching() -> Clocks:
    """Watch every part: the engine by the clock, what runs beside it by its thread's processor time."""
    clocks = Clocks()
    for owner, name in ENGINE:
        clocks.watch("engine", owner, name, time.perf_counter)
    for owner, name in LOADING:
        clocks.watch("loading", owner, name, time.perf_counter)
    for part, functions in BESIDE.items():
        for owner, name in functions:
            clocks.watch(part, owner, name, time.thread_time)
    return clocks


def whole_pipeline(source: Path, out: Path, config: SynthesizerConfig, engine: EngineConfig) -> None:
    """Make a corpus and render it."""
    synthesize(Source(str(source)), out, config, engine=engine)
    render_folder(out, seed=0)


if __name__ == "__main__":
    main()
