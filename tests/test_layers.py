"""Imports point downwards: each module has a layer, and knows only its own layer and those below."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hfsynth

PACKAGE = Path(hfsynth.__file__).parent
LAYERS = {
    # values, names and errors
    0: "addresses boundaries conditions config delimiters durable engine_arguments errors folder_exchange identity "
    "records parquet_files siblings phases processes speculation token_cuts",
    # functions of values: prompting, parsing, rendering, mixing, exporting, counting
    1: "agreement "
    "chains chat choices corpus export_formats export_manifest export_shards export_source exporting layouts "
    "llama_factory mixing mixture_files parsing parts patterns presets prompts recipes rendering schemas splitting "
    "stats styles card_text corpus_files keeping leaks measures retrying streams tasks token_counting training_texts "
    "lexical split_layout admission dataset_splits engine_settings holdings intervals languages prediction repetition "
    "restarts "
    "task_categories",
    # models, engines, files and metrics
    2: "adapters belongings card_facts card_merge cards channel claims columns corpus_figures dataset_readers "
    "base_weights card_reuse devices leftovers parent_watch "
    "driving embedded engine feeding finishing hub_errors hub_recipes inspection job_spec journal judging leases "
    "csv_rows json_lines parquet_rows source_files "
    "changed_source copying engine_start locating precision recipe_publishing remote split_sources "
    "map_progress mapping origins saved_rows watching "
    "model_folders model_tokenizer models opening pair_judge plots progress push_plan readers reopening scoring "
    "scripted sequences server_calls server_engine server_protocol sessions shards shelf sources stopping synthesizer "
    "synthesizer_figures synthesizer_trainer training_config training_data training_folder trials vllm_engine xet",
    # whole runs, and the Hub
    3: "checking corpus_card corpus_evaluation corpus_texts hub job launch local_crew publication publishing ray_crew "
    "replacing saving slurm "
    "synthesizer_evaluation training trial_process tuning verification worker worker_process",
    # the command line
    4: "__main__ cli cli_crews cli_evaluate cli_options cli_publish cli_texts cli_train cli_tune console counting "
    "evaluation_tables",
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names.split()}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


@cache
def imported(module: str) -> frozenset[str]:
    """Return every dotted name that a module imports anywhere in it, functions and type checking included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def neighbours(module: str) -> set[str]:
    """Return the modules of this package that `module` imports."""
    parts = (name.split(".") for name in imported(module))
    return {path[1] for path in parts if path[0] == "hfsynth" and path[1] in MODULES}


def importers(library: str) -> list[str]:
    """Return the modules that import a library or one name of it."""
    return [
        module
        for module in MODULES
        if any(name == library or name.startswith(f"{library}.") for name in imported(module))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    assert module in LAYER_OF, f"{module} has no layer: add it to the table above"
    upwards = {name for name in neighbours(module) if LAYER_OF.get(name, 0) > LAYER_OF[module]}
    assert not upwards, f"{module} (layer {LAYER_OF[module]}) imports {sorted(upwards)} from above"


def test_no_import_goes_in_a_circle() -> None:
    TopologicalSorter({module: neighbours(module) for module in MODULES}).prepare()  # raises CycleError


@pytest.mark.parametrize("library", ["vllm", "huggingface_hub.HfApi", "evaluate", "ray", "hf_xet"])
def test_one_module_alone_knows(library: str) -> None:
    assert len(importers(library)) <= 1, f"{library} is imported by {importers(library)}"


def test_the_rules_see_what_they_forbid() -> None:
    assert "vllm_engine" in importers("vllm")
    assert "errors" in neighbours("config")


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = ["torch", "vllm", "transformers", "datasets"]
    program = f"import sys, hfsynth; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_every_public_name_is_found() -> None:
    names = [name for name in dir(hfsynth) if not name.startswith("_") and name not in MODULES]
    assert {"synthesize", "evaluate_corpus", "evaluate_synthesizer", "train", "TrainingConfig"} <= set(names)
    assert set(hfsynth.__all__) <= set(names)
    for name in hfsynth.__all__:
        assert getattr(hfsynth, name) is not None


def test_everything_can_be_imported_where_there_is_no_model_library() -> None:
    program = "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'peft'])); from hfsynth import *"
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)


def test_training_is_a_library_function() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    assert hfsynth.TrainingConfig(base="embedded", packing=hfsynth.Packing(512)).rate == 2e-4
    assert callable(hfsynth.train)
