"""How a published corpus is made again and cited, as a card prints it.

Pure: the values of a folder's JSON files in, text out. Knows nothing of Markdown, and does not run what it writes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hfsynth.core.recipes import SCRIPTED
from hfsynth.models.adapters import EMBEDDED
from hfsynth.texts.languages import AUTO, LANGUAGES
from hfsynth.texts.styles import DEFAULT_STYLES
from hfsynth.texts.wordings import STYLE_NAMES

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SCRIPT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_WIDTH = 76
_FILES = (".json", ".jsonl", ".parquet", ".csv", ".txt")


def hub_id(location: str) -> str | None:
    """Return `location` where it has the form of a repo id and is no file."""
    return location if _HUB_ID.fullmatch(location) and not location.endswith(_FILES) else None


def synthesize_command(recipe: Mapping[str, Any], name: str, *, unreadable: bool, pairs_only: bool = False) -> str:
    """Return the command that makes the corpus again from the recipe called `name`; it needs the source's location.

    `unreadable` says that rows of the source could not be read, and were left out; `pairs_only` that the steps after
    the synthesis cannot be taken elsewhere.
    """
    words = ["hfsynth synthesize", *_source_options(recipe["source"]), "again/", f"--recipe {shlex.quote(name)}"]
    words += _scripted_options(str(recipe["model"]))
    words += ["--pairs-only"] if pairs_only else []
    words += ["--bad-rows skip"] if unreadable else []
    return _typed(words)


def render_command(render: Mapping[str, Any]) -> str | None:
    """Return the command that renders the texts again; None where it is not known what was asked of the rendering."""
    if "seed" not in render:
        return None
    words = ["hfsynth render again/", f"--seed {render['seed']}", *_style_options(render.get("styles") or {})]
    asked = render.get("wordings", AUTO)
    words += [f"--wordings {asked}"] if asked in LANGUAGES else []
    words += [f"--validation {render['validation']}"] if render.get("validation") else []
    tokenizer = render.get("tokenizer")  # a bare name may be that of a folder of somebody's machine
    words += [f"--tokenizer {tokenizer}"] if tokenizer == EMBEDDED or hub_id(str(tokenizer)) else []
    return _typed(words)


def citation(name: str, title: str, repo: str | None) -> str:
    """Return a dataset's entry for BibTeX."""
    owner, _, last = (repo or name).rpartition("/")
    key = re.sub(r"\W+", "_", last, flags=re.ASCII).strip("_").lower() or "corpus"
    lines = [f"@misc{{{key},", f"  title        = {{{_braced(title)}}},"]
    lines += [f"  author       = {{{_braced(owner)}}},"] if owner else []
    lines += [f"  howpublished = {{\\url{{https://huggingface.co/datasets/{repo}}}}},"] if repo else []
    return "\n".join([*lines, "  note         = {Made with hfsynth}", "}"])


def _scripted_options(model: str) -> list[str]:
    """Return what a recipe without a model needs: the engine, and a script that it may not name itself."""
    if model == SCRIPTED:
        return ["--engine scripted"]
    return ["--engine scripted", f"--model {shlex.quote(model)}"] if _SCRIPT.fullmatch(model) else []


def _style_options(styles: Mapping[str, float]) -> list[str]:
    """Return the weights where they are not the usual ones; a style that is not named has none."""
    usual = asdict(DEFAULT_STYLES)
    weights = {name: styles.get(name, usual[name]) for name in STYLE_NAMES}
    given = [f"--style {name}={weight}" for name, weight in weights.items() if weight]
    inverted = styles.get("inverted", usual["inverted"])
    return [
        *(given if any(weights[name] != usual[name] for name in STYLE_NAMES) else []),
        *([f"--inverted {inverted}"] if inverted != usual["inverted"] else []),
    ]


def _typed(words: Sequence[str]) -> str:
    """Return a command in lines that a page has room for, as a shell takes them."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return " \\\n  ".join(lines)


def _source_options(source: Mapping[str, Any]) -> list[str]:
    """Return the source as it is written on the command line."""
    options = {"config": "config", "split": "split", "text_column": "text-column", "id_column": "id-column"}
    given = [
        f"--{flag} {shlex.quote(str(value))}" for name, flag in options.items() for value in _listed(source.get(name))
    ]
    given += [f"--limit {source['limit']}"] if source.get("limit") else []
    pinned = hub_id(str(source["location"])) and source["revision"]
    given += [f"--revision {shlex.quote(str(source['revision']))}"] if pinned else []
    return [shlex.quote(str(source["location"])), *given]


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value] if value else []


def _braced(text: str) -> str:
    """Return a text as TeX takes it between braces."""
    plain = " ".join(re.sub(r"[{}\\]", " ", text).split())
    return re.sub(r"([&%$#_])", r"\\\1", plain).replace("~", r"\textasciitilde{}").replace("^", r"\textasciicircum{}")
