"""Build the page of a corpus. Loads the library of widgets only when a page is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from hfsynth.core.errors import ConfigError
from hfsynth.engine.protocol import Engine
from hfsynth.models.adapters import EMBEDDED
from hfsynth.models.mined import MINED
from hfsynth.page.looking import CorpusLook
from hfsynth.page.mixing import NamedPart, named_parts
from hfsynth.page.settings import Page, PageSettings
from hfsynth.page.trying import Engines


def build_page(
    corpus: str | None = None,
    *,
    model: str = EMBEDDED,
    engine: str | Engine = "vllm",
    engine_args: Mapping[str, Any] | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
    tokenizer: str = EMBEDDED,
) -> Page:
    """Build the page that shows a corpus, tries `model` on documents, and plans mixtures; `launch` shows it.

    `corpus` is a folder (finished, or being filled), the address of a store, `user/name` on the Hub, or a URL. `parts`
    are locations by kind (`augmented`, `raw`, `general`), as `hfsynth.mix` takes them; the corpus's own texts are the
    first. Nothing else can be read through the page. `engine` and `engine_args` are those of a `Synthesizer`. Raise
    OutputError where there is no corpus, ConfigError for an engine that cannot be, and where gradio is not installed.
    """
    if find_spec("gradio") is None:
        raise ConfigError(
            "The page is made with gradio, which is not installed.", hint="Run `pip install 'hfsynth[app]'`."
        )
    look = None if corpus is None else CorpusLook(str(corpus))
    models = tuple(dict.fromkeys((model, MINED)))
    chosen = Engines(engine, dict(engine_args or {}))
    settings = PageSettings(look, models, chosen, _parts(look, parts or {}), tokenizer)
    from hfsynth.page.app import BuiltPage

    return BuiltPage(settings)


def _parts(look: CorpusLook | None, given: Mapping[str, Sequence[str]]) -> tuple[NamedPart, ...]:
    folder = None if look is None else look.corpus.folder
    own = [] if folder is None or not any((folder / "data").glob("*.parquet")) else [str(folder)]
    named = {kind: list(locations) for kind, locations in given.items()}
    named["augmented"] = [*own, *(one for one in named.get("augmented", ()) if one not in own)]
    return named_parts(named)
