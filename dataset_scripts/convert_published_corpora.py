# /// script
# requires-python = ">=3.11"
# dependencies = ["hfsynth==0.1.0"]
# ///
r"""Convert the corpora that the authors of Instruction Pre-Training published into hfsynth's configs.

Their repos (`instruction-pretrain/…` on the Hub) hold shards, one JSON value a line:

* `general-instruction-augmented-corpora`, `PART/shard/*.txt`, and `medicine-instruction-augmented-corpora`,
  `PART/shard/*.jsonl`: finished training texts. A line is a text, a list of pieces of one, or either as the field
  `text` of an object. They become config `default`; their pairs cannot be told from the text any more.
* `ft-instruction-synthesizer-collection`, `SET/shard/*.jsonl`: objects with `context`, `QA_list` (a list of `Q` and
  `A`), `QA_type` and `rc_name`. They become config `pairs`, and are rendered into `default`.

    uv run dataset_scripts/convert_published_corpora.py \
        instruction-pretrain/ft-instruction-synthesizer-collection me/synthesizer-collection --license other \
        --license-name see-sources \
        --license-link https://huggingface.co/datasets/instruction-pretrain/ft-instruction-synthesizer-collection
    hf jobs uv run --flavor cpu-upgrade --secrets HF_TOKEN dataset_scripts/convert_published_corpora.py \
        instruction-pretrain/general-instruction-augmented-corpora me/general-instruct --license odc-by --language en
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Features, List, Value
from huggingface_hub import snapshot_download

import hfsynth

SHARDS = ("*/shard/*.txt", "*/shard/*.jsonl")
COLUMNS = {name: Value("string") for name in ("id", "text", "source", "task")}
TEXTS = Features({name: COLUMNS[name] for name in ("id", "text", "source")})
PAIRS = Features({**COLUMNS, "pairs": List({"instruction": Value("string"), "response": Value("string")})})
RENDERED = Features(
    {
        "text": Value("string"),
        "source_ids": List(Value("string")),
        "shots": Value("int64"),
        "num_pairs": Value("int64"),
        "style": Value("string"),
        "chain": Value("string"),
    }
)


def main() -> None:
    parser = hfsynth.script_parser(
        __doc__,
        "seed",
        input="one of the repos, or a folder of their layout",
        license="as the input's page states it",
    )
    parser.add_argument("--limit", type=int, help="convert so many rows only")
    hfsynth.run_script(parser, convert)


def convert(args: argparse.Namespace) -> None:
    files = shards(args.input)
    for config in ("data", "pairs"):
        for path in (args.folder / config).glob("train-*-of-*.parquet"):  # of an earlier run
            path.unlink()
    if "context" in next(objects(files))[1]:
        write(islice(collected(files), args.limit), args.folder / "pairs", PAIRS)
        rendered = hfsynth.render_rows(islice(collected(files), args.limit), seed=args.seed)
        write(rendered, args.folder / "data", RENDERED)
    else:
        write(islice(finished(files), args.limit), args.folder / "data", TEXTS)
    introduce(args.folder / "README.md", args.input)


def write(rows: Iterator[dict[str, Any]], folder: Path, columns: Features) -> None:
    hfsynth.write_split(rows, folder, split="train", features=columns)


def shards(location: str) -> list[Path]:
    """Return the shards of a folder, or of a dataset on the Hub once it is here."""
    root = Path(location)
    if not root.is_dir():
        root = Path(snapshot_download(location, repo_type="dataset", allow_patterns=list(SHARDS)))
    files = sorted(path for pattern in SHARDS for path in root.glob(pattern))
    if not files:
        raise hfsynth.HfsynthError(f"{location} holds no shards.", hint=f"They lie at {' and '.join(SHARDS)}.")
    return files


def objects(files: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each line stands, and its object; a bare text or list is the `text` of one."""
    for path in files:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{path.parent.parent.name}/shard/{path.name}, line {number}"
                    yield where, parsed(line, where)


def parsed(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise hfsynth.HfsynthError(f"{where} is no JSON: {error}.") from error
    return value if isinstance(value, dict) else {"text": value}


def finished(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield training texts."""
    for where, row in objects(files):
        pieces = [row["text"]] if isinstance(row.get("text"), str) else row.get("text")
        if not (isinstance(pieces, list) and all(isinstance(piece, str) for piece in pieces)):
            raise hfsynth.HfsynthError(f"{where} holds no text: {sorted(row)}.")
        text = "\n".join(pieces)
        if text.strip():
            yield {"id": hfsynth.content_id(text), "text": text, "source": where.partition("/")[0]}


def collected(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield documents with their pairs."""
    for where, row in objects(files):
        pairs = row.get("QA_list")
        if not (isinstance(row.get("context"), str) and isinstance(pairs, list)):
            raise hfsynth.HfsynthError(f"{where} has no context and QA_list, but {sorted(row)}.")
        yield {
            "id": hfsynth.content_id(row["context"]),
            "text": row["context"],
            "source": row.get("rc_name") or where.partition("/")[0],
            "task": row.get("QA_type"),
            "pairs": [pair(given, where) for given in pairs],
        }


def pair(given: Any, where: str) -> dict[str, str]:  # noqa: ANN401
    if not isinstance(given, dict) or set(given) != {"Q", "A"}:
        raise hfsynth.HfsynthError(f"{where} has a pair that is not Q and A alone: {str(given)[:80]}")
    return {"instruction": given["Q"], "response": given["A"]}


def introduce(readme: Path, location: str) -> None:
    """Say where the rows are from, before the words that push adds; what somebody has written stays."""
    if readme.exists():
        return
    if Path(location).is_dir():
        source, name = "", f"`{Path(location).resolve().name}`"
    else:
        source = f"---\nsource_datasets:\n- {location}\n---\n"
        name = f"[{location}](https://huggingface.co/datasets/{location})"
    readme.write_text(
        f"{source}\nThe rows were converted from {name}, published by the authors of Instruction Pre-Training. What is "
        "said below about who wrote the pairs holds for their synthesized corpora; those of the tuning collection come "
        "from the data sets that `source` names.\n",
        "utf-8",
    )


if __name__ == "__main__":
    main()
