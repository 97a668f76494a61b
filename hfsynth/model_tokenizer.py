"""A model's own tokenizer as prompt formats need it. Imports neither transformers nor torch: it is handed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hfsynth.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ModelTokenizer:
    """Wrap a transformers tokenizer; see `hfsynth.prompts.PromptTokenizer`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.bos: str | None = tokenizer.bos_token
        self.eos: str | None = tokenizer.eos_token
        added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        self.special_tokens: tuple[str, ...] = tuple(dict.fromkeys((*tokenizer.all_special_tokens, *added)))

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, control strings as control ids, nothing added."""
        token_ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return token_ids

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a conversation in the model's own chat template."""
        if not self._tokenizer.chat_template:
            raise ModelError(
                "The chat format needs a chat template; this model's tokenizer has none.",
                hint="Use an instruction-tuned model, or --prompt-format instruction-pretrain.",
            )
        text = self._tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=True
        )
        return self.encode(str(text))
