"""Turn any corpus into an instruction-augmented pre-training corpus.

Names are loaded when they are first used, so that `import hfsynth` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hfsynth.card_facts import CardSettings
    from hfsynth.checking import CheckReport, check
    from hfsynth.config import ChatOptions, EngineConfig, Sampling, SynthesizerConfig
    from hfsynth.corpus_evaluation import evaluate_corpus
    from hfsynth.engine import Engine, close_engines, engines
    from hfsynth.errors import HfsynthError
    from hfsynth.exporting import export
    from hfsynth.hub import PushOptions
    from hfsynth.job import synthesize
    from hfsynth.metrics import metric_path
    from hfsynth.mixing import mix, mix_rows
    from hfsynth.parts import Part
    from hfsynth.presets import PRESETS
    from hfsynth.publishing import card, check_card, push
    from hfsynth.rendering import render, render_rows
    from hfsynth.saving import SavedCorpus, save_corpus
    from hfsynth.scripted import ScriptedEngine
    from hfsynth.sequences import Packing as Packing
    from hfsynth.sources import Source
    from hfsynth.splitting import split_documents
    from hfsynth.synthesizer import Synthesizer
    from hfsynth.synthesizer_evaluation import evaluate_synthesizer
    from hfsynth.training import train as train
    from hfsynth.training_config import TrainingConfig as TrainingConfig

__version__ = "0.1.0"

_HOMES = {
    "CardSettings": "card_facts",
    "ChatOptions": "config",
    "Engine": "engine",
    "EngineConfig": "config",
    "HfsynthError": "errors",
    "PRESETS": "presets",
    "Packing": "sequences",
    "Part": "parts",
    "PushOptions": "hub",
    "Sampling": "config",
    "SavedCorpus": "saving",
    "ScriptedEngine": "scripted",
    "Source": "sources",
    "Synthesizer": "synthesizer",
    "SynthesizerConfig": "config",
    "TrainingConfig": "training_config",
    "CheckReport": "checking",
    "card": "publishing",
    "check": "checking",
    "check_card": "publishing",
    "close_engines": "engine",
    "engines": "engine",
    "evaluate_corpus": "corpus_evaluation",
    "evaluate_synthesizer": "synthesizer_evaluation",
    "export": "exporting",
    "metric_path": "metrics",
    "mix": "mixing",
    "mix_rows": "mixing",
    "push": "publishing",
    "render": "rendering",
    "render_rows": "rendering",
    "save_corpus": "saving",
    "split_documents": "splitting",
    "synthesize": "job",
    "train": "training",
}

# Without what `train` needs: whoever imports everything may have no torch.
__all__ = [
    "CardSettings",
    "ChatOptions",
    "CheckReport",
    "Engine",
    "EngineConfig",
    "HfsynthError",
    "PRESETS",
    "Part",
    "PushOptions",
    "Sampling",
    "SavedCorpus",
    "ScriptedEngine",
    "Source",
    "Synthesizer",
    "SynthesizerConfig",
    "card",
    "check",
    "check_card",
    "close_engines",
    "engines",
    "evaluate_corpus",
    "evaluate_synthesizer",
    "export",
    "metric_path",
    "mix",
    "mix_rows",
    "push",
    "render",
    "render_rows",
    "save_corpus",
    "split_documents",
    "synthesize",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] == "training":  # it imports transformers as it is imported itself
        import_module(f"{__name__}.siblings").hide_unfit_siblings()
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
