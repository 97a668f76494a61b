"""The training texts that a few rows give in each of the styles. Pure but for the wordings that are read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hfsynth.page import markup
from hfsynth.page.rows import CorpusRow
from hfsynth.texts.training_texts import render_rows
from hfsynth.texts.wordings import STYLE_NAMES

SEED = 0


def styled(rows: Sequence[CorpusRow]) -> dict[str, str]:
    """Return the texts of a chain's rows by style. A chain with a single pair is classic in all but two of them."""
    plain = [_plain(row) for row in rows]
    found = {}
    for name in STYLE_NAMES:
        texts = [row["text"] for row in render_rows(plain, seed=SEED, styles={name: 1.0, "inverted": 0.0})]
        found[name] = "\n\n".join(texts)
    return found


def in_all_styles(rows: Sequence[CorpusRow]) -> str:
    """Return the texts of a chain's rows in every style, as HTML."""
    texts = {name: text for name, text in styled(rows).items() if text}
    if not texts:
        return markup.message("These rows give no training text.", "They hold no text.")
    shown = (markup.folded(name.replace("_", " "), markup.text_block(text)) for name, text in texts.items())
    return f'<div class="hs-styles">{"".join(shown)}</div>'


def _plain(row: CorpusRow) -> Mapping[str, Any]:
    synthesis = {**row.synthesis, "chain": row.chain, "shot": row.shot, "follows": bool(row.synthesis.get("follows"))}
    return {"id": row.id, "text": row.text, "pairs": [asdict(pair) for pair in row.pairs], "synthesis": synthesis}
