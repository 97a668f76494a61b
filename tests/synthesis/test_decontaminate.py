"""Benchmarks in a recipe: what is kept out of a job, what is recorded, and what going on with it asks for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from loopback_hub.server import Hub

import hfsynth
from hfsynth.cli import app
from hfsynth.core.benchmarks import BenchmarkSource
from hfsynth.core.conditions import Condition
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.decontamination import Decontamination
from hfsynth.core.errors import ConfigError, SourceError
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.records import Document, Pair, Parsed, Reason, Status
from hfsynth.documents.benchmarks import benchmark_sources
from hfsynth.documents.source import Source
from hfsynth.engine.protocol import Generation
from hfsynth.engine.scripted import CharacterTokenizer, ScriptedEngine
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.prompting.parsing import render_pairs
from hfsynth.quality import decontamination
from hfsynth.quality.decontamination import as_begun, open_index, settled_decontamination
from hfsynth.quality.measures import keep_pairs
from hfsynth.synthesis.chains import Chainer
from hfsynth.synthesis.synthesizer import Synthesizer

BAKER = "How many loaves does a baker sell in a week who bakes forty every day and keeps three of them for himself?"
LAMP = "Why did the keeper of the northern lamp row across the bay in the winter of the great storm, and who saw him?"
CLEAN = Pair("What is it?", "It is a lamp.")
ASKED: list[str] = []


def script(prompt: str) -> str:
    """Ask something of one's own, and where the document says so the baker's question."""
    ASKED.append(prompt)
    pairs = [CLEAN, Pair(BAKER.lower(), "259")] if "quote" in prompt.rpartition("<CON>")[2] else [CLEAN]
    return render_pairs(pairs)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HFSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("hfsynth.quality.decontamination._kept", {})
    ASKED.clear()


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return written(tmp_path / "suite.jsonl", {"question": BAKER}, {"question": LAMP})


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def texts() -> list[str]:
    return [
        f"Text {n} is about a lamp.{' quote' if n == 1 else ''}{f' Quiz: {LAMP}' if n == 4 else ''}" for n in range(6)
    ]


def source(folder: Path) -> Path:
    return written(folder / "docs.jsonl", *({"id": f"d{n}", "text": text} for n, text in enumerate(texts())))


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_a_recipe_names_benchmarks_in_many_forms(suite: Path) -> None:
    named = SynthesizerConfig("m", decontaminate=str(suite))  # type: ignore[arg-type]
    assert named == SynthesizerConfig("m", decontaminate=[str(suite)])  # type: ignore[arg-type]
    assert named.keep == ("contamination<0.5",)
    assert SynthesizerConfig("m", keep=("contamination<=0",), decontaminate=named.decontaminate).keep == (
        "contamination<=0",
    )
    settled = SynthesizerConfig("m", decontaminate=settled_decontamination(Decontamination.read(str(suite))))
    assert SynthesizerConfig.from_dict(json.loads(json.dumps(settled.to_dict()))) == settled
    assert "decontaminate" not in SynthesizerConfig("m").to_dict()
    elsewhere = SynthesizerConfig("m", decontaminate=Decontamination(("x",), settled.decontaminate.sha256))
    assert elsewhere.fingerprint == settled.fingerprint != SynthesizerConfig("m").fingerprint
    assert hash(settled) != hash(named)


@pytest.mark.parametrize(
    "wrong",
    [3, [""], [3], {"sources": []}, {"sources": ["x"], "sha256": "short"}, {"sources": ["x"], "more": 1}, {}]
    + [{"sources": ["x"], "benchmarks": wrong} for wrong in (3, [{}], [{"name": 3}], [{"name": "n", "rows": -1}])],
)
def test_what_names_no_benchmarks_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError):
        SynthesizerConfig.from_dict({"model": "m", "decontaminate": wrong})


def test_a_condition_needs_benchmarks() -> None:
    with pytest.raises(ConfigError, match="contamination<0.5 asks for benchmarks, and none are named") as caught:
        SynthesizerConfig("m", keep=("contamination<0.5",))
    assert "--decontaminate core" in caught.value.hint


def test_names_of_benchmarks() -> None:
    assert BenchmarkSource.named("cais/mmlu") == BenchmarkSource("cais/mmlu")
    assert BenchmarkSource.named("cais/mmlu:all:test@abc") == BenchmarkSource("cais/mmlu", "all", "test", "abc")
    assert BenchmarkSource.named("a/b::test") == BenchmarkSource("a/b", None, "test")
    source = BenchmarkSource.from_dict({"name": "a/b", "answers": ["x", "y"], "question": "q", "gated": True})
    assert BenchmarkSource.from_dict(source.to_dict()) == source
    with pytest.raises(ConfigError, match="'columns' is no setting of a benchmark"):
        BenchmarkSource.from_dict({"name": "a/b", "columns": {}})


def test_core_is_a_list_of_datasets_on_the_hub() -> None:
    core = benchmark_sources("core")
    assert len({(one.name, one.config) for one in core}) == len(core) >= 20
    for one in core:
        assert BenchmarkSource.named(one.name) == BenchmarkSource(one.name), one
        assert one.split and one.columns.question, one
        assert one.revision is None or one.is_pinned, one


# --- pairs and documents ----------------------------------------------------------------------------------------------


def test_pairs_that_quote_a_benchmark_are_rejected(suite: Path) -> None:
    index, keep = open_index(str(suite)), (Condition.parse("contamination<0.5"),)
    bad = Pair(BAKER.upper(), "259")
    kept = keep_pairs(Parsed((CLEAN, bad), ()), "A text.", keep, index)
    assert kept.pairs == (CLEAN,)
    assert [(one.reason, json.loads(one.text)["instruction"]) for one in kept.rejected] == [
        (Reason.CONTAMINATED, bad.instruction)
    ]
    with pytest.raises(ConfigError, match="there is no index"):
        keep_pairs(Parsed((CLEAN,), ()), "A text.", keep)


def test_no_model_is_asked_about_a_screened_document_and_no_shot_shows_it(suite: Path) -> None:
    chainer = Chainer(
        InstructionPretrain(CharacterTokenizer()),
        65_536,
        400,
        shots=3,
        keep=(Condition.parse("contamination<0.5"),),
        index=open_index(str(suite)),
    )
    chains = chainer.chains(Document(str(n), text) for n, text in enumerate(texts()))
    found = [one for chain in ScriptedEngine(script, 65_536).run(chains, Generation()) for one in chain]
    assert [one.synthesis.status for one in found] == [Status.OK] * 4 + [Status.SCREENED, Status.OK]
    (held,) = found[4].synthesis.rejected
    assert (held.reason, held.text) == (Reason.CONTAMINATED, "contamination 1, question of row 1 of suite.jsonl")
    assert [one.synthesis.follows for one in found] == [False, True, True, False, False, False]
    assert not any("Quiz" in prompt for prompt in ASKED) and len(ASKED) == 5
    assert found[1].pairs == (CLEAN,) and BAKER.lower() not in ASKED[2]


@pytest.mark.parametrize("model", ["mined", "test_decontaminate:script"])
def test_map_keeps_benchmarks_out(suite: Path, model: str) -> None:
    made = Synthesizer(model, decontaminate=[str(suite)], engine="scripted", fill=None if model == "mined" else "mined")
    mapped = Dataset.from_dict({"text": texts()}).map(made, batched=True)
    assert mapped[4]["synthesis"]["status"] == "screened" and mapped[4]["pairs"] == []
    assert [one["status"] for one in mapped["synthesis"]].count("screened") == 1
    assert made.config.decontaminate and made.config.decontaminate.sha256


def test_exemplars_that_a_benchmark_holds_are_not_chosen(tmp_path: Path, suite: Path) -> None:
    rows = [
        {"context": f"A lamp, number {n}.", "pairs": [{"instruction": asked, "response": "So."}]}
        for n, asked in enumerate(["What is the lamp for?", BAKER, "Who lit the lamp?"])
    ]
    exemplars = Exemplars(str(written(tmp_path / "exemplars.jsonl", *rows)), sets=8)
    made = Synthesizer("scripted", exemplars=exemplars, decontaminate=str(suite), engine="scripted")
    chosen = made.config.exemplars
    assert chosen and sorted(one.context for one in chosen.chosen) == ["A lamp, number 0.", "A lamp, number 2."]
    pinned = Synthesizer("scripted", exemplars=exemplars, engine="scripted").config.exemplars
    with pytest.raises(ConfigError):
        Synthesizer("scripted", exemplars=pinned, decontaminate=str(suite), engine="scripted")


# --- jobs -------------------------------------------------------------------------------------------------------------


def called(*words: object) -> int:
    argv, sys.argv = sys.argv, ["hfsynth", *map(str, words)]
    try:
        app.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = argv
    return 0


def command(folder: Path, out: str, *more: object, workers: int = 0) -> list[object]:
    made = ["synthesize", source(folder), folder / out, "--engine", "scripted", "--model", "test_decontaminate:script"]
    return [*made, "--workers", workers, "--quiet", "--shots", 2, *more]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_job_says_everywhere_what_it_looked_for(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    out = tmp_path / "out"
    assert called(*command(tmp_path, "out", "--decontaminate", suite, workers=workers)) == 0
    stats, recipe = (json.loads((out / name).read_text()) for name in ("stats.json", "synthesizer_config.json"))
    assert stats["documents"]["screened"] == 1 and stats["documents"]["ok"] == 5
    assert stats["rejected"] == {"contaminated": 2}
    told = stats["decontamination"]
    assert (told["documents_out"], told["pairs_out"]) == (1, 1)
    identity = hfsynth.open_index(str(suite)).sha256
    assert told["sha256"] == recipe["decontaminate"]["sha256"] == identity
    (record,) = recipe["decontaminate"]["benchmarks"]
    assert (record["name"], record["rows"], len(record["revision"])) == ("suite.jsonl", 2, 32)
    assert recipe["decontaminate"]["sources"] == ["suite.jsonl"] and recipe["keep"] == ["contamination<0.5"]
    assert str(tmp_path) not in (out / "synthesizer_config.json").read_text()
    shown = capsys.readouterr().out
    assert f"2 questions of suite.jsonl (index sha256 {identity[:12]}): 1 documents and 1 pairs were kept out" in shown
    texts = list(hfsynth.render_rows(pq.read_table(out / "pairs").to_pylist(), seed=0))
    assert [text["source_ids"] for text in texts] == [["d0", "d1"], ["d2", "d3"], ["d5"]]
    assert not any("Quiz" in text["text"] or BAKER.lower() in text["text"] for text in texts)
    rows = pq.read_table(out / "pairs").to_pylist()
    assert [row["synthesis"]["status"] for row in rows].index("screened") == 4
    assert json.loads(rows[1]["synthesis"]["rejected"][0]["text"])["instruction"] == BAKER.lower()
    assert called("card", out, "--license", "cc0-1.0") == 0
    card = (out / "README.md").read_text()
    assert identity in card and "1 documents (`screened`" in card and "`suite.jsonl`" in card


def test_a_job_goes_on_with_the_same_benchmarks_alone(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = command(tmp_path, "out", "--decontaminate", suite)
    assert called(*asked) == 0
    assert called(*asked) == 0
    assert "finished before" in capsys.readouterr().out
    assert called(*command(tmp_path, "out")) == 1
    assert "benchmarks are looked for there alone" in capsys.readouterr().err
    written(suite, {"question": BAKER}, {"question": f"{LAMP} Nobody?"})
    assert called(*asked) == 1
    assert "synthesizer.decontaminate.sha256 is" in capsys.readouterr().err


def test_the_folder_keeps_the_index_for_other_machines(tmp_path: Path, suite: Path) -> None:
    assert called(*command(tmp_path, "out", "--decontaminate", suite)) == 0
    kept = tmp_path / "out" / ".hfsynth" / "benchmarks.npz"
    plan = json.loads((tmp_path / "out" / ".hfsynth" / "job.json").read_text())
    suite.unlink()
    for path in (tmp_path / "cache" / "benchmarks").iterdir():
        path.unlink()
    program = (
        "import sys; from pathlib import Path; from hfsynth.core.decontamination import Decontamination;"
        "from hfsynth.quality.decontamination import open_index;"
        "print(open_index(Decontamination(('gone',), sys.argv[1]), near=Path(sys.argv[2])).sha256)"
    )
    identity = plan["synthesizer"]["decontaminate"]["sha256"]
    ran = subprocess.run(
        [sys.executable, "-c", program, identity, str(kept)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == identity


def test_a_job_is_joined_where_its_benchmarks_are_not(tmp_path: Path, suite: Path) -> None:
    lamp = {"context": "A lamp.", "pairs": [{"instruction": "What is the lamp for?", "response": "So."}]}
    config = SynthesizerConfig(
        "test_decontaminate:script",
        decontaminate=Decontamination((str(suite),)),
        exemplars=Exemplars(str(written(tmp_path / "exemplars.jsonl", lamp))),
    )
    scripted = EngineConfig("scripted")
    hfsynth.describe_job(Source(str(source(tmp_path))), tmp_path / "out", config, engine=scripted)
    suite.unlink()
    for path in (tmp_path / "cache" / "benchmarks").iterdir():
        path.unlink()
    decontamination._kept.clear()
    done = hfsynth.work(tmp_path / "out", model="test_decontaminate:script")
    assert done.finished and done.stats["decontamination"]["documents_out"] == 1


def test_bad_benchmarks_are_refused_before_anything_is_written(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "list.toml").write_text("[[suite]]\nname = 'a/b'\n")
    (tmp_path / "broken.toml").write_text("[[")
    open_index(str(suite)).save(tmp_path / "own.npz")
    for names, told in (
        (["none.jsonl"], "No such file or folder"),
        ([tmp_path / "empty.jsonl"], "holds no"),
        ([tmp_path / "list.toml"], "is no list of benchmarks: it holds suite"),
        ([tmp_path / "broken.toml"], "cannot be read"),
        ([source(tmp_path)], "has the columns id, text; a benchmark needs one of questions"),
        ([tmp_path / "own.npz", suite], "is an index of its own"),
    ):
        options = [word for name in names for word in ("--decontaminate", name)]
        assert called(*command(tmp_path, "bad", *options)) == 2
        assert told in capsys.readouterr().err
        assert not (tmp_path / "bad").exists()
    assert called(*command(tmp_path, "good", "--decontaminate", tmp_path / "own.npz")) == 0


def test_an_index_is_kept_and_built_again_where_it_is_damaged(suite: Path, tmp_path: Path) -> None:
    first = open_index(str(suite))
    (kept,) = (tmp_path / "cache" / "benchmarks").iterdir()
    content = kept.read_bytes()
    kept.write_bytes(b"damaged")
    decontamination._kept.clear()
    assert open_index(str(suite)).sha256 == first.sha256
    assert kept.read_bytes() == content
    with pytest.raises(ConfigError, match="benchmarks cannot be had any more"):
        open_index(Decontamination((str(suite),), "0" * 64))


# --- the Hub, each client in a process of its own ---------------------------------------------------------------------

CLIENT = """
    import json, sys
    from hfsynth.core.errors import HfsynthError
    from hfsynth.core.decontamination import Decontamination
    from hfsynth.quality.decontamination import open_index
    from hfsynth.synthesis.synthesizer import Synthesizer

    def told(name):
        try:
            made = Synthesizer("scripted", decontaminate=name, engine="scripted").config.decontaminate
            return made.to_dict()
        except HfsynthError as error:
            return str(error)

    print(json.dumps([told(name) for name in json.loads(sys.stdin.read())]))
"""


def asked(hub: Hub, env: dict[str, str], *names: str | list[str]) -> list[Any]:
    import textwrap

    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CLIENT)],
        input=json.dumps(names),
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_benchmarks_on_the_hub_are_read_at_a_commit(tmp_path: Path) -> None:
    with Hub() as hub:
        env = {**hub.env(tmp_path), "HFSYNTH_CACHE": str(tmp_path / "cache")}
        old = hub.commit(
            "user/suite", {"test.jsonl": lines({"problem": BAKER}), "train.jsonl": lines({"problem": "x"})}
        ).id
        new = hub.commit("user/suite", {"test.jsonl": lines({"problem": LAMP})}).id
        hub.commit("user/plain", {"train.jsonl": lines({"text": BAKER})})
        listed = f"""
            [[benchmark]]
            name = "user/suite"
            split = "test"
            revision = "{old}"
            question = "problem"

            [[benchmark]]
            name = "user/private"
            gated = true
        """
        (tmp_path / "list.toml").write_text(listed)
        names = ["user/suite", f"user/suite::test@{old}", "user/suite@gone", "user/plain", "user/suite::dev"]
        now, pinned, gone, plain, split, many = asked(hub, env, *names, str(tmp_path / "list.toml"))
        assert (now["benchmarks"][0]["revision"], now["benchmarks"][0]["split"]) == (new, "test")
        assert (pinned["benchmarks"][0]["revision"], pinned["benchmarks"][0]["rows"]) == (old, 1)
        assert now["sha256"] != pinned["sha256"]
        assert "user/suite" in gone and "gone" in gone and "--revision" in gone
        assert "user/plain has the columns text; a benchmark needs one of questions" in plain
        assert "has no split 'dev'" in split
        assert many["not_read"] == ["user/private"] and many["benchmarks"][0]["question"] == "problem"
        asked_before = len(hub.requests)
        offline = {**env, "HF_HUB_OFFLINE": "1"}
        assert asked(hub, offline, f"user/suite::test@{old}") == [pinned]
        assert len(hub.requests) == asked_before
        recipe = {"model": "scripted", "decontaminate": pinned}
        hub.commit("user/corpus", {"synthesizer_config.json": json.dumps(recipe).encode()})
        local = {"sources": ["suite.jsonl"], "benchmarks": [{"name": "suite.jsonl", "revision": "ab"}]}
        hub.commit("user/local", {"synthesizer_config.json": json.dumps({**recipe, "decontaminate": local}).encode()})
        program = (
            "from hfsynth.synthesis.synthesizer import Synthesizer\n"
            "from hfsynth.core.records import Document\n"
            "from hfsynth.core.errors import ConfigError\n"
            "made = Synthesizer.from_hub('user/corpus', engine='scripted')\n"
            f"print(made.synthesize([Document('a', {'Quiz: ' + BAKER!r})])[0].synthesis.status)\n"
            "try: Synthesizer.from_hub('user/local', engine='scripted')\n"
            "except ConfigError as error: print(error.message)\n"
        )
        shown = hub.run([sys.executable, "-c", program], {**env, "HFSYNTH_CACHE": str(tmp_path / "other")}).stdout
        assert shown.splitlines()[0] == "screened"
        assert "looks for benchmarks in files of somebody's machine: ['suite.jsonl']" in shown


def test_a_job_goes_on_at_the_commit_that_it_was_begun_with() -> None:
    record = {"name": "a/b", "split": "test", "revision": "1" * 40, "rows": 1}
    begun = {"sources": ["a/b"], "sha256": "2" * 64, "benchmarks": [record]}
    again = as_begun(Decontamination(("a/b",)), begun)
    assert again == Decontamination.read(begun)
    other = Decontamination(("a/c",))
    assert as_begun(other, begun) == other and as_begun(other, None) == other
    mixed = {**begun, "sources": ["a/b", "x.jsonl"], "benchmarks": [record, {"name": "x.jsonl", "revision": "3" * 32}]}
    again = as_begun(Decontamination(("a/b", "x.jsonl")), mixed)
    assert again.sha256 is None
    known = [one.source for one in again.benchmarks]
    assert BenchmarkSource("a/b").pinned_by(known).revision == "1" * 40
    assert BenchmarkSource("a/b", split="dev").pinned_by(known).revision is None


def test_an_index_that_is_not_there_says_so() -> None:
    with pytest.raises(SourceError, match="There is no index at none.npz"):
        open_index("none.npz")
