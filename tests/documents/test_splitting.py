from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, Features, IterableDataset, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from started import start_process

from hfsynth.core.errors import ColumnError, ConfigError
from hfsynth.core.records import content_id
from hfsynth.documents.boundaries import sentence_ends, splits_character
from hfsynth.documents.split_documents import split_documents
from hfsynth.documents.splitting import Piece, split_text, truncate_text

TEXTS = st.text(
    alphabet=st.one_of(st.sampled_from(" \n\t.!?。ab\u0301\u200dé\r\"'"), st.characters(codec=None)), max_size=300
)
MEGABYTE = 1_000_000


def words(text: str) -> int:
    """Count as tokenizers do: a word of up to six characters is a token, so is every other character."""
    return len(re.findall(r"\w{1,6}|\s+|[^\w\s]", text))


def uneven(text: str) -> int:
    """Count as BPE sometimes does: one more character may need one token less."""
    return len(text.encode("utf-8", "surrogatepass")) // 2 + (len(text) % 2)


class Meter:
    """A counter of tokens that knows how many characters it has been given."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self.count, self.characters, self.calls = count, 0, 0

    def __call__(self, text: str) -> int:
        self.characters += len(text)
        self.calls += 1
        return self.count(text)


def texts(pieces: list[Piece]) -> list[str]:
    return [piece.text for piece in pieces]


@settings(deadline=None)
@given(TEXTS, st.integers(3, 40), st.sampled_from([words, uneven, len]))
def test_pieces_fit_and_are_the_text_again(text: str, limit: int, count: Callable[[str], int]) -> None:
    pieces = split_text(text, limit, count)
    assert "".join(texts(pieces)) == text
    assert all(text.startswith(piece.text, piece.offset) and piece.text for piece in pieces)
    assert [piece.offset for piece in pieces] == [sum(map(len, texts(pieces[:k]))) for k in range(len(pieces))]
    assert all(count(piece.text) <= limit for piece in pieces)


@settings(deadline=None)
@given(TEXTS, st.integers(3, 40))
def test_white_space_alone_is_a_piece_only_where_no_neighbour_has_room(text: str, limit: int) -> None:
    pieces = texts(split_text(text, limit, len))
    for one, other in pairwise(pieces):
        if one.isspace() or other.isspace():
            assert len(one + other) > limit


@settings(deadline=None)
@given(TEXTS, st.integers(1, 40), st.sampled_from([words, uneven, len]))
def test_truncated_text_is_a_beginning_that_fits(text: str, limit: int, count: Callable[[str], int]) -> None:
    shown = truncate_text(text, limit, count)
    assert text.startswith(shown) and (not shown or count(shown) <= limit)
    assert shown or not text or count(text[0]) > limit
    if count(text) <= limit:
        assert shown == text


def test_a_paragraph_end_is_preferred_to_a_sentence_end() -> None:
    text = "One two three. Four five six.\n\nSeven eight. Nine ten eleven twelve."
    assert texts(split_text(text, 50, len)) == [
        "One two three. Four five six.\n\n",
        "Seven eight. Nine ten eleven twelve.",
    ]


def test_a_title_is_not_cut_off_for_being_a_paragraph() -> None:
    text = "Title\n\n" + "A sentence of this length. " * 4
    pieces = texts(split_text(text, 70, len))
    assert pieces[0] == "Title\n\n" + "A sentence of this length. " * 2


def test_windows_line_ends_make_paragraphs_and_indentation_stays_with_its_paragraph() -> None:
    text = "First part here.\r\n\r\n  second part here, indented"
    assert texts(split_text(text, 35, len)) == ["First part here.\r\n\r\n", "  second part here, indented"]


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("It rains. It pours now.", 15, ["It rains. ", "It pours now."]),
        ('He said "Stop!" She did (at last.) Then', 18, ['He said "Stop!" ', "She did (at last.)", " Then"]),
        ("今日は晴れです。明日は雨です。明後日は", 9, ["今日は晴れです。", "明日は雨です。", "明後日は"]),
        ("यह पहला है। यह दूसरा है।", 13, ["यह पहला है। ", "यह दूसरा है।"]),
        ("هل هذا صحيح؟ نعم هذا صحيح", 14, ["هل هذا صحيح؟ ", "نعم هذا صحيح"]),
        (
            "We gave Dr. Smith 3.5 mg, e.g. two pills of it",
            22,
            ["We gave Dr. Smith 3.5 ", "mg, e.g. two pills of ", "it"],
        ),
        ("see Fig. 3 and it works. ok then", 26, ["see Fig. 3 and it works. ", "ok then"]),
        ("one two three four", 9, ["one two ", "three ", "four"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
    ],
)
def test_where_a_text_is_cut(text: str, limit: int, expected: list[str]) -> None:
    assert texts(split_text(text, limit, len)) == expected


def test_dots_that_end_no_sentence() -> None:
    text = "Dr. A. Who et al. paid 3.50 U.S. dollars, i.e. much, at example.org.\n1. First.\n 2. Second? Yes."
    assert [text[:end].split()[-1] for end in sentence_ends(text)] == ["example.org.", "First.", "Second?", "Yes."]
    text = "It was in 1999. See no. 5 and Fig. 3. The answer is no. So"
    assert [text[:end].split()[-1] for end in sentence_ends(text)] == ["1999.", "3.", "no."]


def test_letters_are_not_parted_from_their_accents() -> None:
    text = "e\u0301" * 5 + "👍🏽" * 5 + "👩\u200d👩\u200d👧"
    cuts = [piece.offset for piece in split_text(text, 5, len)][1:]
    assert cuts and not any(splits_character(text, cut) for cut in cuts)


def test_a_character_of_many_parts_is_cut_where_it_must_be() -> None:
    zalgo = "a" + "\u0301" * 20
    assert texts(split_text(zalgo, 8, len)) == [zalgo[:8], zalgo[8:16], zalgo[16:]]


def test_a_piece_too_small_for_one_character_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot hold the character 'é' at offset 2"):
        split_text("abé", 1, lambda text: len(text.encode()))
    assert truncate_text("é", 1, lambda text: len(text.encode())) == ""


@pytest.mark.parametrize("limit", [0, -1, True, 2.5])
def test_limits_that_make_no_sense_are_refused(limit: int) -> None:
    with pytest.raises(ConfigError, match="max_tokens must be a whole number"):
        split_text("text", limit, len)


def test_an_empty_text_has_no_pieces() -> None:
    assert split_text("", 5, len) == []
    assert truncate_text("", 5, len) == ""


SENTENCE = "The quick brown fox, who is 3.5 years old, jumps over Dr. Dog. "
LONG = {
    "prose": (SENTENCE * 5 + "\n\n") * (MEGABYTE // 317),
    "no space": "abcdefghij" * (MEGABYTE // 10),
    "only space": " " * MEGABYTE,
    "only dots": "." * MEGABYTE,
    "blank lines": "\r\n" * (MEGABYTE // 2),
    "no sentence": "word " * (MEGABYTE // 5),
    "a short and an endless sentence": ("Yes. " + "on and " * 500) * (MEGABYTE // 3505),
    "dense, then thin": "漢字" * (MEGABYTE // 4) + "internationalization " * (MEGABYTE // 40),
    "accents": "e\u0301" * (MEGABYTE // 2),
}


@pytest.mark.parametrize("limit", [50, 1500, 100_000])
@pytest.mark.parametrize("name", LONG)
def test_a_megabyte_takes_a_dozen_passes_of_the_tokenizer_at_most(name: str, limit: int) -> None:
    text, count = LONG[name], len if "space" in name or "dots" in name or "lines" in name else words
    meter = Meter(count)
    pieces = split_text(text, limit, meter)
    assert "".join(texts(pieces)) == text
    assert meter.characters <= 12 * len(text)
    assert all(count(piece.text) <= limit for piece in pieces)


@pytest.mark.parametrize("name", LONG)
def test_truncating_a_megabyte_looks_at_its_beginning_only(name: str) -> None:
    meter = Meter(lambda text: 300 + len(text) // 4)
    assert truncate_text(LONG[name], 800, meter)
    assert meter.characters <= 40_000


# Datasets

DOCUMENTS = ["One two. Three four. Five six.", "Short.", None, "", "  \n "]


def rows(ds: Dataset | IterableDataset) -> list[tuple[str, str, int, str | None]]:
    return [(row["id"], row["source_id"], row["offset"], row["text"]) for row in ds]


def test_documents_become_pieces_with_their_source_and_offset() -> None:
    ds = Dataset.from_dict({"text": DOCUMENTS, "id": list(range(5)), "topic": list("abcde")})
    cut = split_documents(ds, max_tokens=16, tokenizer=len)
    assert rows(cut) == [
        ("0#0", "0", 0, "One two. "),
        ("0#9", "0", 9, "Three four. "),
        ("0#21", "0", 21, "Five six."),
        ("1", "1", 0, "Short."),
        ("2", "2", 0, None),
        ("3", "3", 0, ""),
        ("4", "4", 0, "  \n "),
    ]
    assert cut["topic"] == list("aaabcde")
    assert cut.features == Features(
        {k: Value("string") for k in ("text", "id", "topic", "source_id")} | {"offset": Value("int64")}
    )


def test_ids_come_from_the_column_named_or_from_the_content() -> None:
    ds = Dataset.from_dict({"content": ["abcdef", "x"], "key": ["k", None], "id": [1, 2]})
    cut = split_documents(ds, max_tokens=3, tokenizer=len, text_column="content", id_column="key")
    assert [(row["id"], row["content"], row["key"]) for row in cut] == [
        ("k#0", "abc", "k"),
        ("k#3", "def", "k"),
        (content_id("x"), "x", None),
    ]
    plain = split_documents(Dataset.from_dict({"text": ["x"]}), max_tokens=3, tokenizer=len)
    assert rows(plain) == [(content_id("x"), content_id("x"), 0, "x")]


def test_a_stream_gives_the_same_rows_whether_or_not_it_knows_its_columns() -> None:
    ds = Dataset.from_dict({"text": DOCUMENTS, "n": [None] * 5})
    expected = rows(split_documents(ds, max_tokens=16, tokenizer=len))
    known = split_documents(ds.to_iterable_dataset(), max_tokens=16, tokenizer=len)
    unknown = split_documents(IterableDataset.from_generator(lambda: iter(ds)), max_tokens=16, tokenizer=len)
    for stream in (known, unknown):
        assert isinstance(stream, IterableDataset)
        assert rows(stream) == expected
        assert stream.features is not None and stream.features["offset"] == Value("int64")


def test_a_transformers_like_tokenizer_is_asked_without_special_tokens() -> None:
    class Tokenizer:
        def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
            return [0] * (len(text) + 100 * add_special_tokens)

    ds = Dataset.from_dict({"text": ["abcdef"]})
    assert split_documents(ds, max_tokens=3, tokenizer=Tokenizer())["text"] == ["abc", "def"]


def test_what_cannot_be_split_is_refused() -> None:
    ds = Dataset.from_dict({"text": ["a"], "n": [1]})
    with pytest.raises(ColumnError, match="no column 'body'; the columns are: text, n"):
        split_documents(ds, max_tokens=3, tokenizer=len, text_column="body")
    with pytest.raises(ColumnError, match="'n' must hold strings; it holds int64"):
        split_documents(ds, max_tokens=3, tokenizer=len, text_column="n")
    with pytest.raises(ColumnError, match="offset would be overwritten"):
        split_documents(ds.rename_column("n", "offset"), max_tokens=3, tokenizer=len)
    with pytest.raises(ConfigError, match="not a DatasetDict"):
        split_documents(DatasetDict(train=ds), max_tokens=3, tokenizer=len)
    with pytest.raises(ConfigError, match="max_tokens"):
        split_documents(ds, max_tokens=0, tokenizer=len)
    with pytest.raises(ConfigError, match="got int"):
        split_documents(ds, max_tokens=3, tokenizer=7)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real tokenizer on disk: one token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder)
    return folder


def test_a_named_tokenizer_is_loaded_and_the_fingerprint_is_the_same_in_every_process(tokenizer_folder: Path) -> None:
    code = f"""
        from datasets import Dataset
        from hfsynth.documents.split_documents import split_documents
        ds = Dataset.from_dict({{"text": ["One two. Three four.", "naïve café"]}})
        cut = split_documents(ds, max_tokens=12, tokenizer={str(tokenizer_folder)!r})
        print(cut._fingerprint, cut["text"][:])
    """
    code = "\n".join(line.strip() for line in code.splitlines())
    processes = [start_process([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    runs = [process.communicate()[0] for process in processes]
    assert runs[0] == runs[1]
    assert "['One two. ', 'Three four.', 'naïve café']" in runs[0]
