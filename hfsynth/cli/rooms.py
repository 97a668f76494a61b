"""The help of a long command in rooms: a heading over the options that belong together, those used most in the first.

Plain text like the help of the short commands: it reads the same in a pipe, and loads no library for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

if TYPE_CHECKING:
    from typer import Context

Rooms = Mapping[str, Sequence[str]]

_REST = "Help"
_RECIPE = ("model_revision", "prompt_format", "max_tokens", "temperature", "window", "precision", "long_documents")
_SOURCE = ("config", "revision", "text_column", "id_column")

SYNTHESIZE: Rooms = {
    "Used most": (
        *("model", "shots", "split", "text_column", "limit", "keep"),
        *("recipe", "engine", "workers", "dry_run"),
    ),
    "Source": ("config", "revision", "id_column", "bad_rows", "continue_with_changed_source"),
    "Recipe": (
        *_RECIPE,
        "seed",
        "prompt",
        "max_pairs",
        "thinking",
        "keep_reasoning",
        "fill",
        "candidates",
        "choose_by",
        "decontaminate",
        "pii",
        "pii_model",
        "pii_kinds",
        "judge",
        "pairs_only",
    ),
    "Exemplars": ("exemplars", "exemplars_per_prompt", "exemplar_sets"),
    "Engine": ("base_url", "concurrency", "engine_arg", "speculative", "trust_remote_code", "max_engine_restarts"),
    "Who works": (
        *("launcher", "tensor_parallel", "address", "gpus_per_worker"),
        *("shard_range", "share", "shard_rows", "grace", "describe"),
    ),
    "Schedulers": ("sbatch", "submit", "image", "claim", "accelerators"),
    "HF Jobs": ("flavor", "timeout", "jobs", "detach", "max_cost", "package", "tuned"),
    "Output": ("quiet", "verbose", "as_json"),
}
WORK: Rooms = {
    "Used most": ("share", "workers", "source"),
    "Engine": (
        *("model", "engine", "base_url", "concurrency", "engine_arg", "trust_remote_code", "max_engine_restarts"),
    ),
    "Who works": ("launcher", "tensor_parallel", "address", "gpus_per_worker", "grace", "bad_rows"),
    "Schedulers": ("sbatch", "submit", "image", "claim", "accelerators"),
    "HF Jobs": ("flavor", "timeout", "jobs", "detach", "max_cost", "package", "tuned"),
    "Output": ("quiet", "verbose", "as_json"),
}
TUNE: Rooms = {
    "Used most": ("model", "shots", "split", "recipe", "minutes", "documents"),
    "Source": _SOURCE,
    "Recipe": _RECIPE,
    "Engine": ("engine_arg", "trust_remote_code"),
    "Search": ("precisions", "seed"),
    "Output": ("quiet", "verbose", "as_json"),
}

EVALUATE: Rooms = {
    "Used most": ("split", "sample", "judge", "model", "seen", "unseen", "gold", "shots"),
    "Judging a corpus": ("judge_pairs", "judge_revision"),
    "Judging a synthesizer": (
        "model_revision",
        "prompt_format",
        "prompt",
        "limit",
        "max_tokens",
        "temperature",
        "thinking",
        "out",
    ),
    "Exemplars": ("exemplars", "exemplars_per_prompt", "exemplar_sets"),
    "Engine": ("engine", "engine_arg", "window", "trust_remote_code"),
    "Output": ("seed", "quiet", "verbose", "as_json"),
}
VERIFY: Rooms = {
    "Used most": ("judge", "keep", "sample", "calibrate", "engine", "workers"),
    "Judge": ("judge_revision", "window", "seed"),
    "Engine": ("base_url", "concurrency", "engine_arg", "trust_remote_code", "max_engine_restarts"),
    "Who works": ("launcher", "tensor_parallel", "address", "gpus_per_worker", "shard_rows", "grace"),
    "Output": ("quiet", "verbose", "as_json"),
}
SCREEN: Rooms = {
    "Used most": ("pii", "pii_model", "pii_kinds", "duplicates", "language", "decontaminate", "workers", "dry_run"),
    "Output": ("grace", "quiet", "verbose", "as_json"),
}
PUSH: Rooms = {
    "Used most": ("license", "language", "title", "private", "create_pr", "dry_run"),
    "Card": (
        *("license_name", "license_link", "source_license", "model_license", "part_license"),
        *("creator", "card_template", "kind", "include"),
    ),
    "Repo": ("revision", "replace", "tag", "message", "timeout", "allow_secrets"),
    "Output": ("quiet", "verbose", "as_json"),
}
TRAIN: Rooms = {
    "Used most": ("base", "adapter", "shots", "window", "epochs", "full", "license", "dry_run"),
    "Examples": ("cap", "cap_source", "validation", "seed"),
    "Weights": (
        *("lora_rank", "lora_alpha", "learning_rate", "warmup"),
        *("batch_tokens", "device_tokens", "precision", "max_steps"),
    ),
    "Output": ("evaluate_every", "save_every", "tensorboard", "language", "quiet", "verbose", "as_json"),
}


def in_rooms(rooms: Rooms) -> type[TyperCommand]:
    """Return the class of a command whose help has these rooms, by their headings; what is in none comes last."""

    class InRooms(TyperCommand):
        def format_options(self, ctx: Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ANN401 - click's
            """Write the arguments, then room after room."""
            params = self.get_params(ctx)
            named = {param.name: param for param in params if param.param_type_name == "option"}
            _write(ctx, formatter, "Arguments", [param for param in params if param.param_type_name == "argument"])
            for heading, names in rooms.items():
                _write(ctx, formatter, heading, [named.pop(name) for name in names])
            _write(ctx, formatter, _REST, list(named.values()))

    return InRooms


def _write(ctx: Context, formatter: Any, heading: str, params: Sequence[Any]) -> None:  # noqa: ANN401 - click's
    records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
    if records:
        with formatter.section(heading):
            formatter.write_dl(records)
