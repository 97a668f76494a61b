"""Read an export with a trainer's own loader, in that trainer's environment, and print its tokens as JSON.

    python read_with.py TRAINER FOLDER MODEL LENGTH

Prints `{"blocks": [[id, …], …]}`, what one sequence of the trainer holds after the other, and `masks` or `labels` where
there are such. Imports nothing of hfsynth: the trainers' requirements and ours exclude each other.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "DISABLE_VERSION_CHECK": "1", "WANDB_MODE": "offline"}
Read = dict[str, list[Any]]


def olmo(folder: Path, model: Path, length: int) -> Read:
    from olmo_core.data import NumpyFSLDatasetConfig, TokenizerConfig

    described = json.loads((folder / "dataset.json").read_text())
    masks = [str(folder / name) for name in described.get("label_mask_paths", [])]
    dataset = NumpyFSLDatasetConfig(
        tokenizer=TokenizerConfig(**described["tokenizer"]),
        paths=[str(folder / path) for path in described["paths"]],
        label_mask_paths=masks or None,
        dtype=described["dtype"],
        sequence_length=length,
        work_dir=str(folder.parent / "work"),
    ).build()
    dataset.prepare()
    rows = [dataset[at] for at in range(len(dataset))]
    found = {"blocks": [row["input_ids"].tolist() for row in rows]}
    return found | ({"masks": [row["label_mask"].tolist() for row in rows]} if masks else {})


def megatron(folder: Path, model: Path, length: int) -> Read:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    described = json.loads((folder / "dataset.json").read_text())
    sets = [IndexedDataset(str(folder / path), multimodal=False, mmap=True) for path in described["paths"]]
    return {"blocks": [dataset[at].tolist() for dataset in sets for at in range(len(dataset))]}


def nanotron(folder: Path, model: Path, length: int) -> Read:
    from datatrove.utils.dataset import DatatroveFolderDataset

    width = 2 if json.loads((folder / "dataset.json").read_text())["dtype"] == "uint16" else 4
    dataset = DatatroveFolderDataset(str(folder), length, token_size=width, shuffle=False, filename_pattern="*.ds")
    return {"blocks": [dataset[at]["input_ids"].tolist() for at in range(len(dataset))]}


def litdata(folder: Path, model: Path, length: int) -> Read:
    from litdata.streaming import StreamingDataset, TokensLoader

    dataset = StreamingDataset(str(folder), item_loader=TokensLoader(block_size=length + 1), shuffle=False)
    return {"blocks": [dataset[at].tolist() for at in range(len(dataset))]}


def litgpt(folder: Path, model: Path, length: int) -> Read:
    import yaml
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import LitData
    from litgpt.pretrain import validate_args

    told = yaml.safe_load((folder / "litgpt.yaml").read_text())
    validate_args(TrainArgs(**told["train"]), EvalArgs(), told["initial_checkpoint_dir"], resume=False)
    data = LitData(**told["data"]["init_args"], num_workers=0)
    data.connect(batch_size=1, max_seq_length=told["train"]["max_seq_length"])
    return {"blocks": [batch[0].tolist() for batch in data.val_dataloader()]}


def trl(folder: Path, model: Path, length: int) -> Read:
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_dataset

    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
    given = ["--config", str(folder / "trl.yaml"), "--use_cpu", "true", "--bf16", "false", "--report_to", "none"]
    _, settings, chosen, data = parser.parse_args_and_config(given)
    settings.shuffle_dataset = False  # the order is what is compared
    trainer = SFTTrainer(chosen.model_name_or_path, args=settings, train_dataset=get_dataset(data)["train"])
    rows = trainer.train_dataset
    return {"blocks": rows["input_ids"][:], "labels": rows["labels"][:]}


def axolotl(folder: Path, model: Path, length: int) -> Read:
    import yaml
    from axolotl.prompt_strategies import completion
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.config import AxolotlInputConfig
    from datasets import concatenate_datasets, load_dataset
    from transformers import AutoTokenizer

    told = DictDefault(yaml.safe_load((folder / "axolotl.yaml").read_text()))
    AxolotlInputConfig(**told)
    tokenizer = AutoTokenizer.from_pretrained(model)
    parts = []
    for source in told.datasets:
        rows = load_dataset(source.ds_type, data_files=source.path, split="train")
        strategy = completion.load(tokenizer, told, {"field": source.field})
        parts.append(rows.map(strategy.tokenize_prompt, batched=True, remove_columns=rows.column_names))
    return {"blocks": concatenate_datasets(parts)["input_ids"][:]}


def packed_axolotl(folder: Path, model: Path, length: int) -> Read:
    """Return what its packing puts into each sequence, text by text."""
    import yaml
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.samplers import MultipackBatchSampler, get_dataset_lengths
    from axolotl.utils.trainer import process_datasets_for_packing
    from datasets import Dataset
    from torch.utils.data import SequentialSampler

    told = DictDefault(yaml.safe_load((folder / "axolotl.yaml").read_text()))
    texts = axolotl(folder, model, length)["blocks"]
    rows = Dataset.from_dict({"input_ids": texts, "labels": texts, "attention_mask": [[1] * len(ids) for ids in texts]})
    rows, _ = process_datasets_for_packing(told, rows, None)
    sampler = MultipackBatchSampler(
        SequentialSampler(rows),
        batch_size=1,
        batch_max_len=told.sequence_len * told.micro_batch_size,
        lengths=get_dataset_lengths(rows),
        bin_size=200,
        num_processes=1,
    )
    return {"blocks": [[rows[at]["input_ids"] for at in sequence] for batch in sampler for sequence in batch]}


def sft_axolotl(folder: Path, model: Path, length: int) -> Read:
    from axolotl.prompt_strategies import chat_template
    from axolotl.utils.dict import DictDefault
    from datasets import load_dataset
    from transformers import AutoTokenizer

    files = [str(path) for path in sorted((folder / "hfsynth").glob("*.jsonl"))]
    rows = load_dataset("json", data_files=files, split="train")
    told = DictDefault({"base_model": str(model), "sequence_len": 9000, "train_on_inputs": False})
    named = {"message_property_mappings": {"role": "role", "content": "content"}, "roles_to_train": ["assistant"]}
    source = {"path": files[0], "type": "chat_template", "field_messages": "messages", **named}
    strategy = chat_template.load(AutoTokenizer.from_pretrained(model), told, source)
    read = rows.map(strategy.tokenize_prompt, batched=True, remove_columns=rows.column_names)
    return {"blocks": read["input_ids"][:], "labels": read["labels"][:]}


def sampled_megatron(folder: Path, model: Path, length: int) -> Read:
    """Return its sampler's sequences, each with the token behind it, back in the order before they were shuffled."""
    from types import SimpleNamespace

    import numpy as np
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.indexed_dataset import IndexedDataset
    from megatron.core.datasets.utils import Split

    described = json.loads((folder / "dataset.json").read_text())
    eos = described["tokenizer"]["eos_token_id"]
    named = SimpleNamespace(eod=eos, pad=eos, vocab_size=described["tokenizer"]["vocab_size"], unique_identifiers={})
    config = GPTDatasetConfig(
        **{
            "random_seed": 1,
            "sequence_length": length,
            "split": "1,0,0",
            "path_to_cache": str(folder.parent / "index"),
        },
        **{"reset_position_ids": False, "reset_attention_mask": False, "eod_mask_loss": False, "tokenizer": named},
    )
    (path,) = (str(folder / name) for name in described["paths"])
    documents = IndexedDataset(path, multimodal=False, mmap=True)
    number = np.arange(len(documents), dtype=np.int32)
    rows = GPTDataset(documents, path, number, None, Split.train, config)
    samples = [rows[int(at)] for at in np.argsort(rows.shuffle_index)[: len(rows)]]
    blocks = [[*sample["tokens"].tolist(), int(sample["labels"][-1])] for sample in samples]
    return {"blocks": blocks, "order": rows.document_index.tolist()}


def llama_factory(folder: Path, model: Path, length: int) -> Read:
    import yaml
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    told = yaml.safe_load((folder / "hfsynth.yaml").read_text())
    chosen, data, training, _, _ = get_train_args(told | {"use_cpu": True, "bf16": False, "report_to": "none"})
    tools = load_tokenizer(chosen)
    template = get_template_and_fix_tokenizer(tools["tokenizer"], data)
    rows = get_dataset(template, chosen, data, training, stage="pt", **tools)["train_dataset"]
    return {"blocks": rows["input_ids"][:]}


def torchtitan(folder: Path, model: Path, length: int) -> Read:
    sys.path.insert(0, str(folder))
    import hfsynth_corpus
    from torchtitan.components.tokenizer import HuggingFaceTokenizer
    from torchtitan.hf_datasets.text_datasets import HuggingFaceTextDataset

    config = hfsynth_corpus.llama3_debugmodel()
    tokenizer = HuggingFaceTokenizer(HuggingFaceTokenizer.Config(), tokenizer_path=config.hf_assets_path)
    rows = HuggingFaceTextDataset(config.dataloader.dataset, None, tokenizer, seq_len=config.training.seq_len)
    read = [(inputs["input"].tolist(), labels.tolist()) for inputs, labels in rows]
    return {"blocks": [inputs for inputs, _ in read], "labels": [labels for _, labels in read]}


def sft_trl(folder: Path, model: Path, length: int) -> Read:
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    files = [str(path) for path in sorted((folder / "hfsynth").glob("*.jsonl"))]
    rows = load_dataset("json", data_files=files, split="train")
    settings = SFTConfig(str(folder / "trained"), use_cpu=True, bf16=False, report_to="none", max_length=None)
    read = SFTTrainer(str(model), args=settings, train_dataset=rows).train_dataset
    return {"blocks": read["input_ids"][:], "labels": read["labels"][:]}


def sft_llama_factory(folder: Path, model: Path, length: int) -> Read:
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    told = {"model_name_or_path": str(model), "stage": "sft", "do_train": True, "finetuning_type": "full"}
    told |= {"dataset_dir": str(folder), "dataset": "hfsynth", "template": "default", "cutoff_len": 9000}
    told |= {"output_dir": str(folder / "trained"), "use_cpu": True, "bf16": False, "report_to": "none"}
    chosen, data, training, _, _ = get_train_args(told)
    tools = load_tokenizer(chosen)
    template = get_template_and_fix_tokenizer(tools["tokenizer"], data)
    rows = get_dataset(template, chosen, data, training, stage="sft", **tools)["train_dataset"]
    return {"blocks": rows["input_ids"][:], "labels": rows["labels"][:]}


READERS = {
    reader.__name__.replace("_", "-"): reader
    for reader in (
        *(axolotl, litdata, litgpt, llama_factory, megatron, nanotron, olmo, torchtitan, trl),
        *(packed_axolotl, sampled_megatron, sft_axolotl, sft_llama_factory, sft_trl),
    )
}

if __name__ == "__main__":
    name, folder, model, length = sys.argv[1:]
    printed, sys.stdout = sys.stdout, sys.stderr
    read = READERS[name](Path(folder), Path(model), int(length))
    printed.write(json.dumps(read))
