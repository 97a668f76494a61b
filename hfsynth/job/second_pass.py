"""How a second pass over a finished corpus begins: the pairs are whole, and no other pass over them is unfinished."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from hfsynth.core.config import digest
from hfsynth.core.errors import OutputError
from hfsynth.core.files import read_json, write_json, writing
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.manifest import recorded, require_whole
from hfsynth.corpus.parquet import file_record
from hfsynth.version import __version__


def require_pairs(corpus: Corpus) -> str:
    """Return a digest of a finished corpus's pairs; raise OutputError where there are none or some are lost."""
    unfinished = corpus.plan.exists() and not corpus.manifest.exists()
    if unfinished or not any(corpus.pairs.glob("*.parquet")):
        raise OutputError(
            f"{corpus.root} holds no finished pairs.",
            hint=f"Make or finish them: hfsynth synthesize SOURCE {corpus.root}",
        )
    require_whole(corpus.root, "pairs/", digests=True)
    if not corpus.manifest.exists():  # a folder that no job made; beside an unfinished verification it stays finished
        files = {f"pairs/{path.name}": file_record(path) for path in sorted(corpus.pairs.glob("*.parquet"))}
        write_json(corpus.manifest, {"hfsynth": __version__, "files": files})
    return pairs_digest(corpus)


def pairs_digest(corpus: Corpus) -> str:
    """Return what stands for the bytes of a corpus's pairs."""
    return digest({path: one["sha256"] for path, one in recorded(corpus).items() if path.startswith("pairs/")})


def begin_pass(
    inner: Corpus, identity: dict[str, Any], what: str, lay_out: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Write down what a pass does, once it is laid out; what was begun of pairs that are there no more is forgotten.

    `identity` names the `pairs` and everything that decides the result. Raise OutputError where another pass of the
    kind is unfinished, which says that the corpus is being `what` in another way.
    """
    found = read_json(inner.plan)
    if found is not None and found.get("pairs") != identity["pairs"]:
        with writing(inner.root):
            shutil.rmtree(inner.root)
        found = None
    other = [name for name, value in identity.items() if found is not None and found.get(name) != value]
    if other:
        raise OutputError(
            f"{inner.root.parent.parent} is being {what} in another way: {', '.join(other)} "
            f"{'is' if len(other) == 1 else 'are'} not the same.",
            hint=f"Finish that with its own command, or give it up: remove {inner.root}.",
        )
    if found is None:
        with writing(inner.journal):
            inner.journal.mkdir(parents=True, exist_ok=True)
        lay_out()
        write_json(inner.plan, identity)
    return identity
