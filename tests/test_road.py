"""From `ds.map` to the Hub and back, through real clients in fresh processes against the loopback Hub."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_hub.faults import Fault
from loopback_hub.server import READ_TOKEN, Hub

TESTS = Path(__file__).parent
README = (TESTS.parent / "README.md").read_text("utf-8")
RAW = {"train": range(7), "validation": range(7, 10)}
LINES = """
from datasets import load_dataset
import hfsynth
ds = load_dataset("me/raw")
synthesize = hfsynth.Synthesizer("scripts:moody", engine="scripted", shots=2)
ds = ds.map(synthesize, batched=True, batch_size=2048)
texts = hfsynth.render(ds, seed=0)
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        moods = ("", " silent", " ramble", " fail", " cut")
        files = {
            f"{split}.jsonl": "".join(
                json.dumps({"id": f"d{n}", "text": f"Text {n} says little{moods[n % 5]}."}) + "\n" for n in numbers
            ).encode()
            for split, numbers in RAW.items()
        }
        running.commit("me/raw", {"README.md": b"---\nlicense: cc-by-4.0\nlanguage: en\n---\n", **files})
        yield running


def client(hub: Hub, folder: Path, code: str, *, token: str = Hub.token, env: dict[str, str] | None = None) -> Any:  # noqa: ANN401
    """Run code that fills `out` in a fresh process in `folder`, and return `out`."""
    found = {**(env or hub.env(folder, token=token)), "PYTHONPATH": f"{TESTS}:{':'.join(sys.path)}"}
    program = f"import json, os\nos.chdir({str(folder)!r})\nout = {{}}\n{code}\nprint(json.dumps(out))"
    return json.loads(hub.run(program, found).stdout.splitlines()[-1])


@pytest.mark.long
def test_the_ten_lines_of_the_readme_run(hub: Hub, tmp_path: Path) -> None:
    block = re.findall(r"^```python\n(.*?)^```$", README, flags=re.M | re.S)[0]
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    model = '"instruction-pretrain/instruction-synthesizer"'
    assert model in block
    hub.commit("user/raw", {name: content for name, content in hub.files("me/raw").items() if name != "README.md"})
    counted = 'out = {"train": len(train), "pairs": load_dataset("user/raw-instruct", "pairs").num_rows}'
    out = client(hub, tmp_path, block.replace(model, '"scripted", engine="scripted"') + counted)
    assert out == {"train": 4, "pairs": {"train": 7, "validation": 3}}


def test_the_rows_go_to_the_hub_and_back(hub: Hub, tmp_path: Path) -> None:
    read = """
rows = lambda data: {name: list(part) for name, part in data.items()}
out["texts"], out["pairs"] = rows(texts), rows(ds)
corpus = hfsynth.save_corpus("corpus/", pairs=ds, texts=texts, synthesizer=synthesize)
result = hfsynth.push(corpus, "user/made", license="cc-by-4.0", language="en", tag="v1", message="Ours")
out["pushed"] = [result.changed, hfsynth.push("corpus/", "user/made", tag="v1").changed]
out["read texts"] = [rows(load_dataset("user/made", **more)) for more in ({}, {"streaming": True}, {"revision": "v1"})]
out["read pairs"] = [rows(load_dataset("user/made", "pairs", **more)) for more in ({}, {"streaming": True})]
again = hfsynth.Synthesizer.from_hub("user/made", engine="scripted", model="scripts:moody")
out["recipe"] = again.config == synthesize.config
"""
    env = hub.env(tmp_path)
    out = client(hub, tmp_path, LINES + read, env=env)
    assert {name: len(rows) for name, rows in out["pairs"].items()} == {"train": 7, "validation": 3}
    assert out["read texts"] == [out["texts"]] * 3 and out["read pairs"] == [out["pairs"]] * 2
    assert out["pushed"] == [True, False] and out["recipe"]
    assert hub.commits("user/made") == 1 and hub.repo("user/made").resolve("v1").title == "Ours"
    source = json.loads(hub.files("user/made")["synthesizer_config.json"])["source"]
    assert (source["location"], source["revision"]) == ("me/raw", hub.head("me/raw"))
    job = [sys.executable, "-m", "hfsynth", "synthesize", "me/raw", str(tmp_path / "job"), "--recipe", "user/made"]
    options = ["--engine", "scripted", "--model", "scripts:moody", "--workers", "0", "--quiet"]
    hub.run([*job, *options], {**env, "PYTHONPATH": f"{TESTS}:{':'.join(sys.path)}"})
    (part,) = (tmp_path / "job" / "pairs").iterdir()
    assert part.read_bytes() == hub.files("user/made")["pairs/train-00000-of-00001.parquet"]


def test_the_commands_keep_the_splits_from_the_hub_to_the_hub(hub: Hub, tmp_path: Path, tiny_llama: Path) -> None:
    general = ({"question": f"What is {n}?", "response": f"It is {n}."} for n in range(40))
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in general))
    commands = f"""
import contextlib, importlib.util, io, sys
from datasets import load_dataset
from hfsynth.cli import app as cli
def run(*arguments):
    sys.argv, told = ["hfsynth", *arguments], io.StringIO()
    with contextlib.redirect_stdout(told):
        try:
            cli.main()
        except SystemExit as end:
            assert not end.code, arguments
    return told.getvalue()
counted = ["--tokenizer", {str(tiny_llama)!r}]
facts = ["--license", "cc-by-4.0", "--language", "en"]
engine = ["--engine", "scripted", "--model", "scripts:moody", "--shots", "2", "--workers", "0", "--quiet"]
run("synthesize", "me/raw", "made", "--split", "train", "--split", "validation", *engine)
run("render", "made", *counted)
run("mix", "mixed", "--augmented", "made", "--general", "general.jsonl", "--preset", "domain-adaptive", *counted)
out["exported"] = json.loads(run("export", "mixed", "text", "--to", "text", "--json", *counted))
if all(importlib.util.find_spec(name) for name in ("rensa", "py3langid")):
    out["evaluated"] = json.loads(run("evaluate", "made", "--json"))["splits"]
out["info"] = [run("info", "made"), run("info", "mixed")]
for name in ("made", "mixed"):
    run("card", name, *facts, "--repo", f"user/{{name}}")
    run("card", name, "--check")
    run("push", name, f"user/{{name}}", *facts, "--quiet")
rows = lambda *name: {{split: list(part["text"]) for split, part in load_dataset(*name).items()}}
out["read"] = [rows("user/made"), rows("user/made", "pairs"), rows("user/mixed")]
out["local"] = [rows("made"), rows("made", "pairs"), rows("mixed")]
"""
    out = client(hub, tmp_path, commands)
    made, pairs, mixed = out["read"]
    assert out["read"] == out["local"]
    assert {split: len(texts) for split, texts in pairs.items()} == {"train": 7, "validation": 3}
    assert all(any(text in whole for whole in made[split]) for split, texts in pairs.items() for text in texts)
    assert mixed["validation"] and sorted(mixed["validation"]) == sorted(made["validation"])
    assert not set(mixed["train"]) & set(mixed["validation"])
    assert {split: one["documents"] for split, one in out["exported"]["splits"].items()} == {
        split: len(texts) for split, texts in mixed.items()
    }
    assert out.get("evaluated", {"train": 7, "validation": 3}) == {"train": 7, "validation": 3}
    assert "Pairs of   train 7, validation 3\n" in out["info"][0]
    assert f"Texts of   train {len(made['train'])}, validation {len(made['validation'])}\n" in out["info"][0]
    assert "Part       general (general): " in out["info"][1]
    assert "| `validation` | `augmented` |" in hub.files("user/mixed")["README.md"].decode()


def test_datasets_are_pushed_without_a_folder(hub: Hub, tmp_path: Path) -> None:
    pushed = """
hfsynth.save_corpus("corpus/", pairs=ds, texts=texts, synthesizer=synthesize)
hfsynth.push("corpus/", "user/folder", license="cc-by-4.0")
hfsynth.push(ds, "user/direct", texts=texts, synthesizer=synthesize, license="cc-by-4.0", private=True)
hfsynth.push(repo="user/direct", pairs=ds, texts=texts, synthesizer=synthesize, create_pr=True, title="A title")
def refused(*args, **more):
    try:
        hfsynth.push(*args, **more)
    except hfsynth.HfsynthError as error:
        return [type(error).__name__, str(error)]
out["refused"] = [
    refused(ds, "user/direct"), refused("corpus/"), refused("corpus/", "user/x", pairs=ds), refused(None, "user/x"),
    refused(ds, "user", synthesizer=synthesize),
]
"""
    out = client(hub, tmp_path, LINES + pushed)
    folder, direct = hub.files("user/folder"), hub.files("user/direct")
    own = ("README.md", "croissant.json")  # these name the repo
    assert {name: content for name, content in direct.items() if name not in own} == {
        name: content for name, content in folder.items() if name not in own
    }
    assert hub.repo("user/direct").private and b"A title" in hub.files("user/direct", "refs/pr/1")["README.md"]
    words = ("synthesizer=…", "user/name", "one thing to publish", "one thing to publish", "USER/NAME")
    assert all(word in said for (_, said), word in zip(out["refused"], words, strict=True))


def test_a_repo_that_may_not_be_written_to_stays_as_it_is(hub: Hub, tmp_path: Path) -> None:
    hub.commit("user/theirs", {"README.md": b"theirs"})
    before = hub.head("user/theirs")
    hub.faults.add(Fault(status=403, message="no"), match=lambda request: request.line.startswith("POST /api/repos"))
    push = """
for repo in ("user/theirs", "user/new"):
    try:
        hfsynth.push(ds, repo, texts=texts, synthesizer=synthesize, license="cc-by-4.0")
    except hfsynth.HfsynthError as error:
        out[repo] = [type(error).__name__, str(error)]
"""
    out = client(hub, tmp_path, LINES + push, token=READ_TOKEN)
    assert [kind for kind, _ in out.values()] == ["HubError", "HubError"]
    assert hub.head("user/theirs") == before and list(hub.store.repos) == [
        ("dataset", "me/raw"),
        ("dataset", "user/theirs"),
    ]


def test_a_recipe_is_published_alone(hub: Hub, tmp_path: Path) -> None:
    hub.commit("user/weights", {"model.safetensors": b"weights"}, kind="model")
    (tmp_path / "model").mkdir()
    code = f"""
import hfsynth
synthesize = hfsynth.Synthesizer("scripts:moody", engine="scripted", shots=3, keep=["response_words<=60"], seed=4)
pushed = [synthesize.push("user/recipe", license="apache-2.0", tag="v1"), synthesize.push("user/recipe")]
out["pushed"] = [[one.url, one.changed] for one in pushed]
found = hfsynth.Synthesizer.from_hub("user/recipe@v1", engine="scripted", model="scripts:moody")
out["same"] = found.config == synthesize.config
def refused(transform, repo):
    try:
        transform.push(repo)
    except hfsynth.HfsynthError as error:
        return f"{{error.message}} {{error.hint}}"
local = hfsynth.Synthesizer({str(tmp_path / "model")!r}, engine="scripted")
out["refused"] = [refused(synthesize, "user/weights"), refused(synthesize, "me/raw"), refused(local, "user/local")]
"""
    out = client(hub, tmp_path, code)
    assert out["same"] and out["pushed"] == [
        [f"{hub.endpoint}/user/recipe", True],
        [f"{hub.endpoint}/user/recipe", False],
    ]
    files = hub.files("user/recipe", kind="model")
    assert sorted(files) == ["README.md", "synthesizer_config.json"]
    assert b'hfsynth.Synthesizer.from_hub("user/recipe")' in files["README.md"]
    words = ("holds a model (model.safetensors)", "as a dataset", "a folder of this machine (model)")
    assert f"hfsynth push {tmp_path / 'model'} user/model --type model" in out["refused"][2]
    assert all(word in said for said, word in zip(out["refused"], words, strict=True)), out["refused"]
    assert list(hub.files("user/weights", kind="model")) == ["model.safetensors"]
