"""A real token classifier, made here: trained for a few steps to tell the made-up names of persons and places."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from jobs import documents
from scripts import shown_documents

import hfsynth
from hfsynth.cli import app
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, ModelError, OutputError
from hfsynth.core.identifier_models import IdentifierModel, begins, kind_of, kinds_of
from hfsynth.core.recipes import read_recipe
from hfsynth.core.records import Pair
from hfsynth.core.screening import Screening
from hfsynth.core.steps import Step
from hfsynth.documents.source import Source
from hfsynth.job.run import synthesize
from hfsynth.prompting.parsing import render_pairs
from hfsynth.publishing.repeatable import require_repeatable
from hfsynth.quality.token_classifier import TokenClassifier, settled_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

FIRST, LAST = (
    [f"{first}{last}" for first in firsts for last in ("mira", "rik", "vane")]
    for firsts in (("Ada", "Cor"), ("Bel", "Dun"))
)
PERSONS = [*FIRST, *LAST]
PLACES = [f"{first}{last}" for first in ("Nor", "Sud", "Ost", "Wes") for last in ("ham", "wick", "mouth")]
OTHERS = [*("How", "does", "text", "begin", "end", "it", "?", ".", ",")]  # as the script asks
OTHERS += ["the", "lamp", "of", "keeper", "and", "a", "boat", "in", "winter", "by", "was", "lit", "who", "with", "rows"]
LABELS = ["O", "B-PER", "I-PER", "B-LOC"]
LAMPS = 10


def sentence(draw: random.Random) -> tuple[list[str], list[int]]:
    """Return words and their labels."""
    words, labels = list[str](), list[int]()
    for _ in range(draw.randrange(3, 30)):
        kind = draw.randrange(8)
        if kind == 0:
            words += [draw.choice(FIRST), draw.choice(LAST), draw.choice(OTHERS)]
            labels += [1, 2, 0]
        elif kind == 1:
            words, labels = [*words, draw.choice(PLACES)], [*labels, 3]
        else:
            words, labels = [*words, draw.choice(OTHERS)], [*labels, 0]
    return words, labels


def tokenizer() -> Any:  # noqa: ANN401
    """Return a tokenizer of whole words; a rare one falls into characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [*PERSONS, *PLACES, *OTHERS, *map(chr, range(33, 127)), *(f"##{chr(code)}" for code in range(33, 127))]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(["[PAD]", "[UNK]", *pieces]))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, words = tmp_path_factory.mktemp("model"), tokenizer()
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        hidden_dropout_prob=0.0,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    network = transformers.BertForTokenClassification(config)
    steps, draw = torch.optim.AdamW(network.parameters(), lr=0.01), random.Random(5)
    for _ in range(200):
        drawn = [sentence(draw) for _ in range(16)]
        longest = min(64, max(len(one) for one, _ in drawn))
        ids = torch.tensor([[*map(words.convert_tokens_to_ids, one), *[0] * longest][:longest] for one, _ in drawn])
        labels = torch.tensor([[*own, *[-100] * longest][:longest] for _, own in drawn])
        loss = network(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        loss.backward()
        steps.step()
        steps.zero_grad()
    assert loss.item() < 0.05
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def told(model: Path, text: str, *kinds: str) -> list[tuple[str, str]]:
    found = TokenClassifier(IdentifierModel(str(model), kinds=kinds or ("person",)))(text)
    return [(str(one.kind), text[one.start : one.end]) for one in found]


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_of_many_makers_are_kinds() -> None:
    assert kinds_of(["O", "B-PER", "I-PER", "B-LOC", "S-private_person", "GPE"]) == ("location", "person")
    assert [kind_of(label) for label in ("B-Private Phone", "U-ORG", "NAME", "O")] == [
        *("private_phone", "organization", "person"),
        None,
    ]
    assert begins("B-PER") and begins("U-PER") and not begins("I-PER") and not begins("PER")


@pytest.mark.parametrize("wrong", [(), ("Person",), ("per son",), (3,), "person"])
def test_what_is_no_kind_is_refused(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match="Kinds of identifiers are words"):
        IdentifierModel("m", kinds=wrong)


def test_a_model_is_named_with_its_revision(tmp_path: Path) -> None:
    assert IdentifierModel.named("user/ner@abc", "person, location") == IdentifierModel(
        "user/ner", "abc", ("location", "person")
    )
    (tmp_path / "a@b").mkdir()
    assert IdentifierModel.named(str(tmp_path / "a@b")).name == str(tmp_path / "a@b")
    wanted = Screening("mark", pii_model=IdentifierModel("user/ner", "abc"))
    assert Screening.from_dict(json.loads(json.dumps(wanted.to_dict()))) == wanted
    with pytest.raises(ConfigError, match="nothing is to be done with them"):
        Screening(duplicates=True, pii_model=IdentifierModel("user/ner"))


# --- texts ------------------------------------------------------------------------------------------------------------


def test_names_are_found_to_the_character_beside_what_rules_find(model: Path) -> None:
    text = "the lamp of Adamira Belrik , in Norham, mira.lit@lamp.org and Corvane"
    assert told(model, text) == [("person", "Adamira Belrik"), ("email", "mira.lit@lamp.org"), ("person", "Corvane")]
    assert told(model, text, "location", "person")[1] == ("location", "Norham")
    assert told(model, text, "location")[0] == ("location", "Norham")
    assert told(model, "  ") == told(model, "") == []


def test_a_long_text_is_read_in_windows_that_overlap(model: Path) -> None:
    draw, words, expected = random.Random(1), list[str](), list[tuple[str, str]]()
    for number in range(900):
        if number % 7 == 0:
            name = f"{draw.choice(FIRST)} {draw.choice(LAST)}"
            words.append(name)
            expected.append(("person", name))
        words.append(draw.choice(OTHERS))
    assert told(model, " ".join(words)) == expected


def test_many_texts_at_once_say_the_same_as_one_by_one(model: Path) -> None:
    draw = random.Random(2)
    texts = [" ".join(sentence(draw)[0]) for _ in range(80)]
    together, alone = (TokenClassifier(IdentifierModel(str(model))) for _ in range(2))
    together.prepare(texts)
    assert [together(text) for text in texts] == [alone(text) for text in texts]
    persons = sum(one in PERSONS for text in texts for one in text.split())
    found = sum(len(text[one.start : one.end].split()) for text in texts for one in together(text))
    assert found == persons


def test_its_parts_beside_an_identifier_are_marked(model: Path) -> None:
    found = told(model, "with Adamira a.b@lamp.org Belrik rows")
    assert found == [("person", "Adamira"), ("email", "a.b@lamp.org"), ("person", "Belrik")]


# --- what is no such model --------------------------------------------------------------------------------------------


def test_settings_alone_say_what_a_model_is(model: Path, tmp_path: Path) -> None:
    settled = settled_model(IdentifierModel(str(model)))
    assert settled.revision and len(settled.revision) == 40
    assert settled.told == {"model": model.name, "revision": settled.revision, "model_kinds": ["person"]}
    with pytest.raises(ConfigError, match="does not tell 'card'; it tells location, person"):
        settled_model(IdentifierModel(str(model), kinds=("card",)))
    other = Path(shutil.copytree(model, tmp_path / "other"))
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**settings, "architectures": ["BertModel"]}))
    with pytest.raises(ModelError, match="is no token classifier"):
        settled_model(IdentifierModel(str(other)))
    with pytest.raises(ModelError, match="should be at revision"):
        settled_model(IdentifierModel(str(other), settled.revision))
    (other / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        settled_model(IdentifierModel(str(other)))
    (other / "config.json").write_text(json.dumps(settings))
    (other / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be loaded"):
        TokenClassifier(IdentifierModel(str(other)))


def test_a_missing_library_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="needs torch") as caught:
        TokenClassifier(IdentifierModel(str(model)))
    assert "hfsynth[pii]" in caught.value.hint


# --- a corpus ---------------------------------------------------------------------------------------------------------


def called(*words: object) -> int:
    argv, sys.argv = sys.argv, ["hfsynth", *map(str, words)]
    try:
        app.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
    return 0


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    draw = random.Random(9)
    texts = {number: " ".join(sentence(draw)[0]) for number in range(LAMPS)} | {3: "the lamp was lit"}
    source = documents(tmp_path / "texts.jsonl", LAMPS, special=texts)
    made = SynthesizerConfig("scripted")
    synthesize(Source(str(source)), tmp_path / "out", made, engine=EngineConfig("scripted"), shard_rows=4)
    return tmp_path / "out"


def test_a_corpus_is_screened_for_names(
    corpus: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows_of(corpus)
    by_workers = Path(shutil.copytree(corpus, tmp_path / "workers"))
    asked = ["screen", corpus, "--pii", "mark", "--pii-model", model, "--pii-kinds", "person,location", "--quiet"]
    assert called(*asked) == 0
    rows = rows_of(corpus)
    assert not [name for name in (*PERSONS, *PLACES) if name in json.dumps(rows)]
    assert rows[3] == before[3] and any(name in json.dumps(before) for name in PERSONS)
    [step] = json.loads((corpus / "stats.json").read_text())["screen"]["steps"]
    marks = Counter(
        kind for row in rows for kind in ("person", "location") for _ in range(row["text"].count(f"<{kind.upper()}>"))
    )
    assert {kind: number["documents"] for kind, number in step["kinds"].items()} == marks
    assert step["model"] == model.name and step["model_kinds"] == ["location", "person"]
    said = f"What is a location or person was told by the model {model.name} at {step['revision'][:12]}"
    assert said in capsys.readouterr().out
    assert called("card", corpus, "--license", "cc0-1.0") == 0
    assert said in (corpus / "README.md").read_text()
    assert str(model.parent) not in (corpus / "synthesizer_config.json").read_text()
    assert called(*asked) == 0
    assert "was screened so before" in capsys.readouterr().out
    assert called(*asked[:1], by_workers, *asked[2:], "--workers", 2) == 0
    assert rows_of(by_workers) == rows


def test_a_report_by_rules_and_one_by_a_model_are_two(corpus: Path, model: Path) -> None:
    first = hfsynth.screen(corpus, pii="report").steps
    [second] = hfsynth.screen(corpus, pii="report", pii_model=str(model)).steps
    assert first[0]["kinds"] == {} and set(second["kinds"]) == {"person"}


def test_bad_settings_of_a_model_are_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, said in (
        (("--pii-kinds", "person"), "none is named"),
        (("--pii", "mark", "--pii-model", "no//such"), "is neither a folder nor the name of a model"),
        (("--pii-model", "user/ner"), "not in the local cache"),
    ):
        assert called("screen", corpus, *more) != 0
        assert said in capsys.readouterr().err.replace("\n", " ")


def test_a_recipe_takes_a_model_of_the_hub_again_and_no_folder(model: Path) -> None:
    own = settled_model(IdentifierModel(str(model)))
    on_hub = {"model": "user/ner", "revision": "a" * 40, "model_kinds": ["person"]}
    for told_, fine in ((on_hub, True), (own.told, False)):
        step = Step("screen", {"measures": [{"measure": "identifiers", "mode": "mark", **told_}]})
        if fine:
            require_repeatable([step], "vllm", None)
        else:
            with pytest.raises(ConfigError, match="a model of its author's"):
                require_repeatable([step], "vllm", None)


# --- before pairs are written -----------------------------------------------------------------------------------------

ASKED: list[str] = []


def echoing(prompt: str) -> str:
    """Quote the document."""
    ASKED.append(prompt)
    text = shown_documents(prompt)[-1]
    return render_pairs([Pair(text, text)])


def drawn() -> dict[int, str]:
    draw = random.Random(4)
    texts = {number: " ".join(sentence(draw)[0]) for number in range(20)}
    return texts | {7: " ".join(word for _ in range(60) for word in sentence(draw)[0])}


@pytest.mark.parametrize("mode", ["mark", "drop"])
def test_no_prompt_pair_or_text_has_a_name_that_is_told(model: Path, tmp_path: Path, mode: str) -> None:
    ASKED.clear()
    source = documents(tmp_path / "texts.jsonl", 20, special=drawn())
    asked = IdentifierModel(str(model), kinds=("person", "location"))
    config = SynthesizerConfig(
        "test_token_classifier:echoing", shots=2, window=2048, long_documents="split", pii=mode, pii_model=asked
    )
    result = synthesize(Source(str(source)), tmp_path / "out", config, engine=EngineConfig("scripted"), shard_rows=10)
    rows = rows_of(tmp_path / "out")
    seen = json.dumps([rows, ASKED])
    assert ASKED and not [name for name in (*PERSONS, *PLACES) if name in seen]
    assert mode == "drop" or len(rows) > 20
    kinds = Counter(kind for row in rows for kind in row["synthesis"]["identifiers"])
    told_ = result.stats["pii"]
    assert told_["kinds"] == dict(sorted(kinds.items())) and set(kinds) == {"person", "location"}
    marks = Counter(kind for row in rows for kind in kinds for _ in range(row["text"].count(f"<{kind.upper()}>")))
    assert marks == kinds
    revision = settled_model(asked).revision
    assert (told_["model"], told_["revision"], told_["model_kinds"]) == (model.name, revision, ["location", "person"])
    recipe = json.loads((tmp_path / "out" / "synthesizer_config.json").read_text())
    assert recipe["pii_model"] == {"name": model.name, "revision": revision, "kinds": ["location", "person"]}
    elsewhere = Path(shutil.copytree(model, tmp_path / model.name))
    same = replace(config, pii_model=IdentifierModel(str(elsewhere), kinds=asked.kinds))
    engine = EngineConfig("scripted")
    again = synthesize(Source(str(source)), tmp_path / "out", same, engine=engine, shard_rows=10)
    assert again.stats["pii"] == told_ and not again.worked
    with pytest.raises(OutputError, match="pii_model"):
        synthesize(Source(str(source)), tmp_path / "out", replace(same, pii_model=None), engine=engine, shard_rows=10)


def test_map_and_the_command_have_names_told_too(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = list(drawn().values())
    made = hfsynth.Synthesizer("scripted", pii="mark", pii_model=str(model), engine="scripted")
    mapped = Dataset.from_dict({"text": texts}).map(made, batched=True)
    assert not [name for name in PERSONS if name in json.dumps(mapped.to_list())]
    source = documents(tmp_path / "texts.jsonl", 20, special=drawn())
    asked = ["synthesize", source, tmp_path / "out", "--engine", "scripted", "--workers", 1, "--quiet"]
    assert called(*asked, "--pii", "mark", "--pii-model", model) == 0
    assert f"was told by the model {model.name}" in capsys.readouterr().out
    assert [row["text"] for row in rows_of(tmp_path / "out")] == mapped["text"]
    bad = [*asked[:2], tmp_path / "bad", *asked[3:]]
    for more, said in (
        (("--pii-model", model), "pii must be set where a pii_model is"),
        (("--pii-kinds", "person"), "none is named"),
        (("--pii", "mark", "--pii-model", model, "--pii-kinds", "card"), "does not tell 'card'"),
    ):
        assert called(*bad, *more) != 0
        assert said in capsys.readouterr().err and not (tmp_path / "bad").exists()


@pytest.mark.parametrize("name", ["/models/ner", "./ner", "ner", "~/ner", "a/b/c"])
def test_a_published_recipe_names_no_folder(tmp_path: Path, name: str) -> None:
    recipe = {"model": "user/model", "pii": "mark", "pii_model": {"name": name, "revision": "a" * 40}}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    assert read_recipe(path)["pii_model"]["name"] == name
    with pytest.raises(ConfigError, match="a model of somebody's machine"):
        read_recipe(path, published=True)
    path.write_text(json.dumps({**recipe, "pii_model": {"name": "user/ner", "revision": "a" * 40}}))
    config = SynthesizerConfig.from_dict(read_recipe(path, published=True))
    assert config.pii_model == IdentifierModel("user/ner", "a" * 40)


@pytest.mark.parametrize(
    "wrong", [3, {"kinds": ["person"]}, {"name": ""}, {"name": "m", "more": 1}, {"name": "m", "revision": 3}]
)
def test_what_names_no_model_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError):
        SynthesizerConfig.from_dict({"model": "m", "pii": "mark", "pii_model": wrong})
