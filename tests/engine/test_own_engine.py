"""An engine that is an object of the caller's: in `map`, in a job, after its death, and where it cannot work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from datasets import Dataset

import hfsynth
from hfsynth.core.errors import ConfigError, EngineError
from hfsynth.engine.protocol import Chain, Completion, Generation, Request
from hfsynth.engine.scripted import CharacterTokenizer

T = TypeVar("T")
PAIR = "<QUE> What is it? <ANS> A text. </END>"


class OneByOne:
    """Answer every prompt by a function of its text, one after the other."""

    window = 8192

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.tokenizer = CharacterTokenizer()
        self.closed = False
        self._answer = answer

    def run(self, chains: Iterable[Chain[T]], generation: Generation) -> Iterator[T]:
        for chain in chains:
            yield self._driven(chain)

    def close(self) -> None:
        self.closed = True

    def _driven(self, chain: Chain[T]) -> T:
        completion: Completion | None = None
        while True:
            try:
                request = next(chain) if completion is None else chain.send(completion)
            except StopIteration as end:
                result: T = end.value
                return result
            completion = self._completion(request)

    def _completion(self, request: Request) -> Completion:
        return Completion(self._answer(self.tokenizer.decode(request.token_ids)), "stop", output_tokens=1)


@pytest.fixture
def source(tmp_path: Path) -> hfsynth.Source:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"Document number {number}."}) + "\n" for number in range(9)))
    return hfsynth.Source(str(path))


def test_an_object_writes_pairs_in_a_map_and_has_no_part_in_the_fingerprint() -> None:
    ds = Dataset.from_list([{"text": f"Text {number}"} for number in range(5)])
    first, second = (hfsynth.Synthesizer("mine", engine=OneByOne(lambda prompt: PAIR), shots=2) for _ in range(2))
    mapped = ds.map(first, batched=True)
    assert [row["pairs"][0]["instruction"] for row in mapped] == ["What is it?"] * 5
    assert first.config == second.config and first.config.model == "mine"
    assert ds.map(second, batched=True)._fingerprint == mapped._fingerprint


def test_an_object_does_a_job_and_stays_open(source: hfsynth.Source, tmp_path: Path) -> None:
    engine = OneByOne(lambda prompt: PAIR)
    config = hfsynth.SynthesizerConfig("mine", shots=3)
    result = hfsynth.synthesize(source, tmp_path / "out", config, engine=engine)
    assert result.finished and result.stats["documents"]["ok"] == 9
    hfsynth.close_engines()
    assert not engine.closed
    scripted = hfsynth.synthesize(source, tmp_path / "out", config, engine=hfsynth.ScriptedEngine())
    assert not scripted.worked  # the same recipe, whatever runs it


def test_an_object_that_dies_is_asked_again_and_the_document_that_kills_it_is_found(
    source: hfsynth.Source, tmp_path: Path
) -> None:
    def answer(prompt: str) -> str:
        if "number 4." in prompt:
            raise EngineError("It fell over.")
        return PAIR

    config = hfsynth.SynthesizerConfig("mine")
    result = hfsynth.synthesize(source, tmp_path / "out", config, engine=OneByOne(answer), max_engine_restarts=9)
    assert {name: count for name, count in result.stats["documents"].items() if count} == {"ok": 8, "failed": 1}


def test_an_object_of_another_process_and_what_is_no_engine_are_refused(source: hfsynth.Source, tmp_path: Path) -> None:
    config, engine = hfsynth.SynthesizerConfig("mine"), OneByOne(lambda prompt: PAIR)
    with pytest.raises(ConfigError, match="works in the process that made it"):
        hfsynth.synthesize(source, tmp_path / "out", config, engine=engine, launcher=hfsynth.LocalLauncher(1))
    with pytest.raises(ConfigError, match="keep the Engine protocol: dict does not"):
        hfsynth.synthesize(source, tmp_path / "other", config, engine={"kind": "vllm"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="takes no engine_args"):
        hfsynth.Synthesizer("mine", engine=engine, engine_args={"max_num_seqs": 2})
