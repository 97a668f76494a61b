"""Run the code blocks of pages as a reader would, in this process; print what failed, by page, as JSON.

python tests/scripts_pages.py FOLDER TOKENIZER

Models are replaced by the scripted engine, and `MODEL` by a tokenizer. A block of TOML is written to the file that its
first line names. Every page has a folder of its own, in which the
examples are and a corpus has been made; the README's blocks, each of which can be read alone, have one each.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import runpy
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from pages import ROOT, RUN, Block, blocks, pages

from hfsynth.cli import app

MAKES_ITS_CORPUS = ("docs/index.md", "docs/ten-minutes.md")

_SYNTHESIZER = re.compile(r'Synthesizer\("(embedded|instruction-pretrain/instruction-synthesizer)"')
_MODELS = ("embedded", "instruction-pretrain/instruction-synthesizer")
_PROMPTED = "Qwen/Qwen3-8B"  # of pages with prompt recipes; replaced by a script that answers them


def main() -> None:
    scratch, tokenizer = Path(sys.argv[1]), sys.argv[2]
    made = scratch / "made"
    _prepare(made, None)
    os.chdir(made)
    for command in ("synthesize examples/corpus.jsonl corpus/ --model embedded --shots 2", "render corpus/ --seed 0"):
        hfsynth(command.split(), tokenizer)
    readme = [[block] for block in blocks(ROOT / "README.md")]
    outcomes = {}
    for number, page in enumerate([*readme, *map(blocks, pages())]):
        if not page:
            continue
        folder = scratch / f"page{number}"
        _prepare(folder, None if number < len(readme) or page[0].page in MAKES_ITS_CORPUS else made / "corpus")
        os.chdir(folder)
        name = f"{page[0].page}:{page[0].line}" if number < len(readme) else page[0].page
        outcomes[name] = run(page, tokenizer)
    outcomes["docs/pictures/draw.py"] = _drawn(scratch / "pictures")
    sys.stdout.write(json.dumps(outcomes) + "\n")


def run(page: list[Block], tokenizer: str) -> str | None:
    """Run the blocks of a page one after the other, with one set of names; return how one failed."""
    names: dict[str, Any] = {"__name__": "__main__"}
    told = io.StringIO()
    for block in page:
        if block.not_run is None and block.language in RUN:
            try:
                with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
                    _run(block, names, tokenizer)
            except BaseException:  # whatever a block does, the other pages are run
                return f"{block.page}:{block.line}\n{told.getvalue()[-3000:]}\n{traceback.format_exc()}"
    return None


def _run(block: Block, names: dict[str, Any], tokenizer: str) -> None:
    if block.language == "python":
        code = _SYNTHESIZER.sub('Synthesizer("scripted", engine="scripted"', block.code)
        code = code.replace(f'Synthesizer("{_PROMPTED}"', 'Synthesizer("scripts:prompted", engine="scripted"')
        exec(compile(code.replace('"MODEL"', repr(tokenizer)), f"{block.page}:{block.line}", "exec"), names)
    elif block.language == "pycon":
        test = doctest.DocTestParser().get_doctest(block.code, names, block.page, block.page, block.line)
        failed = doctest.DocTestRunner(verbose=False).run(test, clear_globs=False).failed
        assert not failed, "another result than the page shows"
    elif block.language == "toml":
        Path(block.code.partition("\n")[0].removeprefix("# ")).write_text(block.code, "utf-8")
    for call in block.calls:
        hfsynth(call, tokenizer)


def hfsynth(arguments: list[str], tokenizer: str) -> None:
    """Run a command; raise what it says where its exit code is not 0."""
    replaced = {"MODEL": tokenizer, _PROMPTED: "scripts:prompted"}
    words = [replaced.get(word, word) for word in arguments]
    named = next((at for at, word in enumerate(words) if word == "--model" and words[at + 1] in _MODELS), None)
    if named is not None:
        words[named + 1] = "scripted"
    if words[0] == "synthesize":
        words += [] if "--model" in words else ["--model", "scripted"]
        words += ["--engine", "scripted", *([] if "--workers" in words else ["--workers", "0"])]
    elif "scripts:prompted" in words:
        words += ["--engine", "scripted"]
    sys.argv = ["hfsynth", *words]
    try:
        app.main()
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"hfsynth {' '.join(words)}: exit code {end.code}") from end


def _drawn(folder: Path) -> str | None:
    """Draw the pictures of the pages into a folder; return how it failed."""
    folder.mkdir()
    sys.argv = ["draw.py", str(folder)]
    try:
        runpy.run_path(str(ROOT / "docs" / "pictures" / "draw.py"), run_name="__main__")
    except Exception:
        return traceback.format_exc()
    return None


def _prepare(folder: Path, corpus: Path | None) -> None:
    folder.mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    lines = ({"question": f"What is {n} and {n}?", "response": f"{n + n}, of course."} for n in range(2000))
    (folder / "instructions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    if corpus is not None:
        shutil.copytree(corpus, folder / "corpus")


if __name__ == "__main__":
    main()
