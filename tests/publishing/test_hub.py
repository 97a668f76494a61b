"""Publishing to the loopback Hub with the real clients: round trips, several corpora in one repo, refusals."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from corpus_folders import contents, corpus_folder, texts_of
from loopback_hub.faults import Fault
from loopback_hub.server import OTHER_TOKEN, POWERLESS_TOKEN, READ_TOKEN, Hub

from hfsynth.core.remote_calls import asked_delay, is_transient, retrying
from hfsynth.corpus.readme import Card
from hfsynth.publishing.leaks import secret_in

COMMAND = """
import sys, typer
from hfsynth.cli import console
from hfsynth.cli.publish import register
from hfsynth.core.errors import HfsynthError

app = typer.Typer(pretty_exceptions_enable=False)
register(app)
try:
    app()
except HfsynthError as error:
    console.show_error(error)
    sys.exit(error.exit_code)
"""
PRELUDE = """
import json, os
from hfsynth.publishing.facts import CardSettings
from hfsynth.core.errors import HfsynthError
from hfsynth.publishing.hub import PushOptions, push_folder

def pushed(folder, repo="user/corpus", stated=CardSettings(license="cc-by-4.0", language=("en",)), **options):
    try:
        result = push_folder(folder, repo, PushOptions(**{"timeout": 60, **options}), settings=stated)
        return [result.url, result.commit, result.changed]
    except HfsynthError as error:
        return [type(error).__name__, error.message, error.hint]

out = {}
"""
SHAPE = {"default": {"train": 2}, "pairs": {"train": 2}}


@pytest.fixture
def plain_hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture(params=["lfs", "xet"])
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with Hub(xet=request.param == "xet") as running:
        yield running


def client(hub: Hub, tmp_path: Path, code: str, *, token: str = Hub.token) -> dict[str, Any]:
    """Run client code that fills `out` in a fresh process, and return `out`."""
    done = hub.run(f"{PRELUDE}\n{code}\nprint(json.dumps(out))", hub.env(tmp_path, token=token))
    assert Hub.token not in done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def command(hub: Hub, tmp_path: Path, *arguments: object, check: bool = True) -> tuple[int, str, str]:
    argv = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    done = hub.run(argv, hub.env(tmp_path), check=check)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.long
def test_a_job_goes_to_the_hub_and_back(hub: Hub, tmp_path: Path) -> None:
    documents = [f"Lighthouse {n} was lit every evening. It is tall." for n in range(5)]
    source, folder = tmp_path / "docs.jsonl", tmp_path / "corpus"
    source.write_text("\n".join(json.dumps({"text": text}) for text in documents))
    job = [sys.executable, "-m", "hfsynth", "synthesize", str(source), str(folder), "--engine", "scripted", "--quiet"]
    hub.run([*job, "--shard-rows", "2", "--workers", "0"], hub.env(tmp_path))
    options = ("--license", "cc-by-4.0", "--language", "en", "--tag", "v1", "--message", "Ours", "--json")
    _, printed, _ = command(hub, tmp_path, "push", folder, "user/corpus", *options)
    assert json.loads(printed)["url"] == f"{hub.endpoint}/datasets/user/corpus"
    assert command(hub, tmp_path, "card", folder, "--check", check=False)[0] == 0
    assert hub.files("user/corpus") == contents(folder)
    assert hub.commits("user/corpus") == 1 and hub.repo("user/corpus").resolve("v1").title == "Ours"
    out = client(
        hub,
        tmp_path,
        f"""
from datasets import load_dataset
read = lambda *args, **kwargs: [row["text"] for row in load_dataset("user/corpus", *args, split="train", **kwargs)]
out["read"] = [read(), read("pairs"), read("pairs", streaming=True), read("pairs", revision="v1")]
out["folder"] = [row["text"] for row in load_dataset({str(folder)!r}, "pairs", split="train")]
out["again"] = pushed({str(folder)!r}, stated=CardSettings(), tag="v1")
out["pr"] = pushed({str(folder)!r}, stated=CardSettings(title="A better title"), create_pr=True)
out["pr again"] = pushed({str(folder)!r}, create_pr=True)
out["by pr"] = read(revision="refs/pr/1")
""",
    )
    assert out["read"] == [documents] * 4 and out["folder"] == out["by pr"] == documents
    assert out["again"][1:] == [hub.head("user/corpus"), False]
    assert out["pr"][0] == out["pr again"][0] == f"{hub.endpoint}/datasets/user/corpus/discussions/1"
    assert b"A better title" in hub.files("user/corpus", "refs/pr/1")["README.md"]
    assert list(hub.repo("user/corpus").discussions) == [1]
    assert hub.commits("user/corpus") == 1 and set(hub.sent.values()) == {1}


def test_a_new_version_takes_the_place_of_the_old(hub: Hub, tmp_path: Path) -> None:
    old = corpus_folder(tmp_path / "old", {"default": {"train": 4}, "pairs": {"train": 3}})
    new = corpus_folder(tmp_path / "new", SHAPE, mark="two")
    assert pushed(hub, tmp_path, old)[2] is True
    hub.commit("user/corpus", {"notes/theirs.txt": b"keep"})
    assert pushed(hub, tmp_path, new)[2] is True
    assert hub.files("user/corpus") == contents(new) | {"notes/theirs.txt": b"keep"}
    assert hub.commits("user/corpus") == 3


def test_a_push_reads_a_footer_once_and_digests_a_file_once(hub: Hub, tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    out = client(
        hub,
        tmp_path,
        f"""
import sys
from pathlib import Path
import pyarrow.parquet as pq
from hfsynth.publishing import prepare

folder, footers, opened, facts = Path({str(folder)!r}), [], [], []
init, read, collect = pq.ParquetFile.__init__, pq.read_metadata, prepare.corpus_facts

def watched(self, source, *args, metadata=None, **kwargs):
    if metadata is None and str(source).startswith(str(folder)):
        footers.append(Path(source).name)
    init(self, source, *args, metadata=metadata, **kwargs)

def watched_read(source):
    footers.extend([source.name] if isinstance(source, Path) else [])  # else it is one in the repo
    return read(source)

def watched_facts(*args):
    facts.append(args)
    return collect(*args)

def heard(event, args):
    if event == "open" and str(args[0]).startswith(str(folder)) and str(args[0]).endswith(".parquet"):
        opened.append(str(args[0]))

pq.ParquetFile.__init__, pq.read_metadata, prepare.corpus_facts = watched, watched_read, watched_facts
sys.addaudithook(heard)
out["first"] = [pushed(folder)[2], sorted(footers), len(facts)]
footers.clear(), opened.clear(), facts.clear()
out["again"] = [pushed(folder)[2], sorted(footers), len(facts)]
out["opened"] = sorted(str(Path(path).relative_to(folder)) for path in opened)
""",
    )
    parts = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    names = sorted(Path(part).name for part in parts)
    assert len(parts) == 4
    assert out["first"] == [True, names, 1] and out["again"] == [False, names, 1]
    assert out["opened"] == parts  # for the digest; whoever reads rows goes by Arrow


def pushed(hub: Hub, tmp_path: Path, folder: Path, **options: object) -> list[Any]:
    found: list[Any] = client(hub, tmp_path, f"out['it'] = pushed({str(folder)!r}, **{options!r})")["it"]
    return found


def test_other_configs_splits_and_words_stay(hub: Hub, tmp_path: Path) -> None:
    first = corpus_folder(tmp_path / "first", SHAPE)
    second = corpus_folder(tmp_path / "second", {"medicine": {"train": 2}}, mark="two")
    third = corpus_folder(tmp_path / "third", {"medicine": {"test": 1}}, mark="three")
    wider = corpus_folder(tmp_path / "wider", {"pairs": {"test": 1}}, mark="four")
    out = client(hub, tmp_path, f"out['it'] = [pushed(f) for f in {[str(first), str(second)]!r}]")
    card = Card.parse(hub.files("user/corpus")["README.md"].decode())
    hub.commit("user/corpus", {"README.md": Card(card.metadata, (*card.content, "Their own words.")).text().encode()})
    out = client(
        hub,
        tmp_path,
        f"""
from datasets import load_dataset
out["pushed"] = [pushed(folder) for folder in {[str(third), str(wider), str(second)]!r}]
rows = lambda config: {{s: [r["text"] for r in d] for s, d in load_dataset("user/corpus", config).items()}}
out["rows"] = {{config: rows(config) for config in ("default", "pairs", "medicine")}}
""",
    )
    assert [len(result) for result in out["pushed"]] == [3, 3, 3] and out["pushed"][2][2] is False
    assert out["rows"]["default"] == {"train": texts_of(SHAPE, "default")}
    assert out["rows"]["medicine"]["train"] == texts_of({"medicine": {"train": 2}}, "medicine", mark="two")
    assert list(out["rows"]["medicine"]) == list(out["rows"]["pairs"]) == ["train", "test"]
    files = hub.files("user/corpus")
    card = Card.parse(files["README.md"].decode())
    assert [block.home for block in card.blocks] == [
        "", "corpora/medicine-train/", "corpora/medicine-test/", "corpora/pairs-test/"
    ]  # fmt: skip
    assert card.words == ["Their own words."]
    assert files["stats.json"] == (first / "stats.json").read_bytes()
    for block, folder in zip(card.blocks, (first, second, third, wider), strict=True):
        assert files[f"{block.home}synthesizer_config.json"] == (folder / "synthesizer_config.json").read_bytes()
        assert f"({block.home}plots/tokens.png)" in block.body


def test_many_changes_go_through_a_pull_request(hub: Hub, tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", {"default": {"train": 5}, "pairs": {"train": 4}})
    hub.commit("user/corpus", {"data/train-00000-of-00009.parquet": b"old"})
    assert pushed(hub, tmp_path, folder, commit_limit=4, replace=True)[2] is True
    assert hub.files("user/corpus") == contents(folder)
    assert hub.commits("user/corpus") == 2 and hub.commits("user/corpus", "refs/pr/1") == 4
    other = corpus_folder(tmp_path / "other", {"default": {"train": 6}, "pairs": {"train": 4}}, mark="two")
    hub.at(2, lambda _: hub.commit("user/corpus", {"in/between.txt": b"1"}), "POST .*/commit/refs%2Fpr%2F2")
    assert pushed(hub, tmp_path, other, commit_limit=4)[2] is True
    assert hub.files("user/corpus") == contents(other) | {"in/between.txt": b"1"}
    states = [discussion.status for discussion in hub.repo("user/corpus").discussions.values()]
    assert states == ["merged", "closed", "merged"] and hub.commits("user/corpus") == 4
    assert set(hub.sent.values()) == {1}


def test_a_branch_of_its_own(hub: Hub, tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    start = hub.commit("user/corpus", {"a.txt": b"1"}).id
    assert pushed(hub, tmp_path, folder, revision="dev/two", tag="v2")[2] is True
    assert hub.head("user/corpus") == start
    assert hub.files("user/corpus", "v2") == contents(folder) | {"a.txt": b"1"}
    code = f"out['it'] = pushed({str(folder)!r}, 'user/private', private=True)"
    assert client(hub, tmp_path, code)["it"][2] is True and hub.repo("user/private").private


def test_others_who_push_meanwhile(hub: Hub, tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    hub.commit("user/corpus", {"other/train-00000-of-00001.parquet": b"x"})
    hub.at(1, lambda _: hub.commit("user/corpus", {"other/more.txt": b"theirs"}), "POST .*/commit/main")
    assert pushed(hub, tmp_path, folder)[2] is True
    assert hub.files("user/corpus")["other/more.txt"] == b"theirs" and hub.commits("user/corpus") == 3

    newer = corpus_folder(tmp_path / "newer", SHAPE, mark="two")
    theirs = {"data/train-00000-of-00002.parquet": b"theirs"}
    hub.at(1, lambda _: hub.commit("user/corpus", theirs), "POST .*/commit/main")
    before = hub.files("user/corpus")
    kind, message, hint = pushed(hub, tmp_path, newer)
    assert kind == "HubError" and "data/train-00000-of-00002.parquet" in message and "same command" in hint
    assert hub.files("user/corpus") == before | theirs


def test_six_pushes_of_six_configs_at_once(hub: Hub, tmp_path: Path) -> None:
    hub.commit("user/corpus", {"a.txt": b"1"})
    folders = [corpus_folder(tmp_path / f"c{n}", {f"c{n}": {"train": 1 + n % 2}}, mark=f"m{n}") for n in range(6)]
    code = "{}\nresult = pushed({!r})\nassert result[2] is True, result"
    started = [hub.start(code.format(PRELUDE, str(folder)), hub.env(tmp_path)) for folder in folders]
    for process in started:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, out + err
    files = hub.files("user/corpus")
    data = {name: file for folder in folders for name, file in contents(folder).items() if name.endswith(".parquet")}
    assert {name: files.get(name) for name in data} == data
    card = Card.parse(files["README.md"].decode())
    assert sorted(entry["config_name"] for entry in card.metadata["configs"]) == [f"c{n}" for n in range(6)]
    assert len(card.blocks) == 6 and len({block.home for block in card.blocks}) == 6
    assert hub.commits("user/corpus") == 7
    if hub.api.xet is None:  # two that begin together may both send a picture that is the same in both
        assert [hub.sent[sha256(file).hexdigest()] for file in data.values()] == [1] * len(data)


def test_a_synthesizer_is_published(hub: Hub, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base", "r": 16}))
    (model / "adapter_model.safetensors").write_bytes(b"weights")
    (model / "synthesizer_config.json").write_text("{}")
    hub.commit("user/model", {"model-00001-of-00002.safetensors": b"old", "notes.txt": b"keep"}, kind="model")
    code = f"out['it'] = pushed({str(model)!r}, 'user/model', kind='model', stated=CardSettings(license='mit'))"
    assert client(hub, tmp_path, code)["it"][0] == f"{hub.endpoint}/user/model"
    assert hub.files("user/model", kind="model") == contents(model) | {"notes.txt": b"keep"}
    assert b"base_model: org/base" in hub.files("user/model", kind="model")["README.md"]


def test_licence_and_languages_come_from_the_source(plain_hub: Hub, tmp_path: Path) -> None:
    hub = plain_hub
    card = b"---\nlicense: odc-by\nlanguage: [de, en]\n---\n"
    hub.commit("org/source", {"README.md": card})
    hub.commit("org/model", {"README.md": b"---\nlicense: apache-2.0\n---\n"}, kind="model")
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    recipe = json.loads((folder / "synthesizer_config.json").read_text())
    recipe |= {"model": "org/model", "source": {**recipe["source"], "location": "org/source"}}
    (folder / "synthesizer_config.json").write_text(json.dumps(recipe))
    out = client(hub, tmp_path, f"out['it'] = pushed({str(folder)!r}, stated=CardSettings())")["it"]
    assert out[2] is True
    text = hub.files("user/corpus")["README.md"].decode()
    metadata = Card.parse(text).metadata
    assert metadata["license"] == "odc-by" and metadata["language"] == ["de", "en"]
    assert metadata["source_datasets"] == ["org/source"] and "the model | `apache-2.0`" in text
    assert "--recipe user/corpus" in text
    provenance = json.loads(hub.files("user/corpus")["croissant.json"])
    assert provenance["url"] == "https://huggingface.co/datasets/user/corpus"
    assert provenance["prov:wasDerivedFrom"][0]["@id"] == "https://huggingface.co/datasets/org/source/tree/0123"


def test_dry_run_asks_no_network_and_writes_nothing(plain_hub: Hub, tmp_path: Path) -> None:
    hub = plain_hub
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    before = contents(folder)
    _, printed, _ = command(hub, tmp_path, "push", folder, "user/corpus", "--license", "mit", "--dry-run")
    size = len(before["data/train-00000-of-00002.parquet"])
    assert f"{size:,}  data/train-00000-of-00002.parquet" in printed and "license: mit" in printed
    assert "config_name: pairs" in printed and "README.md with" in printed
    assert not hub.requests and contents(folder) == before


def test_the_commands_say_what_is_wrong(plain_hub: Hub, tmp_path: Path) -> None:
    hub = plain_hub
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    code, _, said = command(hub, tmp_path, "push", folder, "user/corpus", check=False)
    assert code == 2 and "licence" in said and "--license cc-by-4.0" in said
    code, _, said = command(hub, tmp_path, "card", folder, "--check", "--license", "mit", check=False)
    assert code == 1 and "stale" in said and "hfsynth card" in said
    command(hub, tmp_path, "card", folder, "--license", "mit")
    assert command(hub, tmp_path, "card", folder, "--check")[0] == 0
    assert not hub.requests


BAD_FOLDERS = {
    "unfinished": ("import pathlib; pathlib.Path({0!r}, '.hfsynth/manifest.json').unlink()", "not finished"),
    "damaged": ("open({0!r} + '/pairs/train-00000-of-00002.parquet', 'r+b').write(b'PAR2')", "damaged"),
    "missing": ("os.unlink({0!r} + '/pairs/train-00000-of-00002.parquet')", "is missing"),
    "secret": ("open({0!r} + '/README.md', 'a').write('hf_' + 'a1B2' * 9)", "(a Hugging Face token, huggingface:"),
    "readme": ("open({0!r} + '/README.md', 'w').write('---\\na: [\\n---')", "no valid YAML"),
}


def test_folders_that_cannot_be_published(plain_hub: Hub, tmp_path: Path) -> None:
    hub = plain_hub
    code = ""
    for name, (harm, _) in BAD_FOLDERS.items():
        folder = str(corpus_folder(tmp_path / name / "corpus", SHAPE))
        code += f"{harm.format(folder)}\nout[{name!r}] = pushed({folder!r})\n"
    out = client(hub, tmp_path, code)
    for name, (_, message) in BAD_FOLDERS.items():
        assert out[name][0] in ("OutputError", "ConfigError") and message in out[name][1], out[name]
        assert out[name][2], name
    assert not hub.requests


def test_what_the_hub_refuses(plain_hub: Hub, tmp_path: Path) -> None:
    hub = plain_hub
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    hub.commit("user/there", {"a.txt": b"1"})
    hub.commit("user/taken", {"a.txt": b"1"}, kind="model")
    hub.commit("user/tagged", {"a.txt": b"1"})
    hub.repo("user/tagged").create_ref("refs/tags/v1", hub.repo("user/tagged").resolve("main"))
    damaged = {"README.md": b'<!-- hfsynth:begin {"parts": []} -->', "data/train-00000-of-00001.parquet": b"x"}
    hub.commit("user/damaged", damaged)
    card = b"---\nconfigs:\n- config_name: all\n  data_files: data/*.parquet\n---\n"
    hub.commit("user/mixed", {"README.md": card, "data/train-00000-of-00001.parquet": b"x"})
    before = {name: hub.head(name) for name in ("user/there", "user/tagged", "user/damaged", "user/mixed")}
    tokens = {"read": READ_TOKEN, "powerless": POWERLESS_TOKEN, "other": OTHER_TOKEN, "bad": "hf_bad", "none": ""}
    out = client(
        hub,
        tmp_path,
        f"""
folder = {str(folder)!r}
for name in ("user", "user/", "user/a b", "user/" + "x" * 97, "../x", "a/b/c"):
    out[name] = pushed(folder, name)
for name in ("user/taken", "nobody/corpus", "user/damaged", "user/mixed"):
    out[name] = pushed(folder, name)
out["tag"] = pushed(folder, "user/tagged", tag="v1")
out["public"] = pushed(folder, "user/there", private=True)
out["options"] = [pushed(folder, **options) for options in (
    dict(kind="space"), dict(revision="refs/pr/1"), dict(create_pr=True, revision="dev"),
    dict(create_pr=True, tag="v1"), dict(timeout=0))]
for name, token in {tokens!r}.items():
    os.environ["HF_TOKEN"] = token
    out[name] = pushed(folder, "user/there")
os.environ["HF_TOKEN"] = "{OTHER_TOKEN}"
out["proposed"] = pushed(folder, "user/there", create_pr=True)
""",
    )
    for name in ("user", "user/", "user/a b", "../x", "a/b/c"):
        assert out[name][0] == "HubError" and "no valid name" in out[name][1], out[name]
    assert "as a model and not as a dataset" in out["user/taken"][1] and "--type model" in out["user/taken"][2]
    assert "may not write to nobody/corpus" in out["nobody/corpus"][1]
    assert "damaged" in out["user/damaged"][1] and "belongs to all/train" in out["user/mixed"][1]
    assert "and public" in out["public"][1] and all(kind == "ConfigError" for kind, *_ in out["options"])
    assert "'v1' is taken" in out["tag"][1]
    for name in ("read", "powerless", "other"):
        assert "may not write to user/there" in out[name][1] and "settings/tokens" in out[name][2], out[name]
    assert "does not accept this token" in out["bad"][1] and "hf auth login" in out["bad"][2]
    assert "no token" in out["none"][1] and "hf auth login" in out["none"][2]
    assert out["proposed"][0].endswith("/discussions/1")
    assert {name: hub.head(name) for name in before} == before
    assert all(token not in json.dumps(out) for token in tokens.values() if token)


def test_the_network_goes_away(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    with Hub() as hub:
        hub.commit("user/corpus", {"a.txt": b"1"})
        env = hub.env(tmp_path)
        code = f"{PRELUDE}\nprint(json.dumps(pushed({str(folder)!r}, timeout=1)))"
        hub.faults.add(Fault(drop="before"), match="/commit/main", times=None)
        kind, message, hint = json.loads(hub.run(code, env).stdout.splitlines()[-1])
        assert kind == "HubError" and "cannot be reached" in message and "same command" in hint
        assert hub.files("user/corpus") == {"a.txt": b"1"}
        hub.faults.clear()
        sent = hub.sent.copy()
        assert json.loads(hub.run(code, env).stdout.splitlines()[-1])[2] is True
        assert hub.sent == sent and set(sent.values()) == {1}
    kind, message, _ = json.loads(hub.run(code, env).stdout.splitlines()[-1])
    assert kind == "HubError" and "cannot be reached" in message


# Retrying


def test_an_answer_says_how_long_to_wait() -> None:
    assert asked_delay({"RateLimit": '"api";r=0;t=7'}) == 7
    assert asked_delay({"ratelimit": '"api";r=9;t=7'}) is None
    assert asked_delay({"Retry-After": "3"}) == 3
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < (asked_delay({"Retry-After": later}) or 0) <= 100
    assert asked_delay({"Retry-After": "soon"}) is None is asked_delay({})


def test_what_is_tried_again() -> None:
    request = httpx2.Request("GET", "http://localhost/")

    def refused(status: int) -> httpx2.HTTPStatusError:
        return httpx2.HTTPStatusError("", request=request, response=httpx2.Response(status, request=request))

    assert all(is_transient(refused(status)) for status in (409, 412, 429, 500, 502, 503, 504))
    assert not any(is_transient(refused(status)) for status in (400, 401, 403, 404, 413))
    assert is_transient(httpx2.ReadError("")) and is_transient(ConnectionResetError())
    assert not is_transient(ValueError()) and not is_transient(FileNotFoundError())


def test_trying_ends_in_time() -> None:
    calls = []

    def fail() -> None:
        calls.append(time.monotonic())
        raise httpx2.ReadError("gone")

    with pytest.raises(httpx2.ReadError):
        retrying(0.6)(fail)
    assert len(calls) >= 2
    response = httpx2.Response(429, headers={"Retry-After": "3600"}, request=httpx2.Request("GET", "http://localhost/"))
    calls.clear()
    with pytest.raises(httpx2.HTTPStatusError):
        retrying(5)(lambda: calls.append(0.0) or response.raise_for_status())
    assert len(calls) == 1


def test_secrets_are_found() -> None:
    assert secret_in("x hf_" + "a1B2" * 9) == "a Hugging Face token"
    assert secret_in(f"-----BEGIN RSA PRIVATE KEY-----\n{'aB3/' * 12}") == "a private key"
    assert secret_in("my own", "own") == "your own Hugging Face token"
    assert secret_in("hf_hub_download and sk-learn") is None


def test_what_another_published_is_replaced_only_where_that_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    theirs = {"data/train-00000-of-00001.parquet": b"theirs", "notes.txt": b"keep"}
    made = hub.commit("user/corpus", theirs)
    kind, message, hint = pushed(hub, tmp_path, folder)
    assert kind == "HubError" and "default/train (1 file), published by other on " in message and hint is not None
    assert f"{made.date[:10]} {made.date[11:16]} UTC in commit {made.id[:10]}" in message
    assert "--replace" in hint and hub.files("user/corpus") == theirs and not hub.sent
    assert pushed(hub, tmp_path, folder, create_pr=True)[0].endswith("/discussions/1")
    assert hub.files("user/corpus") == theirs
    options = ("--license", "cc-by-4.0", "--language", "en", "--replace")
    _, _, said = command(hub, tmp_path, "push", folder, "user/corpus", *options)
    assert "This took the place of default/train (1 file), published by other on " in said
    assert hub.files("user/corpus") == contents(folder) | {"notes.txt": b"keep"}


def test_a_corpus_of_another_source_is_another(plain_hub: Hub, tmp_path: Path) -> None:
    hub = plain_hub
    first = corpus_folder(tmp_path / "first", SHAPE)
    second = corpus_folder(tmp_path / "second", {"default": {"train": 1}}, mark="two")
    recipe = json.loads((second / "synthesizer_config.json").read_text())
    recipe["source"]["location"] = "letters.jsonl"
    (second / "synthesizer_config.json").write_text(json.dumps(recipe))
    assert pushed(hub, tmp_path, first)[2] is True
    before = hub.files("user/corpus")
    code = f"""
import hfsynth
from hfsynth.core.errors import HubError
def asked(**options):
    return hfsynth.push({str(second)!r}, "user/corpus", license="cc-by-4.0", language="en", **options)
"""
    refused = "try:\n    asked()\nexcept HubError as error:\n    out['refused'] = [error.message, error.hint]"
    message, hint = client(hub, tmp_path, code + refused)["refused"]
    assert "default/train (2 files, made from docs.jsonl), published by user on " in message
    assert "replace=True" in hint and hub.files("user/corpus") == before
    out = client(hub, tmp_path, code + "out['it'] = [str(one) for one in asked(replace=True).replaced]")["it"]
    assert len(out) == 1 and "made from docs.jsonl" in out[0]
    assert "letters.jsonl" in hub.files("user/corpus")["README.md"].decode()


def test_the_commands_of_a_published_card_make_it_again(plain_hub: Hub, tmp_path: Path) -> None:
    hub = plain_hub
    rows = "".join(json.dumps({"text": f"Lighthouse {n} was lit every evening. It is tall."}) + "\n" for n in range(6))
    hub.commit("me/raw", {"train.jsonl": rows.encode(), "README.md": b"---\nlicense: mit\nlanguage: en\n---\n"})
    env = hub.env(tmp_path)
    typed(
        hub,
        env,
        tmp_path,
        "hfsynth synthesize me/raw corpus --engine scripted --shots 3 --quiet --workers 0",
        "hfsynth render corpus --seed 5 --style numbered=2 --style dialogue=1 --quiet",
    )
    assert pushed(hub, tmp_path, tmp_path / "corpus")[2] is True
    text = hub.files("user/corpus")["README.md"].decode()
    printed = text.partition("## Make it again\n\n")[2].partition("\n\n")[0]
    assert "--recipe user/corpus" in printed and "hfsynth render" not in printed  # the recipe says how it was rendered
    typed(hub, env, tmp_path, *printed.replace("\\\n", "").splitlines())
    for name in ("data", "pairs"):
        made, again = (
            [file.read_bytes() for file in sorted((tmp_path / folder / name).glob("*.parquet"))]
            for folder in ("corpus", "again")
        )
        assert made == again and made, name


def typed(hub: Hub, env: dict[str, str], place: Path, *commands: str) -> None:
    """Run commands of hfsynth as they are typed in a folder."""
    for line in commands:
        program, *words = shlex.split(line)
        assert program == "hfsynth"
        hub.run([sys.executable, "-m", "hfsynth", *words], env, cwd=place)
