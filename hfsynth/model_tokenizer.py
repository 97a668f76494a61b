"""A model's own tokenizer as prompt formats need it. Imports neither transformers nor torch: it is handed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from hfsynth.errors import ModelError
from hfsynth.token_cuts import Cut, safe_cut, stands_apart

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]


class ModelTokenizer:
    """Wrap a transformers tokenizer; see `hfsynth.prompts.PromptTokenizer`."""

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
        """Return where texts that stay the same may be cut from what follows; see `hfsynth.token_cuts.safe_cut`.

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

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a conversation in the model's own chat template.

        Where the template knows no system role, its text goes in front of the first turn. Raise ModelError where there
        is no template, or one that cannot render the conversation.
        """
        if not self._tokenizer.chat_template:
            raise ModelError(
                "The chat format needs a chat template; this model's tokenizer has none.",
                hint="Use an instruction-tuned model, or --prompt-format instruction-pretrain.",
            )
        try:
            return self.encode(self._render(messages))
        except TemplateError as refused:
            return self.encode(self._without_system(messages, refused))

    def _render(self, messages: Sequence[Message]) -> str:
        plain = [dict(message) for message in messages]
        return str(self._tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True))

    def _without_system(self, messages: Sequence[Message], refused: TemplateError) -> str:
        try:
            return self._render(_folded(messages))
        except TemplateError:
            raise ModelError(
                f"The model's chat template cannot render the conversation: {refused}.",
                hint="Use another model, or --prompt-format instruction-pretrain.",
            ) from refused


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
