"""The command line and the Python lines that give what a view of the page shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hfsynth.core.stores import is_store
from hfsynth.page.filters import Filters


@dataclass(frozen=True, slots=True)
class Ways:
    """The same as a command and in Python."""

    command: str
    python: str


def command(*words: str) -> str:
    """Return a command line in which a shell reads these words."""
    return shlex.join(("hfsynth", *words))


def looking(location: str, split: str, filters: Filters, *, running: bool = False) -> Ways:
    """Return how the rows of a corpus are read that fit; of a running job those of its finished shards."""
    conditions = [*_conditions(filters)]
    lines = ["from datasets import load_dataset", *_imports(filters), ""]
    root, split = location.rstrip("/"), split or "train"
    stored = is_store(location)
    if running or stored:  # datasets must be told the files
        files = f"{root}/.hfsynth/parts/*.parquet" if running else f"{root}/pairs/{split}-*.parquet"
        lines.append(f'rows = load_dataset("parquet", data_files={files!r}, split="train")')
    else:
        lines.append(f'rows = load_dataset({location!r}, "pairs", split={split!r})')
    if filters.style:
        given = f'"parquet", data_files={root + "/data/*.parquet"!r}' if stored else repr(location)
        lines.append(f"texts = [text for split in load_dataset({given}).values() for text in split]")
        lines.append(f"texts = [text for text in texts if (text['style'] + '+').startswith({filters.style + '+'!r})]")
        lines.append("styled = {(text['chain'], one) for text in texts for one in text['source_ids']}")
    lines += [f"rows = rows.filter(lambda row: {condition})" for condition in conditions]
    return Ways(command("page", location), "\n".join([*lines, "print(rows, rows[:1])"]))


def following(location: str, filters: Filters) -> Ways:
    """Return how the rows are read that a running job has under way, those that fit."""
    asked = {own.name: getattr(filters, own.name) for own in fields(filters)}
    given = ", ".join(f"{name}={value!r}" for name, value in asked.items() if value not in ("", None))
    lines = [
        "from pathlib import Path\n",
        "from hfsynth.page.filters import Filters, fits",
        "from hfsynth.page.live import LiveRows\n",
        f"live = LiveRows(Path({location!r}))",
        "live.look()",
        "rows = [live.row(number, wait=True) for number in live.numbers()]",
        f"print([row for row in rows if fits(row, Filters({given}))][:1])",
    ]
    return Ways(command("info", "--watch", location), "\n".join(lines))


def figuring(location: str) -> Ways:
    """Return how the figures of a corpus are read; where it lies elsewhere, they are in its file `stats.json`."""
    if is_store(location):
        file = f"(any_path({location!r}) / 'stats.json')"
        imports = "import json\n\nfrom hfsynth.core.stores import any_path\n\n"
        return Ways(command("page", location), f"{imports}print(json.loads({file}.read_text('utf-8')))")
    if not Path(location).exists() and "://" not in location:
        name, _, revision = location.partition("@")
        asked = f", revision={revision!r}" if revision else ""
        file = f"hf_hub_download({name!r}, 'stats.json', repo_type='dataset'{asked})"
        imports = "import json\n\nfrom huggingface_hub import hf_hub_download\n\n"
        return Ways(command("page", location), f"{imports}print(json.load(open({file})))")
    python = f"import hfsynth\n\nprint(hfsynth.inspect({location!r})['stats'])"
    return Ways(command("info", location), python)


def trying(
    texts: Sequence[str],
    options: Mapping[str, object],
    sampling_flags: Mapping[str, object],
    sampling: Mapping[str, object],
    engine: Mapping[str, Any],
) -> Ways:
    """Return how documents are synthesized: by a `Synthesizer` with these options, its sampling, and its engine.

    None of them names what is the default. Flags of the sampling are put on top of what the model recommends, a
    `sampling` in Python stands for itself.
    """
    named = {name: value for name, value in engine.items() if name != "engine_args"}
    given = {**options, **sampling_flags, **named, **_flags_of(engine.get("engine_args") or {})}
    flags = [word for name, value in given.items() for word in (_flag(name), str(value))]
    own = [repr(options["model"]), *(f"{name}={value!r}" for name, value in options.items() if name != "model")]
    if sampling:
        own.append(f"sampling=hfsynth.Sampling({', '.join(f'{name}={value!r}' for name, value in sampling.items())})")
    own += [f"{name}={value!r}" for name, value in engine.items()]
    python = (
        "from datasets import Dataset\n\nimport hfsynth\n\n"
        f"synthesize = hfsynth.Synthesizer({', '.join(own)})\n"
        f'ds = Dataset.from_dict({{"text": {_listed(texts)}}})\n'
        "rows = synthesize.map(ds)\n"
        'print(rows["pairs"])\nprint(hfsynth.render(rows)["text"])'
    )
    return Ways(command("synthesize", "documents.jsonl", "corpus/", *flags), python)


def _flag(name: str) -> str:
    return f"--{name.partition(' ')[0].replace('_', '-')}"


def _flags_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return an engine's arguments as the command line names them: a server's have options of their own."""
    own = ("base_url", "concurrency")
    found = {name: value for name, value in arguments.items() if name in own}
    others = [f"{name}={value}" for name, value in arguments.items() if name not in own]
    return {**found, **{f"engine_arg {at}": other for at, other in enumerate(others)}}


def mixing(
    parts: Sequence[tuple[str, str, str]],
    *,
    tokenizer: str,
    ratios: Mapping[str, float] | None,
    budget_tokens: int | None,
    repeat: Sequence[str] = (),
    seed: int = 0,
) -> Ways:
    """Return how parts are mixed; each is its name, its kind and its location."""
    words = ["mix", "mixed/"]
    for _, kind, location in parts:
        words += [f"--{kind}", location]
    for name, share in (ratios or {}).items():
        words += ["--ratio", f"{name}={share:.6g}"]
    words += ["--budget-tokens", str(budget_tokens)] if budget_tokens else []
    words += [word for name in repeat for word in ("--repeat", name)]
    words += ["--seed", str(seed)] if seed else []
    again = {name: ", repeat=True" for name in repeat}
    made = "".join(
        f"    hfsynth.Part({name!r}, load_dataset({location!r}), {kind!r}{again.get(name, '')}),\n"
        for name, kind, location in parts
    )
    asked = [f"tokenizer={tokenizer!r}"]
    asked += [f"ratios={ {name: float(f'{share:.6g}') for name, share in ratios.items()}!r}"] if ratios else []
    asked += [f"budget_tokens={budget_tokens}"] if budget_tokens else []
    asked += [f"seed={seed}"] if seed else []
    python = (
        "from datasets import load_dataset\n\nimport hfsynth\n\n"
        f'parts = [\n{made}]\nhfsynth.mix(parts, "mixed/", {", ".join(asked)})'
    )
    return Ways(command(*words, "--tokenizer", tokenizer), python)


def _listed(texts: Sequence[str]) -> str:
    short = [text if len(text) <= 60 else f"{text[:57]}..." for text in texts]
    return repr(short)


def _conditions(filters: Filters) -> list[str]:
    found = []
    if filters.status:
        found.append(f'row["synthesis"]["status"] == {filters.status!r}')
    if filters.reason:
        found.append(f'{filters.reason!r} in [one["reason"] for one in row["synthesis"]["rejected"]]')
    if filters.prompt:
        found.append(f'row["synthesis"]["prompt"] == {filters.prompt!r}')
    if filters.style:
        found.append('(row["synthesis"]["chain"], row["id"]) in styled')
    if filters.text:
        found.append(f"{filters.text.lower()!r} in str((row['text'], row['pairs'])).lower()")
    if filters.accuracy is not None:
        found.append(f'any((one["accuracy"] or 1) < {filters.accuracy} for one in row["verdicts"])')
    if filters.kind:
        found.append(f'any(category_of(Pair(**pair)) == {filters.kind!r} for pair in row["pairs"])')
    if filters.grounding is not None:
        found.append(f'any(grounding(row["text"], pair["response"]) < {filters.grounding} for pair in row["pairs"])')
    return found


def _imports(filters: Filters) -> list[str]:
    kinds = [
        "from hfsynth.core.records import Pair",
        "from hfsynth.quality.task_categories import category_of",
    ]
    measured = ["from hfsynth.quality.measures import grounding"]
    return [*(kinds if filters.kind else ()), *(measured if filters.grounding is not None else ())]
