"""The target model's tokenizer, as counting and export need it. Knows nothing of rows, shares or files.

Only the fast tokenizers will do: they encode a batch on all cores. transformers is imported on the first call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from hfsynth.errors import ConfigError, ModelError
from hfsynth.siblings import hide_unfit_siblings

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A control token: how it is written, and its id."""

    text: str
    id: int


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """Encode ordinary text with a fast tokenizer, in batches, on all cores.

    Nothing is added, and a control string inside a text is encoded as the characters it is made of: whoever wants BOS
    or EOS puts `bos.id` and `eos.id` there. `vocab_size` is the highest id plus one; `specials` are control strings.
    """

    name: str
    backend: Tokenizer
    bos: SpecialToken | None
    eos: SpecialToken | None
    pad: SpecialToken | None
    specials: tuple[str, ...]
    vocab_size: int
    identity: str

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Return every text encoded; the ids are in `ids`."""
        return list(self.backend.encode_batch_fast(list(texts), add_special_tokens=False))

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of every text, without BOS and EOS."""
        return [len(encoding) for encoding in self.encode(texts)]

    def require_eos(self) -> SpecialToken:
        """Return the EOS token, or raise ConfigError where the tokenizer has none."""
        if self.eos is None:
            raise ConfigError(
                f"The tokenizer {self.name} has no EOS token, and documents must end with one.",
                hint="Give the tokenizer of the model you will train, or set eos_token in its tokenizer_config.json.",
            )
        return self.eos

    def leading_bos(self) -> SpecialToken | None:
        """Return the token a document starts with: BOS, or None where there is none or EOS stands for both.

        A tokenizer whose BOS and EOS are one token (GPT-2) has it once between two documents, not twice.
        """
        return None if self.bos == self.eos else self.bos


Tokenizing: TypeAlias = "str | Path | PreTrainedTokenizerBase | TextTokenizer"


def load_tokenizer(tokenizer: Tokenizing) -> TextTokenizer:
    """Take a tokenizer by Hub id or folder, or wrap one from transformers; the one given is not changed.

    Raises ModelError where there is none by that name, and ConfigError where it is not a fast one.
    """
    if isinstance(tokenizer, TextTokenizer):
        return tokenizer
    if isinstance(tokenizer, str | Path):
        return _wrap(_from_pretrained(str(tokenizer)), name=str(tokenizer))
    return _wrap(tokenizer, name=tokenizer.name_or_path or type(tokenizer).__name__)


def _from_pretrained(name: str) -> PreTrainedTokenizerBase:
    hide_unfit_siblings()
    from transformers import AutoTokenizer

    try:
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"No tokenizer can be loaded from {name!r}: {reason}",
            hint="Give a model id on the Hub, or a folder with tokenizer.json and tokenizer_config.json.",
        ) from error
    return loaded


def _wrap(tokenizer: PreTrainedTokenizerBase, *, name: str) -> TextTokenizer:
    backend = _own_backend(tokenizer, name)
    added = (token.content for token in backend.get_added_tokens_decoder().values() if token.special)
    bos, eos, pad = (
        _special(backend, text) for text in (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
    )
    named = (token.text for token in (bos, eos) if token)
    return TextTokenizer(
        name=name,
        backend=backend,
        bos=bos,
        eos=eos,
        pad=pad,
        specials=tuple(dict.fromkeys((*named, *added))),
        vocab_size=max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1,
        identity=hashlib.blake2b(f"{backend.to_str()}\0{bos}\0{eos}".encode(), digest_size=16).hexdigest(),
    )


def _own_backend(tokenizer: PreTrainedTokenizerBase, name: str) -> Tokenizer:
    """Copy the Rust tokenizer, so that truncation and padding that others set on theirs do not reach ours."""
    from tokenizers import Tokenizer

    shared = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(shared, Tokenizer):
        raise ConfigError(
            f"Counting and export need a fast tokenizer; {name} is a {type(tokenizer).__name__}.",
            hint="Load it with AutoTokenizer.from_pretrained(..., use_fast=True), or convert it to tokenizer.json.",
        )
    backend: Tokenizer = Tokenizer.from_str(shared.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _special(backend: Tokenizer, text: str | None) -> SpecialToken | None:
    if text is None:
        return None
    token_id = backend.token_to_id(text)
    return None if token_id is None else SpecialToken(str(text), token_id)
