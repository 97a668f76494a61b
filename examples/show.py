"""Print a few documents of a corpus folder with their pairs, what was counted, and where the folder is.

python examples/show.py demo-corpus
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

from datasets import disable_progress_bars, load_dataset

SHOWN = 3


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-corpus")
    disable_progress_bars()
    rows = load_dataset(str(folder), "pairs", split="train")
    spread = max(len(rows) // SHOWN, 1)
    for row in rows.select(range(0, len(rows), spread)[:SHOWN]):
        print(document(row))
    print(counts(json.loads((folder / "stats.json").read_text(encoding="utf-8"))))
    print(f"\nThe corpus is in {folder.resolve()}. To load it:\n")
    print(f'    from datasets import load_dataset\n    load_dataset("{folder}", "pairs", split="train")')


def document(row: dict) -> str:
    """Return a document and its pairs as text for a terminal."""
    lines = [f"── {row['id']} ({row['synthesis']['status']})", textwrap.shorten(row["text"], 300, placeholder=" …"), ""]
    for pair in row["pairs"]:
        lines += [f"  Q  {pair['instruction']}", f"  A  {pair['response']}", ""]
    return "\n".join(lines)


def counts(stats: dict) -> str:
    """Return what the job counted: documents by status, pairs, rejections by reason, tokens."""
    documents = stats["documents"]
    return "\n".join(
        (
            f"{sum(documents.values())} documents: {listed(documents)}",
            f"{stats['pairs']} pairs; thrown away: {listed(stats['rejected'])}",
            f"{stats['prompt_tokens']} prompt tokens ({stats['cached_tokens']} of them from the prefix cache), "
            f"{stats['output_tokens']} written",
        )
    )


def listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number) or "nothing"


if __name__ == "__main__":
    main()
