"""Tokenizers: a model's own as prompts need it, and a target model's as counting and export need it.

A model's own is handed over by its engine. A target model's must be a fast one: it encodes a batch on all cores;
transformers is imported on the first call. Knows nothing of rows, shares or files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from jinja2 import TemplateError

from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.core.thinking import Marks
from hfsynth.models.siblings import hide_unfit_siblings
from hfsynth.models.thinking import closed, marks_of, parser_of, switches_of
from hfsynth.models.token_cuts import Cut, safe_cut, stands_apart

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase


Message = Mapping[str, str]


class ModelTokenizer:
    """Wrap a transformers tokenizer; see `hfsynth.models.tokenizers.PromptTokenizer`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        if self._backend is not None:  # whatever its file says
            self._backend.no_truncation()
            self._backend.no_padding()
        self.bos: str | None = tokenizer.bos_token
        self.eos: str | None = tokenizer.eos_token
        added = (str(token) for token in tokenizer.added_tokens_decoder.values() if _controls(token))
        self.special_tokens: tuple[str, ...] = tuple(dict.fromkeys((*tokenizer.all_special_tokens, *added)))

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, control strings as control ids, nothing added.

        Other threads work meanwhile, and no account of characters is kept: both take a quarter of the time off.
        """
        token_ids: list[int]
        if self._backend is None:
            token_ids = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        else:
            token_ids = self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return token_ids

    def cut(self, left: str, between: str, right: str) -> Cut | None:
        """Return where texts that stay the same may be cut from what follows; see `hfsynth.models.token_cuts.safe_cut`.

        None also where BOS and EOS do not keep apart what stands before and after them.
        """
        backend = self._backend
        if backend is None or not all(token and stands_apart(backend, token) for token in (self.bos, self.eos)):
            return None
        return safe_cut(backend, left, between, right)

    def encode_behind(self, cut: Cut, text: str) -> list[int]:
        """Return the ids of `text` as they are behind a cut."""
        lead = self.encode(cut.lead) if cut.lead else []
        return self.encode(cut.lead + text)[len(lead) :]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids of `text`, and the characters from and to that each stands for.

        Raise ModelError for a tokenizer that keeps no account of characters.
        """
        if not self._tokenizer.is_fast:
            raise ModelError(
                "Training needs a tokenizer that says which characters a token stands for; this one does not.",
                hint="Use a base model with a tokenizer.json.",
            )
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(found["input_ids"]), [(start, end) for start, end in found["offset_mapping"]]

    def chat(self, messages: Sequence[Message], thinking: bool | None = None) -> list[int]:
        """Return the ids of a conversation in the model's own chat template.

        `thinking` sets the template's switch, None leaves it alone; a thought that the template begins all the same is
        ended where there is to be none. Where the template knows no system role, its text goes in front of the first
        turn. Raise ModelError where there is no template, or one that cannot render the conversation.
        """
        return self.encode(self._conversation(messages, thinking))

    def marks(self, thinking: bool | None = None) -> Marks:
        """Return what begins and ends a thought of this model, and whether its template begins one by itself."""
        found = marks_of(self._template(), self._tokenizer.get_added_vocab())
        asked = self._conversation([{"role": "user", "content": "?"}], thinking)
        return replace(found, opened=asked.rstrip().endswith(found.start))

    def text(self, token_id: int) -> str:
        """Return how a single token is written."""
        return str(self._tokenizer.decode([token_id]))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, control tokens as they are written."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token and its id."""
        return dict(self._tokenizer.get_vocab())

    def _template(self) -> str:
        return str(self._tokenizer.get_chat_template()) if self._tokenizer.chat_template else ""

    def _conversation(self, messages: Sequence[Message], thinking: bool | None) -> str:
        if not self._tokenizer.chat_template:
            raise ModelError(
                "The chat format needs a chat template; this model's tokenizer has none.",
                hint="Use an instruction-tuned model, or --prompt-format instruction-pretrain.",
            )
        try:
            return self._render(messages, thinking)
        except TemplateError as refused:
            return self._without_system(messages, thinking, refused)

    def _render(self, messages: Sequence[Message], thinking: bool | None) -> str:
        plain = [dict(message) for message in messages]
        template = self._template()
        switched: dict[str, Any] = {} if thinking is None else dict.fromkeys(switches_of(template), thinking)
        asked = self._tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True, **switched)
        marks = marks_of(template, self._tokenizer.get_added_vocab())
        return closed(str(asked), marks) if thinking is False else str(asked)

    def _without_system(self, messages: Sequence[Message], thinking: bool | None, refused: TemplateError) -> str:
        try:
            return self._render(_folded(messages), thinking)
        except TemplateError:
            raise ModelError(
                f"The model's chat template cannot render the conversation: {refused}.",
                hint="Use another model, or --prompt-format instruction-pretrain.",
            ) from refused


def load_model_tokenizer(model: str, revision: str | None, *, trust_remote_code: bool) -> ModelTokenizer:
    """Load the tokenizer of a model that is not loaded here; from the Hub its own files alone are fetched.

    Raise ModelError where it cannot be loaded.
    """
    hide_unfit_siblings()
    try:
        from transformers import AutoTokenizer
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            f"The model's tokenizer is needed, and transformers cannot be imported: {error}.",
            hint='Install it with pip install "hfsynth[server]".',
        ) from error
    try:
        return ModelTokenizer(
            AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(
            f"The tokenizer of {model!r} cannot be loaded: {error}",
            hint="Give as --model the Hub name or the folder of the model that the server runs.",
        ) from error


def thought_parser(model: str, revision: str | None, trust_remote_code: bool) -> str:
    """Return the name of vLLM's parser for a model's thoughts; raise ModelError where it cannot tell them apart."""
    tokenizer = load_model_tokenizer(model, revision, trust_remote_code=trust_remote_code)
    marks = tokenizer.marks(True)
    parser = parser_of(marks, tokenizer.vocabulary)
    if parser is None:
        raise ModelError(
            f"vLLM cannot tell the thoughts of {model!r} from its answer: {marks.start} and {marks.end} are no tokens "
            "that one of its parsers knows. A schema would hold the thoughts too.",
            hint="Use --thinking off, or a server that was started with the model's --reasoning-parser.",
        )
    return parser


def _controls(token: Any) -> bool:  # noqa: ANN401 - tokenizers.AddedToken
    """Tell whether an added token steers the model rather than standing for ordinary text."""
    text = str(token)
    return bool(token.special) or not (text.isalnum() or any(character.isspace() for character in text))


def _folded(messages: Sequence[Message]) -> list[Message]:
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    others = [message for message in messages if message["role"] != "system"]
    if not (system and others):
        return others
    return [{**others[0], "content": f"{system}\n\n{others[0]['content']}"}, *others[1:]]


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A control token: how it is written, and its id."""

    text: str
    id: int


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """Encode ordinary text with a fast tokenizer, in batches, on all cores.

    Nothing is added, and a control string inside a text is encoded as the characters it is made of: whoever wants BOS
    or EOS puts `bos.id` and `eos.id` there. `vocab_size` is the highest id plus one; `specials` are control strings;
    `says_bos` is transformers' `add_bos_token`.
    """

    name: str
    backend: Tokenizer
    bos: SpecialToken | None
    eos: SpecialToken | None
    pad: SpecialToken | None
    specials: tuple[str, ...]
    vocab_size: int
    identity: str
    says_bos: bool = False

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Return every text encoded; the ids are in `ids`."""
        return list(self.backend.encode_batch_fast(list(texts), add_special_tokens=False))

    def encode_with_places(self, texts: Sequence[str]) -> list[Encoding]:
        """Return every text encoded; `offsets` are the characters that each id stands for."""
        return list(self.backend.encode_batch(list(texts), add_special_tokens=False))

    def framed(self) -> tuple[list[int], list[int]]:
        """Return the ids that the tokenizer puts before and behind a text itself, where it is let."""
        bare = self.backend.encode("a", add_special_tokens=False).ids
        whole = self.backend.encode("a", add_special_tokens=True).ids
        at = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
        return whole[:at], whole[at + len(bare) :]

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
        says_bos=bool(getattr(tokenizer, "add_bos_token", False)),
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


class PromptTokenizer(Protocol):
    """What a prompt format needs of a tokenizer."""

    @property
    def bos(self) -> str | None:
        """Return the beginning-of-sequence token."""

    @property
    def eos(self) -> str | None:
        """Return the end-of-sequence token."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Return the strings that become control ids."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, control strings as control ids, nothing added."""

    def chat(self, messages: Sequence[Mapping[str, str]], thinking: bool | None = None) -> list[int]:
        """Return the ids of a conversation that the assistant is to go on with; ModelError without a template.

        `thinking` says whether it may think first; None leaves that to the template.
        """

    def marks(self, thinking: bool | None = None) -> Marks:
        """Return what begins and ends a thought, and whether a prompt with this `thinking` begins one."""


@runtime_checkable
class CutsTexts(Protocol):
    """A tokenizer that says where a text may be cut, so that what stays the same is encoded once."""

    def encode(self, text: str) -> list[int]: ...

    def cut(self, left: str, between: str, right: str) -> Cut | None:
        """Return where texts that end in `left` and `between` may be cut from `right`, None for nowhere."""

    def encode_behind(self, cut: Cut, text: str) -> list[int]:
        """Return the ids of `text` as they are behind a cut."""


@runtime_checkable
class Decodes(Protocol):
    """A tokenizer that gives the text of token ids back, to show a prompt as it was sent."""

    def decode(self, token_ids: Sequence[int]) -> str: ...
