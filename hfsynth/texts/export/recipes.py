"""What a trainer is told so that it trains on an export without losing a token: a configuration and the command.

Pure: texts for files, from values. Read in the trainers' sources: axolotl 0.19, TRL 1.16, torchtitan 0.3, litgpt 0.5,
LLaMA-Factory 0.9.5.

axolotl
    `pretraining_dataset` truncates every text at `sequence_len`; `type: completion` cuts it into pieces of that length
    instead, up to 64 of them. What is longer than a sequence is otherwise dropped in silence: here it is an error.
TRL
    The usual packing, `bfd`, discards what is beyond `max_length`; `wrapped` keeps all of it. EOS is appended.
torchtitan
    Adds BOS and EOS and shifts within a document; a loader that goes round carries the rest of the last sequence over.
litgpt
    `TextFiles` adds no EOS; `LitData` reads our chunks, in blocks of one token more than the sequence.
LLaMA-Factory
    Packing drops the rest of each thousand texts and puts BOS over the first token of each block, so it is off. Without
    a template that replaces EOS, EOS is the tokenizer's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from hfsynth.models.tokenizers import TextTokenizer

AXOLOTL_PIECES = 64
"""How many sequences axolotl takes of a text."""


@dataclass(frozen=True, slots=True)
class TrainerRecipe:
    """The file that a trainer is configured by, and the command that begins to train, as from where it is given."""

    file: str
    text: str
    start: str


@dataclass(frozen=True, slots=True)
class Exported:
    """What a recipe is written for: the folder as it was named, its files, tokenizer and length, tokens where known."""

    folder: str
    files: Sequence[str]
    tokenizer: TextTokenizer
    length: int
    tokens: int | None = None

    @property
    def paths(self) -> list[str]:
        """Name the files as from where the command is given."""
        return [f"{self.folder}/{file}" for file in self.files]


def axolotl(made: Exported) -> TrainerRecipe:
    """Return axolotl's configuration."""
    file = f"{made.folder}/axolotl.yaml"
    datasets = [{"path": path, "ds_type": "json", "type": "completion", "field": "text"} for path in made.paths]
    values = {
        "base_model": made.tokenizer.name,
        "datasets": datasets,
        "dataset_prepared_path": f"{made.folder}/prepared",
        "sequence_len": made.length,
        "sample_packing": True,
        "pad_to_sequence_len": True,
        "excess_length_strategy": "raise",
        "special_tokens": _pad(made.tokenizer),
        **_SCHEDULE["axolotl"],
        "output_dir": f"{made.folder}/trained",
    }
    return TrainerRecipe(file, yaml_text(values), f"axolotl train {quote(file)}")


def trl(made: Exported) -> TrainerRecipe:
    """Return the configuration of TRL's `sft`, which trains on plain text as well."""
    file = f"{made.folder}/trl.yaml"
    values = {
        "model_name_or_path": made.tokenizer.name,
        "datasets": [{"path": "json", "data_files": made.paths, "split": "train"}],
        "dataset_text_field": "text",
        "packing": True,
        "packing_strategy": "wrapped",
        "max_length": made.length,
        "eos_token": made.tokenizer.require_eos().text,
        "shuffle_dataset": True,
        **_SCHEDULE["trl"],
        "output_dir": f"{made.folder}/trained",
    }
    return TrainerRecipe(file, yaml_text(values), f"trl sft --config {quote(file)}")


def litgpt(made: Exported) -> TrainerRecipe:
    """Return litgpt's configuration for `pretrain`, which goes on from a checkpoint that `litgpt download` fetched."""
    file = f"{made.folder}/litgpt.yaml"
    values = {
        "initial_checkpoint_dir": f"checkpoints/{made.tokenizer.name}",
        "tokenizer_dir": f"checkpoints/{made.tokenizer.name}",
        "data": {"class_path": "litgpt.data.LitData", "init_args": {"data_path": made.folder}},
        "train": {"max_seq_length": made.length, "max_tokens": made.tokens, **_SCHEDULE["litgpt"]},
        "out_dir": f"{made.folder}/trained",
    }
    return TrainerRecipe(
        file, yaml_text(values), f"litgpt pretrain {quote(made.tokenizer.name)} --config {quote(file)}"
    )


def llama_factory(made: Exported, *, name: str) -> TrainerRecipe:
    """Return LLaMA-Factory's configuration for `stage: pt` of the entry `name`."""
    file = f"{made.folder}/{name}.yaml"
    values = {
        "model_name_or_path": made.tokenizer.name,
        "stage": "pt",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": made.folder,
        "dataset": name,
        "template": "empty",
        "packing": False,
        "cutoff_len": made.length,
        **_SCHEDULE["llama-factory"],
        "output_dir": f"{made.folder}/trained",
    }
    return TrainerRecipe(file, yaml_text(values), f"llamafactory-cli train {quote(file)}")


def torchtitan(made: Exported) -> TrainerRecipe:
    """Return a module of configurations: each of torchtitan's for Llama 3, on these texts."""
    file = f"{made.folder}/{TORCHTITAN_MODULE}.py"
    values = {"FILES": made.paths, "TOKENIZER": made.tokenizer.name, "SEQUENCE_LENGTH": made.length}
    settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
    start = (
        f"PYTHONPATH={quote(made.folder)} torchrun --nproc-per-node=gpu -m torchtitan.train "
        f"--module {TORCHTITAN_MODULE} --config llama3_8b"
    )
    return TrainerRecipe(file, _TORCHTITAN.replace("SETTINGS", settings), start)


TORCHTITAN_MODULE = "hfsynth_corpus"
"""The name of the module for torchtitan."""

_TORCHTITAN = '''"""torchtitan's configurations for Llama 3, on an exported corpus. For --module hfsynth_corpus."""

from datasets import load_dataset
from torchtitan.hf_datasets import DatasetConfig
from torchtitan.hf_datasets.text_datasets import DATASETS, HuggingFaceTextDataLoader
from torchtitan.models.llama3 import config_registry

SETTINGS

DATASETS["hfsynth"] = DatasetConfig(
    path="json",
    loader=lambda path: load_dataset(path, data_files=FILES, split="train"),
    sample_processor=lambda sample: sample["text"],
)


def __getattr__(name):
    make = getattr(config_registry, name)

    def on_corpus():
        config = make()
        config.dataloader = HuggingFaceTextDataLoader.Config(dataset="hfsynth", infinite=True)
        config.training.seq_len = SEQUENCE_LENGTH
        config.hf_assets_path = TOKENIZER
        return config

    return on_corpus
'''

_SCHEDULE: Mapping[str, Mapping[str, object]] = {
    "axolotl": {
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 16,
        "num_epochs": 1,
        "optimizer": "adamw_torch",
        "lr_scheduler": "cosine",
        "learning_rate": 1e-5,
        "bf16": "auto",
    },
    "trl": {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 16,
        "num_train_epochs": 1,
        "lr_scheduler_type": "cosine",
        "learning_rate": 1e-5,
        "logging_steps": 1,
    },
    "litgpt": {"global_batch_size": 16, "micro_batch_size": 1, "max_norm": 1.0, "lr_warmup_steps": 10},
    "llama-factory": {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 16,
        "num_train_epochs": 1,
        "lr_scheduler_type": "cosine",
        "learning_rate": 1e-5,
        "logging_steps": 1,
    },
}
"""The published rate of going on in a domain, 1e-5, and batches that are to be suited to the machine."""


def _pad(tokenizer: TextTokenizer) -> dict[str, str]:
    eos = tokenizer.require_eos().text
    return {"eos_token": eos, "pad_token": tokenizer.pad.text if tokenizer.pad else eos}


def yaml_text(values: Mapping[str, object]) -> str:
    """Write values as YAML, in their order; numbers that YAML reads as text elsewhere are written out."""
    import yaml

    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True).replace("1.0e-05", "0.00001")
