"""The text of a card: front matter, the blocks that hfsynth owns, text of the user's, and text that must stay text.

A card may hold several blocks, one for each corpus that was published into the repo. Knows nothing of what the facts
in a block are, of files or of the Hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any, Self
from unicodedata import east_asian_width

import yaml

from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.files import write_text
from hfsynth.corpus.folder import CorpusAt, split_order

_BEGIN = re.compile(r"^<!-- hfsynth:begin (\{.*\}) -->$", re.MULTILINE)
_END = "<!-- hfsynth:end -->"
_NOTICE = "<!-- Made by hfsynth. What is between these marks is made again; write before or after them. -->"
_FRONT = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?(?:\n|\Z)", re.DOTALL | re.MULTILINE)
# Controls, and what is invisible or turns the direction of writing: zero-width and bidirectional characters, fillers,
# selectors, tags, halves of surrogate pairs.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_WEB = re.compile(r"https?://[^\s<>\"'`\\()\[\]{}|^]+")
_MARKUP = re.compile(r"[\\`*_\[\]<>&!#~|$:@^{}]|(?<=www)\.")
_HEAD, _TAIL = 700, 500
_WIDTH = 76


@dataclass(frozen=True, slots=True)
class Block:
    """What hfsynth wrote about one corpus. `known` holds what is needed to write it again, as plain values."""

    known: Mapping[str, Any]
    body: str

    @property
    def parts(self) -> frozenset[str]:
        """What the block is about, as `config/split`."""
        return frozenset(self.known.get("parts", ()))

    @property
    def home(self) -> str:
        """The folder of the repo that holds the corpus's own files; empty for the root."""
        return str(self.known.get("home", ""))

    def text(self) -> str:
        """Return the block between its marks; raise ConfigError where the body holds such a mark itself."""
        if _BEGIN.search(self.body) or _END in self.body.splitlines():
            raise ConfigError("The card's template writes one of hfsynth's own marks.", hint="Remove it from there.")
        known = json.dumps(self.known, ensure_ascii=True, sort_keys=True)
        known = known.replace("<", "\\u003c").replace(">", "\\u003e")
        return f"<!-- hfsynth:begin {known} -->\n{_NOTICE}\n\n{self.body.strip()}\n\n{_END}"


@dataclass(frozen=True, slots=True)
class Card:
    """A README taken apart: metadata, then texts of the user's and blocks of ours, in order."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    content: tuple[str | Block, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a README apart; raise OutputError where its front matter or one of our marks is damaged."""
        metadata, body = front_matter(text.replace("\r\n", "\n"))
        return cls(metadata, tuple(_content(body)))

    @property
    def blocks(self) -> list[Block]:
        return [part for part in self.content if isinstance(part, Block)]

    @property
    def words(self) -> list[str]:
        """The user's own texts."""
        return [part for part in self.content if isinstance(part, str)]

    def text(self) -> str:
        """Return the README."""
        front = f"---\n{_yaml(self.metadata)}---\n" if self.metadata else ""
        parts = [part if isinstance(part, str) else part.text() for part in self.content]
        return front + "".join(f"\n{part}\n" for part in parts)

    def with_block(self, block: Block) -> Card:
        """Return the card with `block` in the place of those that are about the same parts, else at the end."""
        content: list[str | Block] = []
        for part in self.content:
            if isinstance(part, Block) and (part.parts & block.parts or part.parts == block.parts):
                part = block
            if not (part is block and block in content):
                content.append(part)
        return Card(self.metadata, tuple(content if block in content else [*content, block]))


def as_code(value: object) -> str:
    """Return a value as one line of inline code that Markdown, HTML and templates leave alone."""
    text = " ".join(printable(str(value)).split())
    if not text:
        return "(empty)"
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    space = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


def as_block(text: str) -> str:
    """Return a text as an indented block: no line of it can end the block, whatever the text holds."""
    lines = printable(text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    return "\n".join(f"    {line}".rstrip() for line in lines)


def as_wrapped(text: str) -> str:
    """Return a text as an indented block whose lines a page need not be scrolled for."""
    lines = printable(text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    return as_block("\n".join(part for line in lines for part in _wrapped(line)))


def _wrapped(line: str) -> list[str]:
    """Return the pieces of a line, as deep as its beginning; letters that take two columns count as two."""
    if not line.strip():
        return [""]
    deep = line[: min(len(line) - len(line.lstrip()), _WIDTH // 4)]
    columns = sum(2 if east_asian_width(letter) in "WF" else 1 for letter in line)
    return wrap(line, _WIDTH * len(line) // columns, subsequent_indent=deep)


def as_text(value: object) -> str:
    """Return a value as one line of plain text: whatever Markdown and HTML would read in it is escaped."""
    text = " ".join(printable(str(value)).split())
    return _MARKUP.sub(r"\\\g<0>", text) or "(empty)"


def shortened(text: str) -> str:
    """Return a text, or its beginning and end where it is long."""
    if len(text) <= _HEAD + _TAIL:
        return text
    head, tail = text[:_HEAD].rstrip(), text[-_TAIL:].lstrip()
    return f"{head}\n[… {len(text) - len(head) - len(tail):,} characters …]\n{tail}"


def as_number(value: float) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,}"


def as_size(value: int) -> str:
    """Return a number of bytes with its unit."""
    size = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def as_score(interval: Mapping[str, float | None]) -> str:
    """Return a mean between 0 and 1 as a score of 100, with its interval where it has one; a dash for no mean."""
    mean, low, high = (interval[name] for name in ("mean", "low", "high"))
    if mean is None:
        return "\u2013"
    return (
        f"{100 * mean:.1f}"
        if low is None or high is None
        else f"{100 * mean:.1f} ({100 * low:.1f}\u2013{100 * high:.1f})"
    )


def as_mean(interval: Mapping[str, float | None]) -> str:
    """Return a mean as it is, with its interval where it has one; a dash for no mean."""
    mean, low, high = (interval[name] for name in ("mean", "low", "high"))
    if mean is None:
        return "\u2013"
    return f"{mean:.1f}" if low is None or high is None else f"{mean:.1f} ({low:.1f}\u2013{high:.1f})"


def as_share(value: float | None) -> str:
    """Return a share as a percentage; a dash where there is none."""
    return "\u2013" if value is None else f"{value:.0%}"


def as_pairs(values: Mapping[str, Any]) -> str:
    """Return nested values as one line of code spans."""
    return ", ".join(f"{as_code(name)} {as_code(value)}" for name, value in _flat(values))


def as_rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested values as rows of a table: a dotted name and its value."""
    return [(as_code(name), as_code(value)) for name, value in _flat(values)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested mappings as (dotted name, value), without what is None."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        elif value is not None:
            found.append((f"{prefix}{name}", value))
    return found


def is_web(link: str) -> bool:
    """Say whether a link leads to the web, and to nothing that runs."""
    return _WEB.fullmatch(link) is not None


def printable(text: str) -> str:
    """Replace what is invisible or turns the direction of writing."""
    return _UNPRINTABLE.sub("\ufffd", text)


def front_matter(readme: str) -> tuple[dict[str, Any], str]:
    """Return the values of a README's front matter, and what comes after it as it is.

    As on the Hub it lies between two lines of dashes; without the second there is none. Raise OutputError where it
    cannot be read.
    """
    front = _FRONT.match(readme)
    if front is None:
        return {}, readme
    try:
        found = yaml.safe_load(front.group(1))
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise OutputError(f"The front matter of README.md is no valid YAML: {reason}.", hint="Repair it.") from error
    if not isinstance(found or {}, dict):
        raise OutputError("The front matter of README.md must be a mapping.", hint="Repair it, or remove it.")
    return found or {}, readme[front.end() :]


def _content(body: str) -> Iterator[str | Block]:
    position = 0
    for begin in _BEGIN.finditer(body):
        if begin.start() < position:
            continue
        yield from _words(body[position : begin.start()])
        end = re.compile(rf"^{re.escape(_END)}$", re.MULTILINE).search(body, begin.end())
        if end is None:
            raise OutputError(f"README.md has a begin mark of hfsynth without {_END}.", hint="Remove that mark.")
        yield Block(_known(begin.group(1)), body[begin.end() : end.start()].replace(_NOTICE, "", 1).strip())
        position = end.end()
    yield from _words(body[position:])


def _words(text: str) -> Iterator[str]:
    if text.strip():
        yield text.strip("\n")


def _known(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise OutputError("A begin mark of hfsynth in README.md is damaged.", hint="Remove that block.") from error


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, as the Hub's own cards do not, and writes no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Quote what holds one of YAML's rarer line breaks, which would be written as they are and read as spaces."""
        rare = any(character in data for character in "\x85\u2028\u2029")
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if rare else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def as_yaml(values: Mapping[str, Any]) -> str:
    """Return metadata as the card writes it."""
    return _yaml(values)


def united(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """Return both lists as one, in order, without repeats."""
    return list(dict.fromkeys([*first, *second]))


def configured_readme(readme: str, configs: Mapping[str, Mapping[str, str]]) -> str:
    """Return `readme` with `configs` (config, split, pattern) in its front matter, everything else as it was.

    What the front matter says about other files (`dataset_info`) no longer holds and is dropped.
    """
    front, body = front_matter(readme)
    entries: list[dict[str, Any]] = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
        for name, splits in configs.items()
    ]
    if len(entries) > 1:
        entries[0]["default"] = True
    kept = {name: value for name, value in front.items() if name != "dataset_info"}
    values = {"tags": ["synthetic", "hfsynth"], **kept, "configs": entries}
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n{body}"


def describe_configs(corpus: CorpusAt[Any]) -> None:
    """Tell `load_dataset` where the configs lie, and leave the rest of the README as it is."""
    configs: dict[str, dict[str, str]] = {}
    for config, folder in (("default", corpus.data), ("pairs", corpus.pairs), ("rewritten", corpus.rewritten)):
        splits = sorted({path.name.partition("-")[0] for path in folder.glob("*.parquet")}, key=split_order)
        if splits:
            configs[config] = {split: f"{folder.name}/{split}-*.parquet" for split in splits}
    readme = corpus.readme.read_text("utf-8", "replace") if corpus.readme.exists() else ""
    write_text(corpus.readme, configured_readme(readme, configs))
