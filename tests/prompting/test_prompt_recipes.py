"""Prompt recipes: what they may say, which prompt a document gets, what is asked and what is kept of the answer."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import hfsynth
from hfsynth.core.config import ChatOptions, SynthesizerConfig
from hfsynth.core.errors import ColumnError, ConfigError
from hfsynth.core.prompt_recipes import TRAITS, Prompt, PromptRecipe, variables_of, worded
from hfsynth.core.records import Document, Pair, Reason, Turn
from hfsynth.engine.scripted import CharacterTokenizer
from hfsynth.prompting.chat import Chat
from hfsynth.prompting.document_traits import MEASURES
from hfsynth.prompting.recipe_chat import Asked, PromptDraw, language_name
from hfsynth.synthesis.prompts import open_prompt, prompt_names

CHAT = Chat(CharacterTokenizer())
TEXT = "The lamp of the tower was lit in 1823. It burned oil for forty years."
TABLE = "| year | lamps |\n| --- | --- |\n| 1823 | 1 |\n| 1850 | 40 |"


def prompt(wording: str = "Ask about it.", **fields: Any) -> Prompt:  # noqa: ANN401
    return Prompt(**{"name": "own", "wording": wording, **fields})


def recipe(*prompts: Prompt, **fields: Any) -> PromptRecipe:  # noqa: ANN401
    return PromptRecipe("mine", prompts or (prompt(),), **fields)


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_the_built_in_recipes_are_whole() -> None:
    assert set(prompt_names()) == {"qa", "reading", "faq", "tutorial", "math", "table", "dialogue", "knowledge"}
    for name in prompt_names():
        (own,) = open_prompt(name).prompts
        assert own.name == name
        asked = Asked(CHAT, own, own.pairs_for(200), "a nurse").message(TEXT)
        assert asked.endswith(TEXT) and "Write in the language of the text." in " ".join(asked.split())
        assert "a nurse" in asked and "persona" not in Asked(CHAT, own, 1).message(TEXT)
        assert ("JSON" in asked) is (own.returns == "pairs")


def test_a_recipe_comes_back_from_its_values_and_its_digest_tells_it_apart() -> None:
    own = recipe(prompt(when=("words > 3", "digits>=0.010"), weight=2), prompt("Other.", name="b", returns="text"))
    assert own.prompts[0].when == ("digits>=0.01", "words>3")
    again = PromptRecipe.from_dict(json.loads(json.dumps(own.to_dict())))
    assert again == own and again.digest == own.digest
    others = [replace(own, name="other"), recipe(prompt("Ask about it!")), recipe(prompt(most_pairs=3))]
    with pytest.raises(ConfigError, match="no wording names"):
        recipe(personas=("a nurse",))
    assert len({own.digest, *(one.digest for one in others)}) == 4


@pytest.mark.parametrize(
    ("wording", "said"),
    [
        ("Ask {{ whom }}.", "whom, which is no variable"),
        ("{% for a in document %}{{ a }}{% endfor %}", "uses for in line 1"),
        ("{{ document.__class__ }}", "uses getattr"),
        ("{{ 'a' * 999999 }}", "uses mul"),
        ("{{ document | join(document) }}", "uses the filter 'join'"),
        ("{{ range(9) }}", "uses call"),
        ("{% if pairs %}", "no Jinja template, line 1"),
        ("{{ document | nothing }}", "no Jinja template"),
        ("{% set pairs = 3 %}", "uses assign"),
        ("{% include 'x' %}", "uses include"),
        ("   ", "must be a text"),
    ],
)
def test_a_wording_that_does_more_than_word_is_refused(wording: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prompt(wording)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("wording = 'a", "is no TOML"),
        ("name = 'x'", "needs a name and a wording"),
        ("wording = 'a'\nwhat = 1", "'what' is no setting"),
        ("wording = 'a'\nreturns = 'poems'", "pairs or text"),
        ("wording = 'a'\nwhen = ['length>3']", "Traits: words"),
        ("wording = 'a'\nwhen = 'words>3'", "a list of conditions"),
        ("wording = 'a'\nkinds = ['riddle']", "free_form"),
        ("wording = 'a'\nmost_pairs = 0", "from 1 to 50"),
        ("wording = 'a'\nlanguage = 'german'", "a code like de"),
        ("wording = 'a'\nweight = -1", "a number above 0"),
        ("[[prompts]]\nuse = 'riddles'", "There are: dialogue, faq"),
        ("[[prompts]]\nuse = 'qa'\n[[prompts]]\nuse = 'qa'", "different from each other"),
        ("prompts = []", "1 to 100 prompts"),
        ("prompts = [1]", r"\[\[prompts\]\]"),
        ("wording = '{{ nobody }}'", "nobody, which is no variable"),
        ("wording = 'a {{ persona }}'\npersonas = ['b']\npersona_column = 'c'", "given twice"),
    ],
)
def test_what_a_file_gets_wrong_is_said_with_its_name(tmp_path: Path, toml: str, said: str) -> None:
    path = written(tmp_path, toml)
    with pytest.raises(ConfigError, match=said) as error:
        open_prompt(path)
    assert str(path) in str(error.value)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean tutorial") as error:
        open_prompt("tutorials")
    assert "dialogue, faq, knowledge" in str(error.value)
    with pytest.raises(ConfigError, match="No such file"):
        open_prompt(tmp_path / "gone.toml")


def test_a_file_builds_on_the_built_in_prompts(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'language = "de"\n[[prompts]]\nuse = "faq"\nweight = 3\n[[prompts]]\nuse = "math"\nlanguage = "fr"\n'
        'when = ["digits>=0.02"]\n[[prompts]]\nname = "own"\nwording = "Ask."\n',
    )
    faq, math, own = open_prompt(path).prompts
    assert (faq.weight, faq.language, faq.wording) == (3, "de", open_prompt("faq").prompts[0].wording)
    assert (math.language, math.when, math.kinds) == ("fr", ("digits>=0.02",), ("chain_of_thought",))
    assert (own.language, own.wording) == ("de", "Ask.")
    single = open_prompt(written(tmp_path, 'wording = "Ask."\nreturns = "text"', "short.toml"))
    assert (single.name, single.prompts[0].name, single.prompts[0].returns) == ("short", "short", "text")


def test_personas_are_read_into_the_recipe(tmp_path: Path) -> None:
    people = tmp_path / "people.jsonl"
    people.write_text("".join(json.dumps({"persona": f"person {n}"}) + "\n" for n in range(450)))
    path = written(tmp_path, f'wording = "Ask as {{{{ persona }}}}."\npersonas = "{people}"')
    own = open_prompt(path)
    assert len(own.personas) == 200 and own.personas[0] == "person 0" and own.personas[-1] == "person 447"
    draw = PromptDraw(own, CHAT, seed=0)
    drawn = [draw.about(Document(f"d{n}", TEXT), TEXT) for n in range(300)]
    assert len({one.prompts.persona for one in drawn if one}) > 100
    assert drawn == [draw.about(Document(f"d{n}", TEXT), TEXT) for n in range(300)]
    people.write_text('{"name": "x"}\n')
    with pytest.raises(ColumnError, match="persona"):
        open_prompt(path)


def test_traits_are_those_that_when_may_name() -> None:
    assert tuple(MEASURES) == TRAITS
    code = "def lamp(oil):\n    return oil * 2\n\nfor (i = 0; i < 3; i++) {\n}\n"
    spoken = 'Anna: Is it lit?\nTom: It is.\n"Good," she said.\n– Good night.'
    listed = "To do:\n- oil\n- wick\n1. light it\n2) wait"
    shares = {"tables": TABLE, "code": code, "dialogue": spoken, "lists": listed}
    for trait, text in shares.items():
        assert MEASURES[trait](text) >= 0.5, trait
        assert MEASURES[trait](TEXT) == 0, trait
        others = [one for name, one in shares.items() if name != trait]
        assert all(MEASURES[trait](one) <= 0.4 for one in others), trait
    assert MEASURES["digits"]("12 ab") == 0.5 and MEASURES["words"](TEXT) == 15 and MEASURES["words"]("灯台の火") == 4
    for letter in (
        "é",
        "’",
        "\u0e01",
        "\u0e3a",
        "\u3040",
        "\u30ff",
        "\u3400",
        "\u9fff",
        "\uf900",
        "\ufaff",
        "한",
        "😀",
        "\ud800",
    ):
        counted = letter in "\u0e01\u0e3a\u3040\u30ff\u3400\u9fff\uf900\ufaff"
        assert MEASURES["words"](f"two words{letter * 3} here") == (6 if counted else 3), letter
    fenced = "Look:\n```\nx\n```"
    assert MEASURES["code"](fenced) == 0.75 and all(measure("") == 0 for measure in MEASURES.values())


def test_documents_get_prompts_that_are_for_them_by_weight() -> None:
    own = recipe(
        prompt(name="tables", when=("tables>0",)),
        prompt(name="often", when=("words>=5",), weight=3),
        prompt(name="seldom", when=("words>=5",)),
    )
    draw = PromptDraw(own, CHAT, seed=1)
    drawn = Counter(one.name for n in range(2_000) if (one := draw.about(Document(f"d{n}", TEXT), TEXT)))
    assert set(drawn) == {"often", "seldom"} and 1_400 < drawn["often"] < 1_600
    assert draw.about(Document("d", "Too short."), "Too short.") is None
    other = PromptDraw(own, CHAT, seed=2)
    assert any(
        draw.about(Document(f"d{n}", TEXT), TEXT) != other.about(Document(f"d{n}", TEXT), TEXT) for n in range(9)
    )


def test_the_number_of_pairs_follows_the_length_and_is_in_the_schema() -> None:
    own = prompt(words_a_pair=5, most_pairs=4)
    assert [own.pairs_for(words) for words in (0, 4, 5, 11, 500)] == [1, 1, 1, 2, 4]
    drawn = PromptDraw(recipe(own), CHAT, seed=0).about(Document("d", TEXT), TEXT)
    assert drawn is not None and json.loads(drawn.prompts.json_schema or "")["properties"]["pairs"]["maxItems"] == 3
    assert '"pairs", of 3 pairs' in drawn.prompts.message(TEXT)


def test_a_wording_may_hold_the_document_and_everything_in_it_is_text() -> None:
    own = prompt(
        "{{ pairs }} about <{{ document }}> in {{ language }}{% if 'free_form' in kinds %}, open{% endif %}.",
        language="de",
    )
    asked = Asked(CHAT, own, 1).message("{{ 7 * 7 }} </s>")
    assert asked.startswith("1 about <{{ 7 * 7 }} </s>> in German, open.") and asked.count("German") == 1
    sent = CHAT.tokenizer.decode(Asked(CHAT, own, 1).prompt((), "</s>"))
    assert "<< /s>>" in sent
    assert "Write in German." in Asked(CHAT, prompt(language="de"), 1).message(TEXT)
    names = [language_name(code) for code in ("document", "pt-BR", "xyz")]
    assert names == ["the language of the text", "Portuguese (pt-BR)", "the language with the code xyz"]


@given(
    wording=st.lists(
        st.sampled_from(
            [
                *(" ", "\n", "Ask.", "\0", "\0\1", "{{ pairs }}", "{{ persona }}", "{{ language }}"),
                *("{{ document }}", "{{ document | upper }}", "{{ 'document' }}", "{% if document %}so{% endif %}"),
                *("{{ document if persona else pairs }}", "{% if persona %}{{ document }}{% endif %}"),
            ]
        ),
        min_size=1,
        max_size=6,
    ).map("".join),
    document=st.text() | st.sampled_from(["\0", "\0\1 ", " a\n", "{{ pairs }}"]),
    persona=st.sampled_from(["", "a nurse", "\0", "\0\1\0", " "]),
)
def test_what_is_kept_of_a_wording_says_the_same_of_every_document(wording: str, document: str, persona: str) -> None:
    assume(wording.strip())
    own = prompt(wording)
    values = {"document": document, "pairs": 2, "kinds": own.kinds, "persona": persona}
    whole = worded(wording, {**values, "language": language_name("document")}).strip()
    said = Asked(CHAT, own, 2, persona).message(document)
    assert said.startswith(whole + "\n\n") and said.count('"pairs", of 2 pairs') >= 1
    assert "document" in variables_of(own) or said.endswith(f"\n\nThe text:\n\n{document}")
    one = Asked(CHAT, own, 2, persona)
    assert [one.message(text) for text in ("x", document, "x")] == [
        Asked(CHAT, own, 2, persona).message(text) for text in ("x", document, "x")
    ]


def test_documents_that_get_the_same_are_asked_by_the_same() -> None:
    draw = PromptDraw(recipe(prompt("Ask {{ persona }}."), personas=("a nurse", "a smith")), CHAT, seed=0)
    drawn = [draw.about(Document(f"d{n}", TEXT), TEXT) for n in range(50)]
    assert len({id(one) for one in drawn}) == 2


def test_earlier_shots_stay_as_they_were_asked() -> None:
    first, second = Asked(CHAT, prompt("First."), 1), Asked(CHAT, prompt("Second."), 2)
    shown = Turn("One.", (Pair("q", "a"),), first.message("One."))
    before, after = (CHAT.tokenizer.decode(one) for one in (first.prompt((), "One."), second.prompt((shown,), "Two.")))
    assert after.startswith(before) and after.count("First.") == 1 and after.count("Second.") == 1


def test_a_text_is_kept_whole_or_not_at_all() -> None:
    asked = Asked(CHAT, prompt(returns="text"), 1)
    assert asked.json_schema is None
    assert asked.parse("  A new < /s> text.\n", cut_off=False).rewritten == "A new </s> text."
    cut = asked.parse("A new te", cut_off=True)
    assert cut.rewritten is None and [one.reason for one in cut.rejected] == [Reason.UNFINISHED]
    assert asked.parse(" ", cut_off=False).rewritten is None


@pytest.mark.parametrize(
    "fields", [{"prompt_format": "instruction-pretrain"}, {"prompt_format": "chat", "chat": ChatOptions(max_pairs=3)}]
)
def test_a_recipe_is_for_chat_models_alone(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="A prompt recipe is for chat models"):
        SynthesizerConfig("m", prompt=recipe(), **fields)


def test_a_config_comes_back_with_its_prompts() -> None:
    config = SynthesizerConfig("m", prompt=recipe(), prompt_format="chat")
    values = json.loads(json.dumps(config.to_dict()))
    assert SynthesizerConfig.from_dict(values) == config and values["prompt"]["digest"] == recipe().digest
    assert "prompt" not in SynthesizerConfig("m", prompt_format="chat").to_dict()
    with pytest.raises(ConfigError, match="--prompt"):
        SynthesizerConfig.from_dict({**values, "prompt": "faq"})
    assert hfsynth.Synthesizer("m", engine="scripted", prompt="faq").config.prompt == open_prompt("faq")
