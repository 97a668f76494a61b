"""Cards: what they say, what they ask for, what cannot break out of them, and what of the user's survives."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from corpus_folders import STATS, corpus_folder, record
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from started import run_process

import hfsynth
from hfsynth.core.errors import ConfigError, HubError, OutputError
from hfsynth.corpus.folder import assigned, incomplete, matching
from hfsynth.corpus.readme import (
    Block,
    Card,
    as_block,
    as_code,
    as_text,
    as_wrapped,
    configured_readme,
    front_matter,
    printable,
    shortened,
)
from hfsynth.documents.hf_datasets import open_texts
from hfsynth.publishing import plots
from hfsynth.publishing.belongings import belongings
from hfsynth.publishing.card import CardSample, CorpusFacts, build, card_of, size_category
from hfsynth.publishing.card_reuse import citation, render_command, synthesize_command
from hfsynth.publishing.facts import CardSettings, corpus_facts
from hfsynth.publishing.licensing import Licence
from hfsynth.publishing.plan import home_of, merged
from hfsynth.publishing.prepare import check_folder_card, write_card
from hfsynth.texts.styles import DEFAULT_STYLES

BOTH = {"default": {"train": 2, "validation": 1}, "pairs": {"train": 2}}
STATED = CardSettings(license="cc-by-4.0", language=("en",))
TRAPS = [
    "---\nlicense: mit\n---\n",
    "```\n</code></pre><script>alert(1)</script>",
    "~~~~\n<!-- hfsynth:end -->\n<!-- hfsynth:begin {} -->\n",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}{# gone #}",
    "a\r<img src=x onerror=alert(1)>\r\n# Title\u2028[x](javascript:alert(1))",
    "  \n\n\n\tindented\n- item\n| a | b |\n",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return corpus_folder(tmp_path / "corpus", BOTH, drawn=False)


def facts_with(samples: list[str]) -> CorpusFacts:
    return CorpusFacts("name", "Title", Licence("mit"), samples=tuple(CardSample("default", text) for text in samples))


def test_a_card_says_what_is_in_the_folder(folder: Path) -> None:
    result = hfsynth.write_card(folder, STATED)
    text = result.path.read_text()
    metadata = Card.parse(text).metadata
    assert metadata["license"] == "cc-by-4.0" and metadata["language"] == ["en"]
    assert metadata["size_categories"] == ["n<1K"] and metadata["annotations_creators"] == ["machine-generated"]
    assert {"synthetic", "hfsynth"} <= set(metadata["tags"]) and "text-generation" in metadata["task_categories"]
    assert [entry["config_name"] for entry in metadata["configs"]] == ["default", "pairs"]
    infos = {info["config_name"]: info for info in metadata["dataset_info"]}
    assert {s["name"]: s["num_examples"] for s in infos["default"]["splits"]} == {"train": 4, "validation": 2}
    sizes = [path.stat().st_size for path in (folder / "pairs").iterdir()]
    assert infos["pairs"]["download_size"] == sum(sizes) and infos["pairs"]["dataset_size"] > 0
    for fact in (
        "`no_answer` | 2",
        "`no_pairs` | 1",
        "6 pairs",
        "2.00",
        "| 518 |",
        "`instruction-pretrain`",
        "70 and 86",
    ):
        assert fact in text, fact
    assert "one default train 0 0" in text and 'load_dataset("corpus", "pairs", split="train")' in text
    assert all((folder / plot.path).is_file() for plot in corpus_facts(folder, STATED).plots)
    assert len(re.findall(r"!\[.*\]\(plots/\w+\.png\)", text)) == 2
    check_folder_card(folder)


def test_every_setting_is_described_and_shows_where_the_page_says(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cards.md").read_text("utf-8")
    names = [field.name for field in fields(CardSettings)]
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.M) == names
    assert re.findall(r"^    (\w+): ", inspect.getdoc(CardSettings) or "", flags=re.M) == names
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.md").write_text("mine")
    stated = CardSettings(
        license="other",
        license_name="My terms",
        license_link="https://example.org/terms",
        language=("en", "de"),
        title="A title",
        repo="user/name",
        source_license="cc0-1.0",
        model_license="apache-2.0",
        include=("notes/*.md",),
    )
    text = write_card(folder, stated).path.read_text("utf-8")
    metadata = Card.parse(text).metadata
    assert metadata["license"] == "other" and metadata["license_name"] == "My terms"
    assert metadata["license_link"] == "https://example.org/terms" and metadata["pretty_name"] == "A title"
    assert metadata["language"] == ["en", "de"]
    licence = text.partition("## Licence\n")[2].partition("\n## ")[0]
    assert all(f"{what} | " in licence for what in ("this corpus", "its source", "the model"))
    assert all(said in licence for said in ("https://example.org/terms", "`cc0-1.0`", "`apache-2.0`"))
    assert "\n# A title\n" in text and 'load_dataset("user/name", "pairs"' in text and "--recipe user/name" in text
    assert "notes/mine.md" in belongings(folder, "dataset", stated.include).files and "mine.md" not in text


def test_datasets_reads_a_folder_by_its_card(folder: Path) -> None:
    write_card(folder, STATED)
    assert {s: len(d) for s, d in load_dataset(str(folder)).items()} == {"train": 4, "validation": 2}
    assert load_dataset(str(folder), "pairs", split="train")[0]["pairs"][0]["instruction"] == "What?"


def test_a_folder_whose_texts_count_pairs_under_the_old_name_is_read(tmp_path: Path) -> None:
    root = corpus_folder(tmp_path / "corpus", {"pairs": {"train": 1}})
    (root / "data").mkdir()
    (root / ".hfsynth" / "manifest.json").unlink()
    old = pa.table({"text": ["An old text."], "source_ids": [["a"]], "shots": [1], "pairs": [2], "style": ["classic"]})
    pq.write_table(old, root / "data" / "train-00000-of-00001.parquet")
    assert "An old text." in write_card(root, STATED).path.read_text()
    assert open_texts(str(root))["text"] == ["An old text."]


def test_the_same_facts_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_card(folder, STATED)
    first = {path: path.read_bytes() for path in [folder / "README.md", *(folder / "plots").iterdir()]}
    for path in first:
        path.unlink()
    corpus_folder(folder, BOTH, drawn=False)
    write_card(folder, STATED)
    assert {path: path.read_bytes() for path in first} == first
    assert not write_card(folder).changed


def test_own_words_and_own_metadata_survive(folder: Path) -> None:
    write_card(folder, STATED)
    readme = folder / "README.md"
    text = readme.read_text().replace("pretty_name: corpus", "pretty_name: Mine\nviewer: false")
    before, mark, rest = text.partition("<!-- hfsynth:begin")
    readme.write_text(f"{before}Read this *first*.\n\n```\n<b>\n\n\nx\n```\n\n{mark}{rest}\n## Thanks\n\nTo all.\n")
    with pytest.raises(OutputError, match="stale"):
        check_folder_card(folder)
    write_card(folder, CardSettings(license="mit"))
    card = Card.parse(readme.read_text())
    assert card.words == ["Read this *first*.\n\n```\n<b>\n\n\nx\n```", "## Thanks\n\nTo all."]
    assert isinstance(card.content[1], Block)
    assert card.metadata["viewer"] is False and card.metadata["pretty_name"] == "Mine"
    assert card.metadata["license"] == "mit" and card.metadata["language"] == ["en"]
    check_folder_card(folder)


def test_a_check_sees_every_change(folder: Path) -> None:
    with pytest.raises(OutputError, match="licence"):
        check_folder_card(folder)
    write_card(folder, STATED)
    stats = json.dumps({**STATS, "pairs_per_document": {"0": 3, "2": 1}})
    (folder / "stats.json").write_text(stats)
    with pytest.raises(OutputError, match="pairs_per_document.png shows other numbers"):
        check_folder_card(folder)
    readme = write_card(folder).path.read_bytes()
    corpus_folder(folder, {**BOTH, "pairs": {"train": 2, "test": 1}}, stats=json.loads(stats))
    (folder / "README.md").write_bytes(readme)
    with pytest.raises(OutputError, match=r"stale.*\n.*hfsynth card"):
        check_folder_card(folder, STATED)
    (folder / "README.md").unlink()
    with pytest.raises(OutputError, match="has no card"):
        check_folder_card(folder)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        (CardSettings(), "needs a licence"),
        (CardSettings(license="other"), "its name and a link"),
        (CardSettings(license="other", license_name="mine"), "--license-link"),
        (CardSettings(license="CC BY 4.0"), "no licence identifier"),
        (CardSettings(license="mit\n---\n"), "no licence identifier"),
        (CardSettings(license="mit", language=("English language",)), "no language code"),
    ],
)
def test_what_is_missing_is_asked_for(folder: Path, given_settings: CardSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_card(folder, given_settings)
    assert not (folder / "plots").exists()


def test_the_licence_of_the_source_is_taken_and_remembered(folder: Path) -> None:
    write_card(folder, CardSettings(source_license="odc-by", model_license="apache-2.0"))
    assert Card.parse((folder / "README.md").read_text()).metadata["license"] == "odc-by"
    assert "the model | `apache-2.0`" in write_card(folder, CardSettings(license="mit")).path.read_text()
    link = CardSettings(license="other", license_name="mine", license_link="https://example.org/licence")
    metadata = Card.parse(write_card(folder, link).path.read_text()).metadata
    assert metadata["license_name"] == "mine" and metadata["license_link"] == "https://example.org/licence"
    metadata = Card.parse(write_card(folder, CardSettings(license="mit")).path.read_text()).metadata
    assert "license_name" not in metadata


def shown_blocks(card: str) -> list[str]:
    """Return the indented blocks of a card as CommonMark sees them."""
    body = card.split("\n---\n", 1)[1]
    tokens = MarkdownIt("commonmark").parse(body)
    html = [token.content.strip() for token in tokens if token.type == "html_block"]
    assert all(content.startswith(("<!-- hfsynth:", "<!-- Made")) for content in html)
    inline = [child.type for token in tokens for child in token.children or []]
    assert "html_inline" not in inline
    return [token.content for token in tokens if token.type == "code_block"]


@pytest.mark.parametrize("trap", TRAPS)
def test_documents_cannot_break_out(trap: str) -> None:
    plain = Card.parse(build(facts_with(["harmless"])))
    text = build(facts_with([f"x{trap}x"]))
    card = Card.parse(text)
    assert card.metadata == plain.metadata and len(card.blocks) == 1 and not card.words
    shown = shown_blocks(text)[0]
    assert shown.startswith("x") and shown.rstrip("\n").endswith("x")
    assert ("{{ 7 * 7 }}" in shown) == ("{{ 7 * 7 }}" in trap)


@settings(max_examples=60)
@given(st.text(min_size=1, max_size=80), st.text(max_size=40))
def test_any_text_stays_text(text: str, name: str) -> None:
    facts = replace(facts_with([f"a{text}a"]), title=name, source_license=name)
    built = build(facts)
    assert built == build(facts)
    card = Card.parse(built.encode("utf-8", "strict").decode())
    assert len(card.blocks) == 1 and not card.words and card.metadata["pretty_name"] == printable(name)
    assert Card.parse(card.text()).text() == card.text()
    shown = shown_blocks(built)[0]
    assert shown.startswith("a") and shown.rstrip("\n").endswith("a")


@pytest.mark.parametrize("name", ["\x85", "a\u2028b", "\u2029", "a\nb"])
def test_no_kind_of_line_break_breaks_the_metadata(name: str) -> None:
    card = Card.parse(build(replace(facts_with(["a"]), title=name)))
    assert card.metadata["pretty_name"] == printable(name)


@given(st.text(max_size=60))
def test_a_code_span_is_one_span(text: str) -> None:
    tokens = MarkdownIt("commonmark").parseInline(f"x {as_code(text)} y")[0].children or []
    assert [token.type for token in tokens] in (["text", "code_inline", "text"], ["text"])
    assert "\n" not in as_code(text)
    assert all(line.startswith("    ") or not line for line in as_block(text).split("\n"))


def test_templates(folder: Path) -> None:
    text = write_card(folder, STATED, template="# {{ title | code }}\n{{ stats.pairs }} pairs").path.read_text()
    assert "6 pairs" in text and "# `corpus`" in text and Card.parse(text).metadata["license"] == "cc-by-4.0"
    for template in ("{{ unknown }}", "{% if %}", "{{ stats.nothing }}", "{{ title | missing }}"):
        with pytest.raises(ConfigError, match="template fails"):
            write_card(folder, STATED, template=template)
    with pytest.raises(ConfigError, match="own marks"):
        write_card(folder, STATED, template="<!-- hfsynth:end -->")


@pytest.mark.parametrize("text", ["---\na: [\n---\n", "---\n- a\n---\n", '<!-- hfsynth:begin {"parts": []} -->\nx'])
def test_a_damaged_readme_is_named(folder: Path, text: str) -> None:
    (folder / "README.md").write_text(text)
    with pytest.raises(OutputError, match=r"README\.md"):
        write_card(folder, STATED)


def test_everybody_who_reads_a_readme_reads_its_front_matter_alike() -> None:
    for damaged in ("---\na: [\n---\n", "---\n- a\n---\n"):
        with pytest.raises(OutputError) as by_card:
            Card.parse(damaged)
        with pytest.raises(OutputError) as by_configs:
            configured_readme(damaged, {})
        assert by_card.value.message == by_configs.value.message
    for text in ("---\na: 1\n---\nWords.\n", " \n--- \r\na: 1\r\n---\r\nWords.\n", "---\na: 1\n---\nWords.\n---\n"):
        assert Card.parse(text).metadata == {"a": 1}
        assert configured_readme(text, {}).endswith(f"\na: 1\nconfigs: []\n---\n{text[text.index('Words') :]}")
    for text in ("---\nA line, and no front matter.\n", "Words.\n\n---\na: 1\n---\n", ""):
        assert front_matter(text) == ({}, text) and Card.parse(text).metadata == {}
        assert configured_readme(text, {}).endswith(f"---\n{text}")


def test_plots_are_left_out_where_they_cannot_be_drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    result = write_card(folder, CardSettings(license="mit"))
    assert any("matplotlib" in note for note in result.notes) and any("--language" in note for note in result.notes)
    assert "![" not in result.path.read_text() and not (folder / "plots").exists()


def test_mixtures_and_renderings_are_told_where_known(folder: Path) -> None:
    part = {"name": "raw `x` | y", "kind": "raw", "documents": 5, "tokens": 100, "share_got": 0.25}
    stats = {**STATS, "mix": {"parts": [part]}, "render": {"seed": 3, "styles": {"classic": 0.8}}}
    (folder / "stats.json").write_text(json.dumps({**stats, "evaluation": {"f1": 0.5}}))
    text = write_card(folder, STATED).path.read_text()
    assert "25.0 %" in text and "| `styles.classic` | `0.8` |" in text and "`f1` `0.5`" in text


def test_a_mixture_of_other_corpora(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "mixed", {"default": {"train": 1}}, recipe=False)
    parts = [{"name": name, "kind": "raw", "documents": 1, "tokens": 9, "share_got": 0.5} for name in ("$x_{", "文")]
    (folder / "stats.json").write_text(json.dumps({"mix": {"tokens": 18, "parts": parts}}))
    (folder / "synthesizer_config.json").write_text(json.dumps({"mix": {"seed": 0}}))
    text = write_card(folder, STATED).path.read_text()
    assert "The training texts have 18 tokens in `train`.\n" in text
    assert "A mixture of texts" in text and "`$x_{`" in text and "![Tokens of the mixture by part]" in text
    assert "Make it again" not in text and [path.name for path in (folder / "plots").iterdir()] == ["mixture.png"]
    check_folder_card(folder)
    bare = corpus_folder(tmp_path / "bare", {"default": {"train": 1}}, recipe=False)
    assert "brought from elsewhere" in write_card(bare, STATED).path.read_text()


# Several corpora in one repo


def card_with(parts: dict[str, int], *, title: str = "name", language: str = "en", words: str = "") -> Card:
    entries = [
        {"config_name": c, "data_files": [{"split": s, "path": f"{c}/{s}-*.parquet"}]}
        for c, s in map(split_name, parts)
    ]
    infos = [
        {
            "config_name": c,
            "features": [],
            "splits": [{"name": s, "num_examples": rows, "num_bytes": rows}],
            "download_size": rows,
            "dataset_size": rows,
        }
        for (c, s), rows in zip(map(split_name, parts), parts.values(), strict=True)
    ]
    metadata = {
        "license": "mit",
        "language": [language],
        "pretty_name": title,
        "configs": entries,
        "dataset_info": infos,
    }
    block = Block({"parts": list(parts)}, f"About {', '.join(parts)}.")
    return Card(metadata, (*([words] if words else []), block))


def split_name(name: str) -> tuple[str, str]:
    config, _, split = name.partition("/")
    return config, split


def test_cards_merge() -> None:
    theirs = card_with({"a/train": 600, "b/train": 5}, title="Theirs", words="Their words.")
    ours = card_with({"c/train": 700}, language="de", words="Our words.")
    card = Card.parse(merged(ours, ours.blocks[0], theirs, {}).text())
    assert [entry["config_name"] for entry in card.metadata["configs"]] == ["a", "b", "c"]
    assert card.metadata["size_categories"] == ["1K<n<10K"] and card.metadata["language"] == ["en", "de"]
    assert card.metadata["pretty_name"] == "Theirs" and card.metadata["license"] == "mit"
    assert [block.body for block in card.blocks] == ["About a/train, b/train.", "About c/train."]
    assert card.words == ["Our words.\n\nTheir words."]
    again = merged(ours, ours.blocks[0], card, {})
    assert again.text() == card.text()
    split = card_with({"c/test": 1})
    card = merged(split, split.blocks[0], card, {"c/train": 7000})
    info = next(info for info in card.metadata["dataset_info"] if info["config_name"] == "c")
    assert (
        [s["name"] for s in info["splits"]] == ["train", "test"]
        and info["dataset_size"] == 701
        and info["download_size"] == 7001
    )
    assert len(card.blocks) == 3
    changed = {**split.metadata["dataset_info"][0], "features": [{"name": "x", "dtype": "string"}]}
    with pytest.raises(HubError, match="other columns"):
        merged(replace(split, metadata={**split.metadata, "dataset_info": [changed]}), split.blocks[0], card, {})


def test_the_root_belongs_to_the_first_corpus() -> None:
    first = card_with({"pairs/train": 1})
    assert home_of(["pairs/train"], Card(), []) == home_of(["pairs/train", "default/train"], first, []) == ""
    assert home_of(["new/train"], first, ["stats.json"]) == "corpora/new-train/"
    moved = Card(first.metadata, (Block({"parts": ["new/train"], "home": "corpora/new-train/"}, ""),))
    assert home_of(["new/train", "x/train"], moved, []) == "corpora/new-train/"


def test_files_belong_to_configs() -> None:
    paths = ["data/train-00000-of-00001.parquet", "pairs/test-00000-of-00001.parquet", "x/y/z.parquet"]
    named = {"configs": [{"config_name": "deep", "data_files": "x/**/*.parquet"}]}
    found = {split.name: split.files for split in assigned(paths, named)}
    assert found == {"default/train": (paths[0],), "deep/train": (paths[2],), "pairs/test": (paths[1],)}
    for stray in ("loose.parquet", "x/y/z.parquet", "data/part.parquet"):
        with pytest.raises(OutputError, match="no config"):
            assigned([stray], {})
    assert matching(["a/b.parquet", "a/c/b.parquet"], ["a/*.parquet"]) == ("a/b.parquet",)
    assert incomplete(["a/train-00001-of-00003.parquet"]) == ["a/train-* has 1 of 3 files"]
    assert "several runs" in incomplete(["a/t-00000-of-00001.parquet", "a/t-00001-of-00002.parquet"])[0]


def test_sizes() -> None:
    assert [size_category(n) for n in (0, 999, 1000, 10**6, 10**11)] == [
        "n<1K",
        "n<1K",
        "1K<n<10K",
        "1M<n<10M",
        "100B<n<1T",
    ]


def test_unlike_and_damaged_files_are_named(folder: Path) -> None:
    other = folder / "pairs" / "train-00001-of-00002.parquet"
    other.write_bytes((folder / "data" / "train-00000-of-00002.parquet").read_bytes())
    with pytest.raises(OutputError, match="is not whole"):
        write_card(folder, STATED)
    record(folder)
    with pytest.raises(OutputError, match="different columns"):
        write_card(folder, STATED)
    other.write_bytes(b"PAR1 no")
    record(folder)
    with pytest.raises(OutputError, match="damaged"):
        write_card(folder, STATED)
    with pytest.raises(OutputError, match="no Parquet file"):
        write_card(folder / ".hfsynth", STATED)


def test_a_model_card(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base", "r": 16}))
    with pytest.raises(OutputError, match="no model"):
        write_card(tmp_path, STATED, kind="model")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    text = write_card(tmp_path, replace(STATED, repo="user/model"), kind="model").path.read_text()
    metadata = Card.parse(text).metadata
    assert metadata["base_model"] == "org/base" and metadata["library_name"] == "peft"
    assert "--model user/model" in text and "`r` | `16`" in text
    assert yaml.safe_load(text.split("---")[1])["license"] == "cc-by-4.0"
    assert card_of(facts_with([])).blocks[0].parts == frozenset()
    check_folder_card(tmp_path, kind="model")


def test_rows_that_could_not_be_read_and_a_source_that_changed_are_on_the_card(folder: Path) -> None:
    stats = json.loads((folder / "stats.json").read_text())
    rows = [{"row": n, "reason": f"a.jsonl, line {n} is no JSON: `odd`"} for n in range(31, 46)]
    (folder / "stats.json").write_text(json.dumps({**stats, "unreadable": 15, "unreadable_rows": rows}))
    recipe = json.loads((folder / "synthesizer_config.json").read_text())
    recipe["source"]["earlier_revisions"] = ["0122"]
    (folder / "synthesizer_config.json").write_text(json.dumps(recipe))
    write_card(folder, STATED)
    text = (folder / "README.md").read_text()
    assert "15 more rows of the source are `unreadable` and were left out, the first of them:" in text
    assert "- row 31: `` a.jsonl, line 31 is no JSON: `odd` ``" in text and "row 41" not in text
    assert "| the source changed on the way; begun at | `0122` |" in text


HFSYNTH = [sys.executable, "-m", "hfsynth"]


def shell(*commands: str, cwd: Path) -> None:
    """Run commands of hfsynth as they are typed."""
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "hfsynth"
        run_process([*HFSYNTH, *words], check=True, cwd=cwd)


def texts_in(folder: Path) -> dict[str, list[str]]:
    return {split: rows["text"] for split, rows in load_dataset(str(folder)).items()}


def test_a_card_tells_its_reader_what_the_columns_are_and_how_to_make_it_again(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"Lighthouse {n} is tall. " * 40}) + "\n" for n in range(12)]
    (tmp_path / "docs.jsonl").write_text("".join([*lines, "no JSON\n"]))
    corpus, styles = tmp_path / "corpus", "--style classic=3 --style dialogue=1.5 --inverted 0.5"
    shell(
        "hfsynth synthesize docs.jsonl corpus --engine scripted --quiet --workers 0 --bad-rows skip",
        f"hfsynth render corpus --seed 3 --quiet {styles} --validation 0.3 --tokenizer embedded",
        cwd=tmp_path,
    )
    text = write_card(corpus, replace(STATED, title="A *plain* title: corpus-1")).path.read_text()
    assert "# A \\*plain\\* title\\: corpus-1\n" in text and "| `num_pairs` | `int64` | how many pairs" in text
    assert '"instruction": "How does the text begin?"' in text and "| `seed` | `3` |" in text
    assert "| `pairs` | `list of instruction, response` | the instruction-response pairs about" in text
    assert re.search(
        r"texts have [\d,]+ tokens in `train`, [\d,]+ tokens in `validation`, counted with `embedded`", text
    )
    assert "[hfsynth](https://pypi.org/project/hfsynth/) by [this recipe](synthesizer_config.json)" in text
    printed = text.partition("## Make it again\n\n")[2].partition("\n\n")[0]
    (tmp_path / "synthesizer_config.json").write_bytes((corpus / "synthesizer_config.json").read_bytes())
    assert max(map(len, printed.splitlines())) <= 90
    shell(*printed.replace("\\\n", "").splitlines(), cwd=tmp_path)
    assert texts_in(tmp_path / "again") == texts_in(corpus) and len(texts_in(corpus)) == 2


def test_what_is_not_usual_of_a_rendering_is_in_its_command() -> None:
    usual = asdict(DEFAULT_STYLES)
    assert render_command({"styles": usual, "texts": {"train": 3}}) is None
    assert render_command({"seed": 1, "styles": usual}) == "hfsynth render again/ --seed 1"
    given = {"seed": 1, "styles": {**usual, "numbered": 0.0, "inverted": 0.0}, "tokenizer": "folder"}
    assert render_command(given) == (
        "hfsynth render again/ --seed 1 --style classic=80.0 --style dialogue=5.0 \\\n"
        "  --style inline_few_shot=5.0 --style next_turn=5.0 --inverted 0.0"
    )


def test_a_script_of_ones_own_is_named_in_the_command() -> None:
    recipe = {"model": "scripts:two_pairs", "source": {"location": "docs.jsonl", "revision": None}}
    assert synthesize_command(recipe, "user/corpus", unreadable=False).endswith(
        "--recipe user/corpus --engine scripted \\\n  --model scripts:two_pairs"
    )
    assert "--engine" not in synthesize_command({**recipe, "model": "org/model"}, "user/corpus", unreadable=False)


def test_a_dataset_is_cited_in_words_that_tex_takes() -> None:
    assert citation("corpus", "100% {odd} \\input", None).splitlines() == [
        "@misc{corpus,",
        "  title        = {100\\% odd input},",
        "  note         = {Made with hfsynth}",
        "}",
    ]
    cited = citation("ada/my-corpus", "My_corpus", "ada/my-corpus")
    assert cited.startswith("@misc{my_corpus,\n  title        = {My\\_corpus},\n  author       = {ada},\n")
    assert "  howpublished = {\\url{https://huggingface.co/datasets/ada/my-corpus}},\n" in cited


def test_sizes_are_those_that_datasets_counts(tmp_path: Path) -> None:
    root = corpus_folder(tmp_path / "corpus", BOTH)
    rows = [
        {"text": "word " * (n % 7), "pairs": [{"instruction": "é", "response": "ü" * n}] * (n % 3)} for n in range(25)
    ]
    path = root / "pairs" / "train-00000-of-00002.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=10)
    record(root)
    _, pairs = Card.parse(write_card(root, STATED).path.read_text()).metadata["dataset_info"]
    (tmp_path / "bare").mkdir()
    shutil.copytree(root / "pairs", tmp_path / "bare" / "data")
    counted = load_dataset(str(tmp_path / "bare"), cache_dir=str(tmp_path / "cache"), split="train").info.splits
    assert pairs["splits"][0]["num_bytes"] == counted["train"].num_bytes
    with path.open("r+b") as file:
        file.seek(4)
        file.write(bytes(40))
    with pytest.raises(OutputError, match="no whole Parquet file"):
        corpus_facts(root, STATED)


@given(st.text() | st.sampled_from(TRAPS) | st.text(alphabet="*_`<>[]()!#&|~\\\\wx.:/@ -+1", min_size=1))
@settings(deadline=None)
def test_a_title_is_plain_text(text: str) -> None:
    parser = MarkdownIt("commonmark").enable("strikethrough")
    heading = parser.parse(f"# {as_text(text)}\n")[1]
    plain = " ".join(printable(text).split()) or "(empty)"
    children = heading.children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == plain


@given(st.text(alphabet=st.sampled_from("ab -\t\n文字,"), max_size=400) | st.sampled_from(TRAPS))
@settings(deadline=None)
def test_samples_are_wrapped_and_stay_blocks(text: str) -> None:
    lines = as_wrapped(text).split("\n")
    assert all(not line or line.startswith("    ") for line in lines)
    assert all(len(line) <= 4 + 76 for line in lines)
    assert re.sub(r"\s", "", as_wrapped(text)) == re.sub(r"\s", "", printable(text.replace("\r", "\n")))


def test_wide_letters_take_two_columns() -> None:
    assert max(len(line) for line in as_wrapped("文" * 200).split("\n")) == 4 + 38
    assert as_wrapped('  "text": ' + "word " * 30).split("\n")[1].startswith("      word")


def test_a_shortened_text_is_cut_without_spaces_at_its_cuts() -> None:
    words = "word " * 400
    head, count, tail = shortened(words).split("\n")
    assert head == head.strip() and tail == tail.lstrip()
    assert count == f"[… {len(words) - len(head) - len(tail):,} characters …]"
    assert shortened("word " * 3) == "word " * 3


def test_pairs_that_rules_mined_are_not_said_to_be_of_a_model(folder: Path) -> None:
    config = folder / "synthesizer_config.json"
    config.write_text(config.read_text().replace('"scripted"', '"mined"'))
    text = write_card(folder, STATED).path.read_text()
    assert "pairs that rules mined from it" in text and "pairs were mined by rules and not checked" in text
    assert "written by a model" not in text and "a language model wrote" not in text
