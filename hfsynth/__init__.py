"""Turn any corpus into an instruction-augmented pre-training corpus.

Names are loaded when they are first used, so that `import hfsynth` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hfsynth.version import __version__ as __version__

if TYPE_CHECKING:
    from hfsynth.cli.recipe_scripts import run_script, script_parser
    from hfsynth.core.benchmarks import Benchmark, BenchmarkColumns, BenchmarkRow
    from hfsynth.core.config import ChatOptions, EngineConfig, Sampling, SynthesizerConfig
    from hfsynth.core.draws import Draws
    from hfsynth.core.errors import HfsynthError
    from hfsynth.core.exemplars import Exemplars
    from hfsynth.core.identifier_models import IdentifierModel
    from hfsynth.core.prompt_recipes import Prompt, PromptRecipe
    from hfsynth.core.recipes import open_recipe, recipe_steps
    from hfsynth.core.records import content_id
    from hfsynth.corpus.parquet import write_split
    from hfsynth.documents.benchmarks import read_benchmark
    from hfsynth.documents.hf_datasets import open_texts
    from hfsynth.documents.source import Source
    from hfsynth.documents.split_documents import split_documents
    from hfsynth.engine.loading import close_engines, engines
    from hfsynth.engine.protocol import Engine
    from hfsynth.engine.scripted import ScriptedEngine
    from hfsynth.job.check import CheckReport, check
    from hfsynth.job.join import work
    from hfsynth.job.launcher import LocalLauncher
    from hfsynth.job.progress import inspect
    from hfsynth.job.ray_launcher import RayLauncher as RayLauncher
    from hfsynth.job.run import describe_job, synthesize
    from hfsynth.job.screen import ScreenResult, screen
    from hfsynth.job.tuning.tune import tune
    from hfsynth.job.verify import verify
    from hfsynth.page.space import publish_page
    from hfsynth.page.start import build_page
    from hfsynth.publishing.facts import CardSettings
    from hfsynth.publishing.hub import PushOptions
    from hfsynth.publishing.prepare import write_card
    from hfsynth.publishing.publish import card, check_card, push
    from hfsynth.publishing.repeating import repeat_steps
    from hfsynth.publishing.saving import SavedCorpus, save_corpus
    from hfsynth.quality.contamination import Contamination, ContaminationIndex
    from hfsynth.quality.corpus_evaluation import evaluate_corpus
    from hfsynth.quality.decontamination import open_index
    from hfsynth.quality.exemplars import choose_exemplars
    from hfsynth.quality.metrics import metric_path
    from hfsynth.quality.synthesizer_evaluation import evaluate_synthesizer
    from hfsynth.synthesis.prompts import open_prompt
    from hfsynth.synthesis.synthesizer import Synthesizer
    from hfsynth.texts.calls import mix, render
    from hfsynth.texts.export.export import export
    from hfsynth.texts.layouts import Kind
    from hfsynth.texts.mixing import mix_rows
    from hfsynth.texts.mixture_parts import Part
    from hfsynth.texts.presets import PRESETS
    from hfsynth.texts.training_texts import render_rows
    from hfsynth.training.config import Lora as Lora
    from hfsynth.training.config import Packing as Packing
    from hfsynth.training.config import Schedule as Schedule
    from hfsynth.training.config import TrainingConfig as TrainingConfig
    from hfsynth.training.train import train as train
    from hfsynth.training.trainer import TrainingProgress as TrainingProgress

_HOMES = {
    "LocalLauncher": "job.launcher",
    "RayLauncher": "job.ray_launcher",
    "Kind": "texts.layouts",
    "Lora": "training.config",
    "Schedule": "training.config",
    "inspect": "job.progress",
    "tune": "job.tuning.tune",
    "write_card": "publishing.prepare",
    "Benchmark": "core.benchmarks",
    "BenchmarkColumns": "core.benchmarks",
    "BenchmarkRow": "core.benchmarks",
    "CardSettings": "publishing.facts",
    "ChatOptions": "core.config",
    "Engine": "engine.protocol",
    "EngineConfig": "core.config",
    "Exemplars": "core.exemplars",
    "HfsynthError": "core.errors",
    "PRESETS": "texts.presets",
    "Packing": "training.config",
    "Part": "texts.mixture_parts",
    "Prompt": "core.prompt_recipes",
    "PromptRecipe": "core.prompt_recipes",
    "PushOptions": "publishing.hub",
    "Sampling": "core.config",
    "SavedCorpus": "publishing.saving",
    "ScriptedEngine": "engine.scripted",
    "Source": "documents.source",
    "Synthesizer": "synthesis.synthesizer",
    "SynthesizerConfig": "core.config",
    "TrainingConfig": "training.config",
    "CheckReport": "job.check",
    "Contamination": "quality.contamination",
    "ContaminationIndex": "quality.contamination",
    "Draws": "core.draws",
    "TrainingProgress": "training.trainer",
    "build_page": "page.start",
    "card": "publishing.publish",
    "content_id": "core.records",
    "open_index": "quality.decontamination",
    "open_prompt": "synthesis.prompts",
    "open_recipe": "core.recipes",
    "recipe_steps": "core.recipes",
    "repeat_steps": "publishing.repeating",
    "open_texts": "documents.hf_datasets",
    "run_script": "cli.recipe_scripts",
    "script_parser": "cli.recipe_scripts",
    "write_split": "corpus.parquet",
    "check": "job.check",
    "check_card": "publishing.publish",
    "choose_exemplars": "quality.exemplars",
    "close_engines": "engine.loading",
    "engines": "engine.loading",
    "evaluate_corpus": "quality.corpus_evaluation",
    "evaluate_synthesizer": "quality.synthesizer_evaluation",
    "export": "texts.export.export",
    "metric_path": "quality.metrics",
    "mix": "texts.calls",
    "mix_rows": "texts.mixing",
    "publish_page": "page.space",
    "push": "publishing.publish",
    "read_benchmark": "documents.benchmarks",
    "render": "texts.calls",
    "render_rows": "texts.training_texts",
    "save_corpus": "publishing.saving",
    "split_documents": "documents.split_documents",
    "describe_job": "job.run",
    "IdentifierModel": "core.identifier_models",
    "ScreenResult": "job.screen",
    "screen": "job.screen",
    "synthesize": "job.run",
    "train": "training.train",
    "verify": "job.verify",
    "work": "job.join",
}

# Without what needs torch or Ray: whoever imports everything may have neither.
__all__ = [
    "LocalLauncher",
    "Kind",
    "inspect",
    "tune",
    "write_card",
    "Benchmark",
    "BenchmarkColumns",
    "BenchmarkRow",
    "CardSettings",
    "ChatOptions",
    "CheckReport",
    "Contamination",
    "ContaminationIndex",
    "Engine",
    "EngineConfig",
    "Exemplars",
    "HfsynthError",
    "PRESETS",
    "Part",
    "Prompt",
    "PromptRecipe",
    "PushOptions",
    "Sampling",
    "SavedCorpus",
    "IdentifierModel",
    "ScreenResult",
    "ScriptedEngine",
    "Source",
    "Synthesizer",
    "SynthesizerConfig",
    "Draws",
    "build_page",
    "card",
    "content_id",
    "open_index",
    "open_prompt",
    "open_recipe",
    "open_texts",
    "run_script",
    "script_parser",
    "write_split",
    "check",
    "check_card",
    "choose_exemplars",
    "close_engines",
    "engines",
    "evaluate_corpus",
    "evaluate_synthesizer",
    "export",
    "metric_path",
    "mix",
    "mix_rows",
    "publish_page",
    "push",
    "read_benchmark",
    "recipe_steps",
    "render",
    "render_rows",
    "repeat_steps",
    "save_corpus",
    "screen",
    "split_documents",
    "describe_job",
    "synthesize",
    "verify",
    "work",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] in ("training.train", "training.trainer"):  # they import transformers as they are imported
        import_module(f"{__name__}.models.siblings").hide_unfit_siblings()
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
