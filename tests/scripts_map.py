"""Scripts for ScriptedEngine, and small programs that tests run in processes of their own."""

from __future__ import annotations

import sys

from datasets import Dataset

from hfsynth import Synthesizer

CALLS: list[str] = []


def counting(prompt: str) -> str:
    """Answer with one pair, and remember having been asked."""
    CALLS.append(prompt)
    return "<QUE> How long is the prompt? <ANS> " + str(len(prompt)) + " </END>"


def pairless_at_first(prompt: str) -> str:
    """Find no pair in the first fifty documents."""
    number = int(prompt.rpartition("number ")[2].split()[0])
    return "nothing to ask" if number < 50 else counting(prompt)


def corpus(rows: int) -> Dataset:
    return Dataset.from_dict(
        {"id": [f"d{n}" for n in range(rows)], "text": [f"Text number {n} ." for n in range(rows)]}
    )


def main(folder: str, changes: str) -> None:
    """Map the corpus saved in `folder`; print the fingerprint, how often the script ran, and the engines alive."""
    import scripts_map  # as the engine imports it: this file itself runs as __main__

    from hfsynth.engine import loading

    settings = {"shots": 2, "engine": "scripted", **eval(changes)}  # noqa: S307 - the tests' own text
    mapped = Dataset.load_from_disk(folder).map(
        Synthesizer(settings.pop("model", "scripts_map:counting"), **settings), batched=True, batch_size=4
    )
    sys.stdout.write(f"{mapped._fingerprint} {len(scripts_map.CALLS)} {len(loading._engines)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
