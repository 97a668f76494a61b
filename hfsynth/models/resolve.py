"""Which model is meant, and which revision of it: names into pinned revisions and places to load from.

Loads no model. Asks the Hub at most for a model's `config.json`, to learn the commit that a revision stands for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from hfsynth.core.config import OWN_ENGINE, EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.core.recipes import read_recipe, trusted_model
from hfsynth.models.adapters import ADAPTER_FOLDER, EMBEDDED, EMBEDDED_WINDOW, SETTINGS, embedded_revision
from hfsynth.models.mined import MINED, mined_config
from hfsynth.models.precision import settled_precision

_MODEL_CONFIG = "config.json"
_SMALL_FILE = 16 * 2**20
_EDGE = 64 * 2**10
_ABOUT = ("README.md", "evaluation.json")  # tell of a model and do not change what it says


def pinned(config: SynthesizerConfig, engine: EngineConfig, *, gpu: bool | None = None) -> SynthesizerConfig:
    """Return `config` with the model's revision and precision pinned, and the embedded model's window filled in.

    A Hub revision becomes its commit, a folder's a digest of its files, the embedded model's a digest of its parts.
    A server tells neither which revision it runs nor in which numbers: the model it was asked for is pinned as for any
    other engine, so that a corpus's identity does not depend on where the model runs, and its precision stays as it is.
    A script's name and that of an engine of the caller's own are taken at their word.
    `gpu` says whether engines will run on a GPU, where that is not this machine's to tell.

    Raise ModelError for a model that does not exist, and for a recipe whose embedded model is another one, ConfigError
    for a recipe that names code, or a published one that names a file of this machine.
    """
    config = replace(config, model=trusted_model(config.model, engine.kind))
    if config.model == MINED:
        return mined_config(config)
    if engine.kind in ("scripted", OWN_ENGINE):
        return config
    found, model_config = _revision(config)
    window = config.window or (EMBEDDED_WINDOW if config.model == EMBEDDED else None)
    unsettled = config.precision == "auto" and engine.kind == "vllm"
    precision = settled_precision(model_config, gpu=gpu) if unsettled else config.precision
    return replace(config, model_revision=found, window=window, precision=precision)


def _revision(config: SynthesizerConfig) -> tuple[str, Path | None]:
    """Return the model's revision, and where its `config.json` lies, if it has one."""
    if config.model == EMBEDDED:
        return _same_revision(config, embedded_revision()), None
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        return _same_revision(config, folder_revision(folder)), folder / _MODEL_CONFIG
    settings = _hub_settings(config.model, config.model_revision)
    return settings.parent.name, settings if settings.name == _MODEL_CONFIG else None


def settings_file(model: str, revision: str | None) -> tuple[Path, str]:
    """Return the `config.json` of a model, a folder or a name on the Hub, and the revision that it is at.

    Raise ModelError for a model that does not exist, or that is at another revision than the one that is asked for.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        settings = _hub_settings(model, revision)
        return settings, settings.parent.name
    found = folder_revision(folder)
    if revision not in (None, found):
        raise ModelError(
            f"{model!r} should be at revision {revision}, and is at {found}.",
            hint="The folder has changed since: bring the model back, or name it without a revision.",
        )
    return folder / _MODEL_CONFIG, found


def recommended_sampling(model: str) -> Sampling:
    """Return the sampling that a synthesizer recommends in the `synthesizer_config.json` of its folder.

    That is the shipped one for the embedded synthesizer, and the default for a folder without a recipe and for a model
    elsewhere. Raise ConfigError for a recipe that cannot be read.
    """
    folder = ADAPTER_FOLDER if model == EMBEDDED else Path(model).expanduser()
    recipe = folder / "synthesizer_config.json"
    return Sampling(**read_recipe(recipe).get("sampling", {})) if recipe.is_file() else Sampling()


def _same_revision(config: SynthesizerConfig, found: str) -> str:
    if config.model_revision not in (None, found):
        raise ModelError(
            f"The recipe was made with revision {config.model_revision} of {config.model!r}; here is {found}.",
            hint="Install the version of hfsynth, or fetch the model, that the recipe names; or drop model_revision.",
        )
    return found


def folder_revision(folder: Path) -> str:
    """Return a digest of a model folder: small files whole, weights by size and their first and last 64 KiB.

    Its card and its evaluation are no part of it, so that judging a model does not make it another one.
    """
    digest = sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _ABOUT):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        for part in _telling_bytes(path):
            digest.update(part)
    return digest.hexdigest()[:40]


def _telling_bytes(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if path.stat().st_size <= _SMALL_FILE:
            yield file.read()
            return
        yield file.read(_EDGE)
        file.seek(-_EDGE, os.SEEK_END)
        yield file.read()


def _hub_settings(model: str, revision: str | None) -> Path:
    """Return a model's `config.json`, of an adapter its settings, in the folder of the commit that is meant."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        try:
            return Path(hf_hub_download(model, _MODEL_CONFIG, revision=revision))
        except EntryNotFoundError:  # an adapter has none
            return Path(hf_hub_download(model, SETTINGS, revision=revision))
    except HFValidationError as error:
        raise ConfigError(f"{model!r} is neither a folder nor the name of a model on the Hub.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"The Hub has no model {model!r}, or it is private.",
            hint="Check the name; for a private model log in with hf auth login.",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"The model {model!r} has no revision {revision!r}.") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{model!r} is no folder, not in the local cache, and the Hub cannot be reached.",
            hint="Use --model embedded, which needs no network, or give the path of a model folder.",
        ) from error
    except (EntryNotFoundError, HfHubHTTPError) as error:
        raise ModelError(f"The model {model!r} cannot be read from the Hub: {error}") from error
