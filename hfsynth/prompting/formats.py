"""Which prompt format a recipe names."""

from __future__ import annotations

from hfsynth.core.config import SynthesizerConfig
from hfsynth.models.tokenizers import PromptTokenizer
from hfsynth.prompting.chat import Chat
from hfsynth.prompting.instruction_pretrain import InstructionPretrain


def prompt_format(config: SynthesizerConfig, tokenizer: PromptTokenizer) -> InstructionPretrain | Chat:
    """Return the format that `config` names, for `tokenizer`."""
    if config.prompt_format == "chat":
        return Chat(tokenizer, config.chat, config.thinking, config.keep_reasoning)
    return InstructionPretrain(tokenizer, config.format_version)
