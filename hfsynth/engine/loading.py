"""One engine a process and configuration: loaded the first time, then found again, closed at the end.

The engines' own modules are imported where one is loaded. Knows nothing of documents, prompts or files.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hfsynth.core.config import OWN_ENGINE, EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.core.thinking import thinks
from hfsynth.engine.protocol import Engine, EngineKey, LoadedEngine
from hfsynth.engine.speculation import usual_engine
from hfsynth.engine.start import prepare_process
from hfsynth.models.adapters import EMBEDDED, SETTINGS, embedded_path, is_adapter, merged_path
from hfsynth.models.mined import MINED

_log = logging.getLogger(__name__)


_engines: dict[tuple[int, EngineKey], Engine] = {}


_own: dict[int, tuple[int, Engine]] = {}
"""Engines that were given as objects, by their numbers, and the process that each belongs to."""


def config_of(engine: EngineConfig | Engine | None) -> EngineConfig:
    """Return how an engine is run that a caller gave: settings as they are, vLLM's for none, and an object by a number.

    By that number `engine_for` finds the object again in this process, until `close_engines`. Raise ConfigError for
    what does not keep the `Engine` protocol.
    """
    if engine is None or isinstance(engine, EngineConfig):
        return engine or EngineConfig()
    if not isinstance(engine, Engine):
        raise ConfigError(
            f"engine must be an EngineConfig, or keep the Engine protocol: {type(engine).__name__} does not.",
            hint="It needs window, tokenizer, run and close: see hfsynth.Engine.",
        )
    _own[id(engine)] = os.getpid(), engine
    return EngineConfig(OWN_ENGINE, {"object": id(engine)})


def _own_engine(engine: EngineConfig) -> Engine:
    pid, found = _own.get(engine.arguments["object"], (0, None))
    if found is None or pid != os.getpid():
        raise ConfigError(
            "An engine that is an object works in the process that made it, and only there.",
            hint="Leave num_proc and launcher out, or give an EngineConfig, by which each process loads its own.",
        )
    return found


def engines() -> list[LoadedEngine]:
    """Return the engines that this process holds, in the order in which they were loaded.

    One stays loaded for each model, window and set of engine arguments, until `close_engines` or the process's end.
    """
    return [
        LoadedEngine(key.config.kind, key.model, key.revision, engine.window, key.config.arguments)
        for (pid, key), engine in _engines.items()
        if pid == os.getpid()
    ]


def shared_engine(key: EngineKey, load: Callable[[EngineKey], Engine]) -> Engine:
    """Return this process's engine for `key`, loading it the first time.

    The process id is part of the cache's key: a forked child finds its parent's engines here and must not use them.
    """
    found = _engines.get((os.getpid(), key))
    if found is None:
        found = _engines[(os.getpid(), key)] = _loaded_beside(engines(), key, load)
    return found


def _loaded_beside(held: Sequence[LoadedEngine], key: EngineKey, load: Callable[[EngineKey], Engine]) -> Engine:
    """Load an engine, and say which others hold memory before there is none left, and again where there was none."""
    others = "; ".join(str(one) for one in held if one.kind == "vllm") if key.config.kind == "vllm" else ""
    if not others:
        return load(key)
    hint = f"This process already holds {others}. hfsynth.close_engines() frees what it holds."
    _log.warning("Loading %s. %s", key.model, hint)
    try:
        return load(key)
    except ModelError as error:
        raise ModelError(error.message, hint=" ".join(filter(None, (error.hint, hint)))) from error


def drop_engine(engine: Engine) -> None:
    """Take an engine out of the cache and close it, so that it is loaded anew when it is next asked for.

    One that was given as an object stays as it is, and is asked again: nobody here could load another.
    """
    if any(found is engine for _, found in _own.values()):
        return
    for key in [key for key, found in _engines.items() if found is engine]:
        del _engines[key]
    engine.close()


def close_engines() -> None:
    """Close every engine of this process and free its memory. Runs by itself when the process ends.

    What needs an engine later loads it again. Those that were given as objects are forgotten, and not closed.
    """
    _own.clear()
    own = [key for key in _engines if key[0] == os.getpid()]
    for key in own:
        _engines.pop(key).close()


atexit.register(close_engines)


_ADAPTER_FILES = ["adapter_*", "token*", "special_tokens_map.json", "vocab.*", "merges.txt", "*.jinja"]


def engine_for(config: SynthesizerConfig, engine: EngineConfig) -> Engine:
    """Return this process's engine for a pinned config, loading it the first time."""
    if config.model == MINED:
        return shared_engine(EngineKey(EngineConfig("scripted"), MINED), _load_none)
    if engine.kind == OWN_ENGINE:
        return _own_engine(engine)
    if engine.kind == "vllm":
        prepare_process(engine.arguments)
    return shared_engine(_key(config, usual_engine(config, engine)), _load)


def _key(config: SynthesizerConfig, engine: EngineConfig) -> EngineKey:
    thinking = thinks(config.thinking)
    if engine.kind != "scripted" and config.model == EMBEDDED:
        return EngineKey(engine, str(embedded_path()), None, config.window, config.precision, thinking)
    folder = Path(config.model).expanduser()
    if engine.kind == "vllm" and not folder.is_dir() and (adapter := _hub_adapter(config)) is not None:
        folder = adapter
    if engine.kind == "vllm" and is_adapter(folder):
        return EngineKey(engine, str(merged_path(folder)), None, config.window, config.precision, thinking)
    local = engine.kind == "scripted" or folder.is_dir()
    revision = None if local else config.model_revision
    return EngineKey(engine, config.model, revision, config.window, config.precision, thinking)


def _hub_adapter(config: SynthesizerConfig) -> Path | None:
    """Return the folder with the files of an adapter on the Hub, None where the repo holds a whole model."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    found = try_to_load_from_cache(config.model, SETTINGS, revision=config.model_revision)
    if not isinstance(found, str):
        return None
    return Path(snapshot_download(config.model, revision=config.model_revision, allow_patterns=_ADAPTER_FILES))


def _load_none(key: EngineKey) -> Engine:
    """Return an engine for chains that ask for nothing."""
    from hfsynth.engine.scripted import ScriptedEngine

    return ScriptedEngine()


def _load(key: EngineKey) -> Engine:
    if key.config.kind == "scripted":
        from hfsynth.engine.scripted import load_scripted

        return load_scripted(key)
    if key.config.kind == "server":
        from hfsynth.engine.server import load_server

        return load_server(key)
    from hfsynth.engine.vllm import load_vllm

    return load_vllm(key)
