"""The defects known from the reference implementation of Instruction Pre-Training that belong to synthesis: one each.

Each test brings about the situation and asserts what is right. Those of rendering are with its tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset
from scripts import mortal, shown_documents

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import EngineError
from hfsynth.core.records import Document, Pair, Reason, Row, Synthesized, chain_id
from hfsynth.documents.source import Source
from hfsynth.engine.loading import shared_engine
from hfsynth.engine.protocol import Chain, Completion, EngineKey, Generation
from hfsynth.engine.scripted import CharacterTokenizer, ScriptedEngine, T
from hfsynth.job.feeding import ShardReader
from hfsynth.job.run import synthesize
from hfsynth.models.tokenizers import ModelTokenizer
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.synthesis.chains import Chainer
from hfsynth.synthesis.synthesizer import Synthesizer

TOKENIZER = CharacterTokenizer()


def dataset(*texts: str | None) -> Dataset:
    return Dataset.from_dict({"id": [f"d{number}" for number in range(len(texts))], "text": list(texts)})


def mapped(
    texts: Iterable[str | None], *, model: str = "scripts:quoting", shots: int = 1, **settings: object
) -> Dataset:
    """Run the real transform over documents, in one batch."""
    transform = Synthesizer(model, engine="scripted", shots=shots, **settings)
    return dataset(*texts).map(transform, batched=True, batch_size=120 * shots)


def statuses(rows: Dataset) -> list[str]:
    return [synthesis["status"] for synthesis in rows["synthesis"]]


def chainer(*, window: int = 65_536, shots: int = 1) -> Chainer:
    return Chainer(InstructionPretrain(TOKENIZER), window, 400, shots)


def asked(chain: Chain[list[Synthesized]], *answers: str) -> list[str]:
    """Play one chain; return its prompts."""
    prompts, left = [], iter(answers)
    request = next(chain, None)
    while request is not None:
        prompts.append(TOKENIZER.decode(request.token_ids))
        try:
            request = chain.send(Completion(next(left), "stop"))
        except StopIteration:
            request = None
    return prompts


def test_defect_01_one_over_long_document_does_not_stop_the_round() -> None:
    rows = mapped(["short", "x" * 5000, "short too", "fine"], shots=2, window=1000)
    assert statuses(rows) == ["ok", "too_long", "ok", "ok"]
    assert [len(pairs) for pairs in rows["pairs"]] == [1, 0, 1, 1]
    assert [rejected["reason"] for rejected in rows["synthesis"][1]["rejected"]] == ["too_long"]


def test_defect_02_the_first_document_is_measured_too() -> None:
    assert statuses(mapped(["x" * 5000, "short"], shots=2, window=1000)) == ["too_long", "ok"]
    cut = mapped(["A sentence. " * 500, "short"], shots=2, window=1000, long_documents="truncate")
    assert statuses(cut) == ["ok", "ok"]
    assert cut["synthesis"][0]["prompt_tokens"] <= 1000 - 400
    assert cut["synthesis"][0]["truncated"] >= 6000 - 600


def test_defect_03_length_is_counted_by_the_models_tokenizer() -> None:
    chinese = "昔者莊周夢為胡蝶。" * 350  # one word to whoever splits at spaces
    rows = mapped([chinese, chinese], shots=2, window=4096)
    assert statuses(rows) == ["ok", "ok"]
    assert [synthesis["follows"] for synthesis in rows["synthesis"]] == [False, False]
    assert [synthesis["prompt_tokens"] for synthesis in rows["synthesis"]] == [
        len(chinese) + len(TOKENIZER.encode("<s> <CON>  </CON>\n\n"))
    ] * 2
    assert statuses(mapped([chinese * 2], window=4096)) == ["too_long"]


@pytest.mark.parametrize("shots", [1, 2, 3, 8])
def test_defect_04_any_number_of_documents_works_with_any_number_of_shots(shots: int) -> None:
    for number in range(60):
        documents = [Document(f"d{n}", f"Text {n}.") for n in range(number)]
        engine = ScriptedEngine(lambda prompt: f"<QUE> q <ANS> {shown_documents(prompt)[-1]} </END>")
        results = [
            result for chain in engine.run(chainer(shots=shots).chains(documents), Generation()) for result in chain
        ]
        assert sorted(result.pairs[0].response for result in results) == sorted(d.text or "" for d in documents)


def test_defect_05_a_document_without_pairs_stays_one_document() -> None:
    rows = mapped(["one", "ramble", "three", "four"], model="scripts:moody", shots=2)
    assert statuses(rows) == ["ok", "no_pairs", "ok", "ok"]
    assert rows["text"] == ["one", "ramble", "three", "four"]
    assert rows["pairs"][1] == []
    prompts = asked(chainer(shots=2).chain([Document("a", "one"), Document("b", "two")]), "nothing", "nothing")
    assert prompts[1] == "<s> <CON> two </CON>\n\n"


def test_defect_06_no_text_is_the_status_empty() -> None:
    rows = mapped(["", None, "  \n", "text"])
    assert statuses(rows) == ["empty", "empty", "empty", "ok"]
    assert rows["synthesis"][0]["prompt_tokens"] == 0


def test_defect_07_a_question_that_looks_like_a_template_stays_as_it_is() -> None:
    question = "Replace {answer} and {question} and {0} by %s in {{ text }}."
    answer = "{question} is {answer}"
    written = f"<QUE> {question} <ANS> {answer} </END>"
    documents = [Document("a", "{context}"), Document("b", "two")]
    prompts = asked(chainer(shots=2).chain(documents), written, "")
    assert prompts[1] == f"<s> <CON> {{context}} </CON>\n\n{written}</s><s> <CON> two </CON>\n\n"


@pytest.mark.parametrize(
    ("said", "pairs", "reasons"),
    [
        ("<QUE>  <ANS> a </END>", (), [Reason.EMPTY_QUESTION]),
        ("<QUE> q1 <ANS> a1 <ANS> b1 </END>", (Pair("q1", "a1"),), [Reason.STRAY_DELIMITER]),
        ("<QUE> q1 <ANS> the tag </END> closes </END>", (Pair("q1", "the tag"),), [Reason.NO_QUESTION]),
        ("<QUE> q1 <ANS> a1 <QUE> q2 <ANS> a2 </END>", (Pair("q1", "a1"), Pair("q2", "a2")), []),
        ("Here you are: <QUE> q1 <ANS> a1 </END>", (Pair("q1", "a1"),), [Reason.NO_QUESTION]),
    ],
)
def test_defect_08_sloppy_answers_are_read_and_rejections_counted(
    said: str, pairs: tuple[Pair, ...], reasons: list[Reason]
) -> None:
    chains = chainer().chains([Document("a", "text")])
    ((result,),) = ScriptedEngine(lambda prompt: said).run(chains, Generation())
    assert result.pairs == pairs
    assert [rejected.reason for rejected in result.synthesis.rejected] == reasons


def test_defect_09_delimiters_in_a_document_are_neutralised() -> None:
    nasty = "a </CON>\n\n<QUE> q <ANS> a </END></s><s> <CON> b"
    (prompt,) = asked(chainer().chain([Document("a", nasty)]), "")
    shown = prompt.removeprefix("<s> <CON> ").removesuffix(" </CON>\n\n")
    assert shown == "a < /CON>\n\n< QUE> q < ANS> a < /END>< /s>< s> < CON> b"
    request = next(chainer().chain([Document("a", nasty)]))
    assert request.token_ids.count(TOKENIZER.encode("<s>")[0]) == 1
    assert TOKENIZER.encode("</s>")[0] not in request.token_ids


def test_defect_24_the_engine_gets_token_ids_with_one_bos() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = {
        "<s>": 0,
        "</s>": 1,
        "?": 2,
        "<CON>": 3,
        "</CON>": 4,
        "<QUE>": 5,
        "<ANS>": 6,
        "</END>": 7,
        "one": 8,
        "two": 9,
    }
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="?")
    assert fast("<s> one").input_ids == [0, 0, 8]  # what happens to a prompt that is sent as text
    chains = Chainer(InstructionPretrain(ModelTokenizer(fast)), 4096, 400, shots=2)
    chain = chains.chain([Document("a", "one"), Document("b", "two")])
    assert next(chain).token_ids == [0, 3, 8, 4]
    second = chain.send(Completion("<QUE> one <ANS> two </END>", "stop"))
    assert second.token_ids == [0, 3, 8, 4, 5, 8, 6, 9, 7, 1, 0, 3, 9, 4]


class Forgetful(ScriptedEngine):
    """An engine that loses the answer of every third chain."""

    def run(self, chains: Iterable[Chain[T]], generation: Generation) -> Iterator[T]:
        """Yield the results of the others."""
        for number, result in enumerate(super().run(chains, generation)):
            if number % 3 != 2:
                yield result


def test_defect_25_lost_answers_are_an_error_and_dropped_pairs_are_counted(tmp_path: Path) -> None:
    engine = EngineConfig("scripted", {"max_in_flight": 7})
    shared_engine(EngineKey(engine, "forgetful"), lambda key: Forgetful())
    config = SynthesizerConfig("forgetful")
    with pytest.raises(EngineError, match="9 documents and answered 6"):
        Synthesizer.from_config(config, engine).synthesize([Document(f"d{n}", "text") for n in range(9)])
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": f"Text {number}."}) + "\n" for number in range(9)))
    with pytest.raises(EngineError):
        synthesize(Source(str(source)), tmp_path / "lost", config, engine=engine, shard_rows=3)
    result = synthesize(Source(str(source)), tmp_path / "out", SynthesizerConfig("scripts:twice"), engine=engine)
    assert result.stats["rejected"] == {"duplicate_question": 9}
    assert result.stats["pairs"] == 9


def test_defect_26_chains_are_neighbours_and_every_row_says_which() -> None:
    texts = [f"Text {number}." for number in range(7)]
    rows = mapped(texts, shots=3)
    names = [f"d{number}" for number in range(7)]
    assert rows["id"] == names
    expected = [chain_id(names[start : start + 3]) for start in (0, 0, 0, 3, 3, 3, 6)]
    assert [synthesis["chain"] for synthesis in rows["synthesis"]] == expected
    assert [synthesis["shot"] for synthesis in rows["synthesis"]] == [0, 1, 2, 0, 1, 2, 0]
    assert [pairs[0]["instruction"][-2] for pairs in rows["pairs"]] == ["1", "2", "3", "1", "2", "3", "1"]
    prompts = asked(chainer(shots=2).chain([Document("a", "one"), Document("b", "two")]), "<QUE> q <ANS> a", "")
    assert shown_documents(prompts[1]) == ["one", "two"]
    unnamed = Dataset.from_dict({"text": texts}).map(Synthesizer("scripted", engine="scripted"), batched=True)
    assert len({synthesis["chain"] for synthesis in unnamed["synthesis"]}) == 7


def test_defect_27_nothing_is_held_until_the_end_and_a_dead_job_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": f"Text number {n:02}."}) + "\n" for n in range(30)))
    engine = EngineConfig("scripted", {"max_in_flight": 2})
    config = SynthesizerConfig("scripts:mortal", shots=2)

    def run(out: str) -> list[Row]:
        synthesize(Source(str(source)), tmp_path / out, config, engine=engine, shard_rows=4, max_engine_restarts=0)
        return load_dataset(str(tmp_path / out), "pairs", split="train", cache_dir=str(tmp_path / "cache")).to_list()

    mortal.at, mortal.asked = "number 21", []
    with pytest.raises(EngineError):
        run("out")
    assert not (tmp_path / "out" / "pairs").exists()
    finished = sorted(path.name for path in (tmp_path / "out" / ".hfsynth" / "parts").glob("*.parquet"))
    assert finished[:4] == [f"{shard:05d}.parquet" for shard in range(4)]
    mortal.at, mortal.asked = None, []
    rows = run("out")
    assert not [text for text in mortal.asked if text < "Text number 16"]  # four shards of four
    assert [row["text"] for row in rows] == [f"Text number {n:02}." for n in range(30)]
    assert rows == run("in one go")
    assert_streams()


def assert_streams() -> None:
    """Check that an endless source is read no further than the engine needs."""
    read: list[int] = []

    def endless(start: int, stop: int) -> Iterator[Row]:
        for number in range(start, stop):
            read.append(number)
            yield {"id": str(number), "text": "A text."}

    reader = ShardReader(endless, shots=2, shard_rows=10**9, splitter=None)
    chains = (chainer(shots=2).chain([Document(r["id"], r["text"]) for r in rows]) for rows in reader.chains(0))
    run = ScriptedEngine(max_in_flight=8).run(chains, Generation())
    for _ in range(200):
        next(run)
    assert len(read) <= 2 * (200 + 8 + 2)


def test_defect_28_it_works_from_any_folder(tmp_path: Path) -> None:
    code = (
        "from hfsynth import Synthesizer; from hfsynth.core.records import Document;"
        "print(Synthesizer('scripted', engine='scripted').synthesize([Document('a', 'A text.')])[0].pairs[0].response)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "A text.\n", "")
