"""A model that tells names and the like: a token classifier of the transformers library, asked about many texts.

Long texts are read in windows that overlap; of a token in two windows, the one in which it stands further from the edge
decides. The only module that loads such a model. Knows nothing of rows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.core.identifier_models import IdentifierModel, begins, kind_of, kinds_of
from hfsynth.core.text import encodable
from hfsynth.models.resolve import settings_file
from hfsynth.quality.identifiers import Identifier, identifiers

BATCH = 32
"""How many windows a model reads at once."""

WINDOW = 512
"""Tokens a window at most, also of a model that could read more."""

_CLASSIFIES = "ForTokenClassification"
_INSTALL = "Run `pip install 'hfsynth[pii]'`."


def settled_model(wanted: IdentifierModel) -> IdentifierModel:
    """Return a model with its revision: a commit of the Hub, or a digest of a folder. Nothing but settings are read.

    Raise ModelError where there is no such model, or it is no token classifier, ConfigError for kinds it does not know.
    """
    path, revision = settings_file(wanted.name, wanted.revision)
    try:
        settings = json.loads(path.read_text("utf-8"))
        labels = [str(label) for label in (settings.get("id2label") or {}).values()]
        classifies = any(str(one).endswith(_CLASSIFIES) for one in settings.get("architectures") or ())
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"The settings of the model {wanted.name!r} cannot be read: {error}.") from error
    known = kinds_of(labels)
    if not classifies or not known:
        raise ModelError(
            f"{wanted.name!r} is no token classifier.", hint="Name one that tells persons in a text, token by token."
        )
    if missing := [kind for kind in wanted.kinds if kind not in known]:
        raise ConfigError(
            f"The model {wanted.name!r} does not tell {missing[0]!r}; it tells {', '.join(known)}.",
            hint=f"Choose of these: --pii-kinds {known[0]}",
        )
    return replace(wanted, revision=revision)


class TokenClassifier:
    """Finds what rules find (`hfsynth.quality.identifiers`), and what a model tells beside it.

    `prepare` has many texts read at once; a call then gives what is in one of them, and reads one that is new. It runs
    on `device`, else on the GPU where there is one. Raise ConfigError where a library is missing, ModelError for a
    model that cannot be loaded.
    """

    def __init__(self, model: IdentifierModel, device: str | None = None) -> None:
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoModelForTokenClassification, AutoTokenizer
            from transformers.utils import logging as library_logging
        except ImportError as error:
            raise ConfigError(f"The model {model.name!r} needs {error.name}.", hint=_INSTALL) from error
        folder = Path(model.name).expanduser()
        place = {} if folder.is_dir() else {"revision": model.revision}
        shows = library_logging.is_progress_bar_enabled()
        library_logging.disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), **place)
            network: Any = AutoModelForTokenClassification.from_pretrained(str(folder), **place)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"The model {model.name!r} cannot be loaded: {str(error)[:300]}") from error
        finally:
            if shows:
                library_logging.enable_progress_bar()
        if not self._tokenizer.is_fast:
            raise ModelError(f"The tokenizer of {model.name!r} does not say where its tokens stand in a text.")
        self._torch, self._device = torch, device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._lock = threading.Lock()
        self._network = network.to(self._device).eval()
        self._labels = {int(number): str(label) for number, label in network.config.id2label.items()}
        self._kinds = frozenset(model.kinds)
        reads = getattr(network.config, "max_position_embeddings", None) or WINDOW
        # Some models count positions from 2 on.
        self._window = min(WINDOW, self._tokenizer.model_max_length, max(reads - 2, 8))
        self._found: dict[str, list[Identifier]] = {}

    def __call__(self, text: str) -> list[Identifier]:
        """Return the identifiers of a text in the order of their places; they do not overlap."""
        with self._lock:
            if text not in self._found:
                self.prepare([text])
            return self._found[text]

    def prepare(self, texts: Iterable[str]) -> None:
        """Read texts; those of the last time are forgotten."""
        asked = list(dict.fromkeys(texts))
        said: list[list[Identifier]] = [[] for _ in asked]
        filled = [number for number, text in enumerate(asked) if text.strip()]
        if filled:
            for number, words in zip(filled, self._words([asked[number] for number in filled]), strict=True):
                said[number] = list(_joined(asked[number], words, self._kinds))
        self._found = {text: _beside(identifiers(text), own, text) for text, own in zip(asked, said, strict=True)}

    def _words(self, texts: list[str]) -> list[list[_Word]]:
        """Return the words of each text with their labels, in order, each once."""
        windows = self._tokenizer(
            [encodable(text) for text in texts],
            truncation=True,
            max_length=self._window,
            stride=self._window // 4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        owners, lengths = windows["overflow_to_sample_mapping"], [len(ids) for ids in windows["input_ids"]]
        best: list[dict[tuple[int, int], tuple[int, str]]] = [{} for _ in texts]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            for number, labels in zip(some, self._read([windows["input_ids"][one] for one in some]), strict=True):
                whole, own = best[owners[number]], windows["offset_mapping"][number]
                for place, (span, label) in enumerate(zip(own, labels, strict=True)):
                    inside = min(place, len(own) - place)
                    if span[0] < span[1] and inside > whole.get(tuple(span), (-1, ""))[0]:
                        whole[tuple(span)] = inside, label
        return [[_Word(*span, label) for span, (_, label) in sorted(whole.items())] for whole in best]

    def _read(self, windows: list[list[int]]) -> list[list[str]]:
        """Return the label of every token of some windows."""
        torch, padding, longest = self._torch, self._tokenizer.pad_token_id or 0, max(map(len, windows))
        ids = torch.tensor([[*one, *[padding] * (longest - len(one))] for one in windows], device=self._device)
        seen = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in windows], device=self._device)
        with torch.inference_mode():
            found = self._network(input_ids=ids, attention_mask=seen).logits.argmax(-1).tolist()
        return [
            [self._labels[label] for label in labels[: len(one)]] for one, labels in zip(windows, found, strict=True)
        ]


class _Word(NamedTuple):
    """A token: the characters that it takes, and its label."""

    start: int
    end: int
    label: str


def _joined(text: str, tokens: Sequence[_Word], kinds: frozenset[str]) -> Iterator[Identifier]:
    """Yield whole words of one kind that follow each other as one identifier.

    A word is of the first kind that one of its tokens has: to many models the first token stands for all.
    """
    open_: Identifier | None = None
    for start, end, labels in _whole_words(text, tokens):
        label = next((label for label in labels if kind_of(label) in kinds), None)
        kind = None if label is None else kind_of(label)
        follows = open_ is not None and open_.kind == kind and not text[open_.end : start].strip()
        if open_ is not None and follows and label is not None and not begins(label):
            open_ = Identifier(open_.kind, open_.start, end)
            continue
        if open_ is not None:
            yield open_
        open_ = None if kind is None else Identifier(kind, start, end)
    if open_ is not None:
        yield open_


def _whole_words(text: str, tokens: Sequence[_Word]) -> Iterator[tuple[int, int, list[str]]]:
    """Yield runs of tokens within one word, without blanks at their ends, and the tokens' labels."""
    start, end, labels = 0, 0, list[str]()
    for token in tokens:
        written = text[token.start : token.end]
        begin = token.start + len(written) - len(written.lstrip())
        if labels and begin == end and text[end - 1].isalnum() and text[begin : begin + 1].isalnum():
            end, labels = token.end, [*labels, token.label]
            continue
        if labels:
            yield start, end, labels
        start, end, labels = begin, begin + len(written.strip()), [token.label] if written.strip() else []
    if labels:
        yield start, end, labels


def _beside(rules: list[Identifier], told: list[Identifier], text: str) -> list[Identifier]:
    """Return what rules found, and of what a model tells the parts beside it."""
    found = list(rules)
    for one in told:
        start = one.start
        inside = [rule for rule in rules if rule.start < one.end and rule.end > one.start]
        for end, after in [*((rule.start, rule.end) for rule in inside), (one.end, one.end)]:
            part = text[start:end] if start < end else ""
            if any(map(str.isalnum, part)):
                begin = start + len(part) - len(part.lstrip())
                found.append(Identifier(one.kind, begin, begin + len(part.strip())))
            start = max(start, after)
    return sorted(found, key=lambda one: one.start)
