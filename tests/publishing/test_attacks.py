"""The attack list: what hostile recipes, folders, sources and documents must not do. Add a row to extend it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_folders import corpus_folder
from loopback_hub.server import Hub
from markdown_it import MarkdownIt
from started import run_process

from hfsynth.core.addresses import public_location, public_values, without_credentials
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, HfsynthError, OutputError, SourceError
from hfsynth.core.recipes import MOST_BYTES, config_from, read_recipe
from hfsynth.corpus.files import CorpusFiles
from hfsynth.corpus.readme import Card, as_block, as_code
from hfsynth.models.resolve import pinned
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.hub import PushOptions
from hfsynth.publishing.leaks import refuse_leaks, rules, secret_in
from hfsynth.publishing.plan import Publication
from hfsynth.publishing.prepare import prepare, write_card

# --- recipes --------------------------------------------------------------------------------------------------------

SCRIPTS = ["yaml:unsafe_load", "subprocess:getoutput", "os:system", "evil:run", "builtins:exec", "evil", ""]
PATHS = ["/etc", "~/models/x", "../../x", "./model", "a/../../b", "file:///etc", "C:\\models", "x/..", "hf://u/m"]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)
HOSTILE_RECIPES = {
    "an alias bomb": f"model: m\n{BOMB}chat:\n  kinds: *j\n",
    "an anchor and one alias": "model: m\nkeep: &k ['grounding>0']\nchat: *k",
    "a merge key": "x: &x {model: m}\n<<: *x",
    "a number of 5,000 digits": json.dumps({"model": "m"})[:-1] + ', "seed": ' + "9" * 5000 + "}",
    "a number of 5,000 digits in YAML": "model: m\nseed: " + "9" * 5000,
    "a number in base 60": "model: m\nseed: " + ":".join(["59"] * 5000),
    "more shots than documents": '{"model": "m", "shots": 1000000000000000000000000000000}',
    "more tokens than there are": '{"model": "m", "sampling": {"max_tokens": 1e30}}',
    "a window without an end": '{"model": "m", "window": 1000000000000000000000000000000}',
    "a seed of 65 bits": '{"model": "m", "seed": 18446744073709551616}',
    "too many bytes": json.dumps({"model": "m", "keep": ["x" * MOST_BYTES]}),
    "a Python object": "model: !!python/object/apply:os.system ['true']",
    "an engine": '{"model": "m", "engine": "scripted"}',
    "engine arguments": '{"model": "m", "engine_args": {"x": 1}}',
    "code from a model's repo": '{"model": "m", "trust_remote_code": true}',
    "no number": '{"model": "m", "sampling": {"temperature": NaN}}',
    "nesting without an end": '{"model": "m", "chat": ' + "[" * 100_000,
    "a model that is no name": '{"model": ["os:system"]}',
}


def recipe(folder: Path, text: str) -> Path:
    path = folder / "synthesizer_config.json"
    path.write_text(text)
    return path


@pytest.mark.parametrize("attack", HOSTILE_RECIPES)
def test_a_hostile_recipe_is_refused_in_a_few_words(tmp_path: Path, attack: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from(read_recipe(recipe(tmp_path, HOSTILE_RECIPES[attack])), {})
    assert len(str(caught.value)) < 1000


def test_a_value_that_is_endless_is_shown_in_short() -> None:
    kinds: list[Any] = ["x"] * 10
    for _ in range(9):
        kinds = [kinds] * 9  # what the alias bomb makes: a few lists, and a thousand million items to show
    with pytest.raises(ConfigError, match="kinds must be") as caught:
        SynthesizerConfig.from_dict({"model": "m", "chat": {"kinds": kinds}})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("script", SCRIPTS[:-1])
def test_no_recipe_names_code(tmp_path: Path, script: str, published: bool) -> None:
    fields = read_recipe(recipe(tmp_path, json.dumps({"model": script})), published=published)
    for config in (config_from(fields, {}), SynthesizerConfig.from_dict(fields)):
        again = SynthesizerConfig.from_dict(config.to_dict())
        for way in (config, again):
            with pytest.raises(ConfigError, match="cannot choose the script") as caught:
                pinned(way, EngineConfig("scripted"))
            assert "--model" in caught.value.hint


@pytest.mark.parametrize("path", PATHS)
def test_a_published_recipe_names_no_file_of_this_machine(tmp_path: Path, path: str) -> None:
    fields = read_recipe(recipe(tmp_path, json.dumps({"model": path})), published=True)
    for engine in (EngineConfig("vllm"), EngineConfig("server")):
        with pytest.raises(ConfigError, match="file of somebody's machine"):
            pinned(config_from(fields, {}), engine)


def test_what_the_user_names_herself_is_taken(tmp_path: Path) -> None:
    fields = read_recipe(recipe(tmp_path, '{"model": "os:system"}'), published=True)
    mine = pinned(config_from(fields, {"model": "json:dumps"}), EngineConfig("scripted"))
    assert mine.model == "json:dumps"
    built_in = read_recipe(recipe(tmp_path, '{"model": "scripted"}'), published=True)
    settled = pinned(config_from(built_in, {}), EngineConfig("scripted"))
    assert type(settled.model) is str and settled == SynthesizerConfig("scripted")


PWN = 'import hfsynth, sys\nhfsynth.Synthesizer.from_hub(sys.argv[1], engine="scripted")([{"text": "x"}])'


def test_published_recipes_run_nothing_and_are_not_downloaded_whole(tmp_path: Path) -> None:
    """The reproduction: a document that a YAML loader runs, a module on the path, an alias bomb, a large recipe."""
    mark, source = tmp_path / "ran", tmp_path / "docs.jsonl"
    (tmp_path / "evilmod.py").write_text(f"open({str(mark)!r}, 'w')\n")
    source.write_text(json.dumps({"text": f'a: !!python/object/apply:os.system ["id > {mark}"]\nb: x'}) + "\n")
    with Hub() as hub:
        env = hub.env(tmp_path) | {"PYTHONPATH": str(tmp_path)}
        hub.commit("user/yaml", {"synthesizer_config.json": b'{"model": "yaml:unsafe_load"}'})
        hub.commit("user/cwd", {"synthesizer_config.json": b'{"model": "evilmod:run"}'})
        hub.commit("user/bomb", {"synthesizer_config.json": HOSTILE_RECIPES["an alias bomb"].encode()})
        hub.commit("user/large", {"synthesizer_config.json": b"#" * (MOST_BYTES + 1)})
        for name, said in {"yaml": "script", "bomb": "aliases", "large": "at most 1,000,000"}.items():
            command = [sys.executable, "-m", "hfsynth", "synthesize", str(source), str(tmp_path / "out")]
            done = hub.run([*command, "--recipe", f"user/{name}", "--engine", "scripted"], env, check=False)
            assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
        done = hub.run([sys.executable, "-c", PWN, "user/cwd"], env, check=False)
        assert done.returncode and "cannot choose the script" in done.stderr
        assert not hub.lines(r"^GET .*user/large/resolve")
    assert not mark.exists()


# --- what is written down of where things lie -----------------------------------------------------------------------

ADDRESSES = {
    "http://bob:S3cretPW@127.0.0.1:8190/a.jsonl": "http://127.0.0.1:8190/a.jsonl",
    "https://bob:S3cret/PW@host/a.jsonl": "https://host/a.jsonl",
    "https://bob:S3cr@etPW@host/a.jsonl": "https://host/a.jsonl",
    "https://S3cretPW@host/a.jsonl#S3cretPW": "https://host/a.jsonl",
    "https://host/a.jsonl?X-Amz-Signature=S3cretPW&X-Amz-Date=1": "https://host/a.jsonl",
    "https://host/a.jsonl?sig=S3cret%2FPW": "https://host/a.jsonl",
    "https://host/a.jsonl?S3cretPW": "https://host/a.jsonl",
    "az://container/a.jsonl?sv=2024&sig=S3cretPW": "az://container/a.jsonl",
    "s3://KEY:S3cretPW@bucket/a.jsonl": "s3://bucket/a.jsonl",
    "zip://a.jsonl::https://bob:S3cretPW@host/x.zip?sig=S3cretPW": "zip://a.jsonl::https://host/x.zip",
    "abfss://container@account.dfs.core.windows.net/a": "abfss://container@account.dfs.core.windows.net/a",
    "hf://datasets/user/name@revision/a.jsonl": "hf://datasets/user/name@revision/a.jsonl",
    "s3://bucket/part-?.jsonl": "s3://bucket/part-?.jsonl",
    "https://host:8080/@user/a.jsonl": "https://host:8080/@user/a.jsonl",
    "/home/alice/secret/docs.jsonl": "docs.jsonl",
    "user/dataset": "user/dataset",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_told_without_its_credentials(address: str) -> None:
    assert public_location(address) == ADDRESSES[address]
    if "://" in address:
        text = f"{address} cannot be read: Client error for url '{address}'"
        told = ADDRESSES[address]
        assert without_credentials(text) == f"{told} cannot be read: Client error for url '{told}'"
        assert str(SourceError(text)) == without_credentials(text)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Serve one document over HTTP, whoever asks; return its address behind user, password and a signature."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "docs.txt").write_text("Lighthouse one is tall.")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *values: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://bob:S3cretPW@127.0.0.1:{server.server_port}/docs.txt?sig=a/S3cretPW"
        server.shutdown()
        thread.join()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_process([sys.executable, "-m", "hfsynth", *arguments])


def test_a_job_writes_no_credentials_anywhere(served: str, tmp_path: Path) -> None:
    """The reproduction, from the job to what would be published."""
    out = tmp_path / "corpus"
    scripted = ["--engine", "scripted", "--workers", "0"]
    told = [command("synthesize", served, str(out), *scripted), command("render", str(out))]
    told += [command("synthesize", served, str(out), *scripted, "--dry-run"), command("info", str(out))]
    assert [done.returncode for done in told] == [0] * 4, told
    told += [command("synthesize", served.replace("docs", "none"), str(tmp_path / "other"), *scripted)]
    assert told[-1].returncode
    write_card(out, CardSettings(license="mit"))
    for path in out.rglob("*"):
        assert not path.is_file() or b"S3cret" not in path.read_bytes(), path
    assert not [done for done in told if "S3cret" in done.stdout + done.stderr]
    assert secret_in("S3cretPW") is None  # it is gone because nobody wrote it, not because it was found
    rows = pq.read_table(next((out / "pairs").glob("*.parquet"))).to_pylist()
    assert [row["id"] for row in rows] == ["docs.txt"]


def test_values_are_told_without_this_machines_folders(tmp_path: Path) -> None:
    values = {
        "base_model": "/home/alice/models/base",
        "data": [str(tmp_path / "corpus" / "x.jsonl"), "C:\\Users\\alice\\y"],
        "note": f"read from {tmp_path}/corpus/x and {Path.home()}/y and https://u:p@h/?a=1",
        "kept": ["org/model", "a / b", 3, None, {"n": 1.5}],
    }
    told = public_values(values, tmp_path)
    assert told == {
        "base_model": "base",
        "data": ["x.jsonl", "y"],
        "note": f"read from {tmp_path.name}/corpus/x and ~/y and https://h/",
        "kept": values["kept"],
    }


# --- what of a folder is published ----------------------------------------------------------------------------------

STATED = CardSettings(license="mit", language=("en",))
STRAYS = [
    "notes.txt",
    "prod.env",
    "a.html",
    "a.ipynb",
    "run.sh",
    "log.txt",
    "corpus.py",
    "private/x.parquet",
    "LICENSE",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return corpus_folder(tmp_path / "corpus", {"default": {"train": 1}, "pairs": {"train": 1}}, drawn=False)


def checked(folder: Path, kind: str = "dataset", **options: Any) -> Publication:  # noqa: ANN401
    settings = CardSettings(license="mit", include=options.pop("include", ()), repo="user/corpus")
    return prepare(folder, "user/corpus", kind, settings, **options)


def sent(publication: Publication) -> bytes:
    """Return every byte that a push would send, names and card included."""
    contents = [f if isinstance(f := file.source, bytes) else f.read_bytes() for file in publication.files.values()]
    return b"\n".join([*contents, publication.card.text().encode(), "\n".join(publication.files).encode()])


@pytest.mark.parametrize("target", ["/etc/hostname", "outside.txt", "stats.json", ".", "/nowhere"])
def test_links_are_left_and_named(folder: Path, target: str) -> None:
    (folder.parent / "outside.txt").write_text("S3cretPW")
    aim = folder.parent / "outside.txt" if target == "outside.txt" else Path(target)
    (folder / "notes.txt").symlink_to(aim)
    (folder / "plots").mkdir()
    (folder / "plots" / "other.png").symlink_to(aim)
    publication = checked(folder)
    assert {"notes.txt", "plots/other.png"} <= set(publication.left)
    assert not {"notes.txt", "plots/other.png"} & set(publication.files) and b"S3cretPW" not in sent(publication)
    with pytest.raises(ConfigError, match="Nothing in"):
        checked(folder, include=("notes.txt",))


@pytest.mark.parametrize("name", ["README.md", "data/train-00000-of-00001.parquet"])
def test_a_link_in_a_files_place_is_refused(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / "moved")
    (folder / name).symlink_to(folder.parent / "moved")
    with pytest.raises(OutputError, match="is a link"):
        checked(folder)


def test_only_what_belongs_to_the_corpus_is_published(folder: Path) -> None:
    before = set(checked(folder).files)
    (folder / "private").mkdir()
    for name in STRAYS:
        (folder / name).write_text("hf_" + "a1B2" * 9)
    (folder / ".env").write_text("x")
    publication = checked(folder)
    assert set(publication.files) == before and publication.left == tuple(sorted(STRAYS))
    (folder / "LICENSE").write_text("Do what you like.")
    assert set(checked(folder, include=("LICENSE",)).files) == before | {"LICENSE"}


@pytest.mark.parametrize("name", [name for name in STRAYS if not name.endswith((".parquet", ".py"))])
def test_what_is_included_is_searched_to_its_end(folder: Path, name: str) -> None:
    with (folder / name).open("wb") as file:
        file.write(b"x" * (21 * 10**6) + b"\n")
        file.write(b"hf_" + b"a1B2" * 9)
    with pytest.raises(OutputError, match=name):
        checked(folder, include=(name,))


@pytest.mark.parametrize("name", ["id_rsa", "token", "server.pem", "credentials.json", "prod.env", "corpus.py"])
def test_files_that_are_dangerous_by_their_name_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("x")
    with pytest.raises(OutputError, match="by its name|loading script"):
        checked(folder, include=(name,))


def test_a_model_is_published_without_checkpoints_and_local_paths(tmp_path: Path) -> None:
    model = tmp_path / "alice" / "model"
    for name in ("checkpoint-10/optimizer.pt", "checkpoint-10/model.safetensors", "optimizer.pt", "training_args.bin"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(b"x")
    (model / "trainer_state.json").write_text("{}")
    (model / "adapter_model.safetensors").write_bytes(b"weights")
    base = "/home/alice/secret/base"
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "r": 16}))
    (model / "training.json").write_text(json.dumps({"base_model": base, "data": f"{model}/d.jsonl", "steps": 3}))
    publication = checked(model, "model")
    names = {"adapter_config.json", "adapter_model.safetensors", "training.json", "README.md"}
    assert set(publication.files) | {"README.md"} == names
    assert {"checkpoint-10/optimizer.pt", "trainer_state.json", "optimizer.pt"} <= set(publication.left)
    for local in (str(tmp_path), "/home/", f"{Path.home()}/", "secret"):
        assert local.encode() not in sent(publication), local
    assert json.loads((model / "adapter_config.json").read_text())["base_model_name_or_path"] == base  # it still loads


def test_old_folders_are_published_without_local_paths_and_credentials(folder: Path) -> None:
    config, stats = folder / "synthesizer_config.json", folder / "stats.json"
    source = {"location": "https://bob:S3cretPW@host/a?sig=S3cretPW", "split": "train", "revision": "0"}
    values = {**json.loads(config.read_text()), "model": f"{folder}/model", "source": source}
    config.write_text(json.dumps(values))
    stats.write_text(json.dumps({**json.loads(stats.read_text()), "workers": [{"host": f"{Path.home()}/x"}]}))
    published = sent(checked(folder))
    for told in (b"S3cretPW", str(folder).encode(), f"{Path.home()}/".encode()):
        assert told not in published, told


# --- secrets --------------------------------------------------------------------------------------------------------

ALNUM = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA"
HEX = "0123456789abcdef" * 4
SECRETS = {
    "huggingface": "hf_" + ALNUM + "ab",
    "huggingface-org": "api_org_" + ALNUM + "ab",
    "openai": "sk-proj-" + ALNUM + "_-" + ALNUM,
    "anthropic": "sk-ant-api03-" + ALNUM + ALNUM,
    "openrouter": "sk-or-v1-" + HEX,
    "github": "ghp_" + ALNUM + "abcd",
    "github-fine-grained": "github_pat_" + ALNUM + "_" + ALNUM,
    "gitlab": "glpat-" + ALNUM[:20],
    "aws": "AKIA" + "Q3W4E5R6T7Z8U9I2",
    "aws-secret": "aws_secret_access_key = " + "aB3/" * 10,
    "google": "AIza" + ALNUM + "abc",
    "google-oauth": "ya29." + ALNUM + ALNUM,
    "azure-storage": "AccountKey=" + "aB3/" * 21 + "ab==",
    "slack": "xoxb-123456789012-" + ALNUM,
    "slack-webhook": "https://hooks.slack.com/services/T0ABCDEFG/B0ABCDEFG/" + ALNUM[:24],
    "wandb": "wandb_v1_" + ALNUM + ALNUM,
    "wandb-old": "machine api.wandb.ai login user password " + HEX[:40],
    "wandb-variable": "export WANDB_API_KEY=" + HEX[:40],
    "npm": "npm_" + ALNUM + "abcd",
    "pypi": "pypi-AgEIcHlwaS5vcmc" + ALNUM + ALNUM,
    "stripe": "sk_live_" + ALNUM[:24],
    "sendgrid": "SG." + ALNUM[:22] + "." + ALNUM + ALNUM[:11],
    "databricks": "dapi" + HEX[:32],
    "replicate": "r8_" + ALNUM + "abcde",
    "groq": "gsk_" + ALNUM + ALNUM[:20],
    "docker": "dckr_pat_" + ALNUM[:27],
    "vault": "hvs." + ALNUM + ALNUM,
    "private-key": "-----BEGIN OPENSSH PRIVATE KEY-----\n" + ALNUM * 3,
}
HARMLESS = [
    "hf_hub_download(repo_id) and hf_transfer",
    "sk-learn, task-based-and-quite-a-long-hyphenated-word-list-here",
    "The string -----BEGIN RSA PRIVATE KEY----- begins a key file.",
    "AKIAIOSFODNN7EXAMPLE",
    "AKIAXXXXXXXXXXXXXXXX",
    "risk-" + ALNUM,
    "xoxb-your-token",
    "npm_config_registry",
    "ghp_xxx",
    "AIza",
    "SG.1.2",
    "glpat-<token>",
    HEX,
    "WANDB_API_KEY=your-key",
    "https://api.wandb.ai/graphql",
    "sha256:" + HEX,
    "aws_secret_access_key = YOUR_SECRET",
]


def test_every_kind_of_secret_has_its_example() -> None:
    assert set(SECRETS) == {rule.name for rule in rules()}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_of_each_kind_is_found_wherever_it_stands(folder: Path, kind: str) -> None:
    about = {rule.name: rule.about for rule in rules()}[kind]
    for text in (SECRETS[kind], f"key: {SECRETS[kind]}, and more", f'{{"a": "{SECRETS[kind]}"}}'):
        assert secret_in(text) == about
    (folder / "a.bin").write_bytes(b"\0\xff" + SECRETS[kind].encode() + b"\0")
    with pytest.raises(OutputError, match=f"{kind}:") as caught:
        checked(folder, include=("a.bin",))
    assert SECRETS[kind] not in str(caught.value) and "--allow-secrets" in caught.value.hint
    found = caught.value.hint.rpartition(" ")[2]
    for allowed in (found, kind):
        assert "a.bin" in checked(folder, include=("a.bin",), allowed=(allowed,)).files


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_secret_is_none(text: str) -> None:
    assert secret_in(text) is None and secret_in(f"a {text} b") is None


@pytest.mark.parametrize("column", ["text", "pairs", "raw", "names", "kind", "tags"])
def test_a_secret_in_the_data_is_named_by_row_and_column(tmp_path: Path, column: str) -> None:
    rows: list[dict[str, Any]] = [
        {"text": f"text {n}", "pairs": [{"instruction": "q", "response": "a"}], "raw": b"x", "names": {"a": "x"}}
        | {"kind": "one", "tags": [["a"], []]}
        for n in range(5000)
    ]
    secret = SECRETS["slack"]
    hidden = {"pairs": [{"instruction": "q", "response": secret}], "raw": secret.encode(), "names": {"a": secret}}
    rows[4321][column] = (hidden | {"tags": [[], [f"x {secret}"]]}).get(column, f"It is {secret}.")
    table = pa.Table.from_pylist(rows)
    at = table.column_names.index("kind")
    table = table.set_column(at, "kind", table["kind"].dictionary_encode())
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=1000)
    with pytest.raises(OutputError, match=rf"x.parquet, row 4,321 \(from 0\), column {column} \(a Slack token"):
        refuse_leaks(CorpusFiles(tmp_path), ["x.parquet"], token=None)
    refuse_leaks(CorpusFiles(tmp_path), ["x.parquet"], token=None, allowed=["slack"])


def test_values_that_stand_side_by_side_make_no_secret_and_hide_none(tmp_path: Path) -> None:
    apart = [SECRETS["slack"][:20], SECRETS["slack"][20:]]
    pq.write_table(pa.table({"text": apart}), tmp_path / "x.parquet")
    refuse_leaks(CorpusFiles(tmp_path), ["x.parquet"], token=None)
    pq.write_table(pa.table({"text": ["ends with a letter", SECRETS["huggingface"], "x"]}), tmp_path / "x.parquet")
    with pytest.raises(OutputError, match="row 1 "):
        refuse_leaks(CorpusFiles(tmp_path), ["x.parquet"], token=None)


def test_what_a_parquet_file_says_of_itself_is_searched(tmp_path: Path) -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({"made": SECRETS["npm"]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(OutputError, match="its schema"):
        refuse_leaks(CorpusFiles(tmp_path), ["x.parquet"], token=None)


def test_ones_own_token_never_passes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("it is hf_loopback.")
    with pytest.raises(OutputError, match="your own"):
        refuse_leaks(CorpusFiles(tmp_path), ["a.txt"], token="hf_loopback", allowed=["huggingface", "own:x"][:1])
    with pytest.raises(ConfigError, match="no kind of secret"):
        refuse_leaks(CorpusFiles(tmp_path), ["a.txt"], token="hf_loopback", allowed=["own"])


CORPORA = Path(__file__).parents[3] / "shared" / "data" / "corpora"
DEMO = Path(__file__).parents[2] / "examples" / "corpus.jsonl"


@pytest.mark.parametrize("name", ["demo", "finance", "general", "medicine"])
def test_real_corpora_hold_no_false_alarm(tmp_path: Path, name: str) -> None:
    path = DEMO if name == "demo" else CORPORA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the corpus {name} is not at hand")
    content = path.read_bytes() if name == "demo" else gzip.decompress(path.read_bytes())
    (tmp_path / "x.jsonl").write_bytes(content)
    refuse_leaks(CorpusFiles(tmp_path), ["x.jsonl"], token=None)


# --- the card -------------------------------------------------------------------------------------------------------

INVISIBLE = [
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    0x61C,
    0xAD,
    0xFEFF,
    0xE0041,
    0xE0100,
]
LINKS = [
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "LICENSE",
    "//host/x",
    "https://h/ x",
    "http://",
]
REFS = [
    "../x",
    "a b",
    "a\nb",
    "",
    "x..y",
    "x/../y",
    "-x",
    "/x",
    "x/",
    "x//y",
    ".x",
    "x.lock",
    "x~1",
    "x^",
    "a:b",
    "a@{b",
]


def test_invisible_characters_become_visible() -> None:
    for character in map(chr, INVISIBLE):
        assert character not in as_code(f"a{character}b") and character not in as_block(f"a{character}b")


def test_a_hostile_folders_card_shows_text_and_web_links_alone(folder: Path) -> None:
    traps = "".join(map(chr, INVISIBLE)) + " <script>alert(1)</script> [x](javascript:alert(1)) <img src=x onerror=a>"
    texts = [f"{traps} {n}\n\n# {traps}\n```\n~~~\n<!-- hfsynth:end -->" for n in range(2)]
    path = folder / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({"text": texts}), path)
    (folder / ".hfsynth" / "manifest.json").unlink()
    config = json.loads((folder / "synthesizer_config.json").read_text())
    config |= {"model": f"m {traps}", "source": {**config["source"], "location": f"docs {traps}"}}
    (folder / "synthesizer_config.json").write_text(json.dumps(config))
    link = "https://example.org/licence"
    stated = CardSettings("other", f"A {traps}", link, ("en",), f"Title {traps}", "user/corpus")
    text = write_card(folder, stated).path.read_text()
    assert not {chr(number) for number in INVISIBLE} & set(text)
    body = text.rpartition("hfsynth:begin")[2].partition("-->\n")[2]
    for token in MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(body):
        for inner in (token, *(token.children or ())):
            assert not inner.type.startswith("html") or "hfsynth" in inner.content or "alert" not in inner.content
            for aim in (inner.attrGet("href"), inner.attrGet("src")):
                assert aim is None or str(aim).startswith(("https://", "http://", "plots/", "#", "synth", "croiss")), (
                    aim
                )
    assert Card.parse(text).metadata["license_link"] == link


@pytest.mark.parametrize("link", LINKS)
def test_a_link_that_is_none_of_the_web_is_refused(folder: Path, link: str) -> None:
    with pytest.raises(ConfigError, match="begin with https"):
        write_card(folder, CardSettings("other", "Mine", link))


@pytest.mark.parametrize("name", REFS)
def test_names_that_no_server_takes_are_refused_before_anything_is_sent(name: str) -> None:
    for options in ({"tag": name}, {"revision": name}):
        with pytest.raises(ConfigError, match="is no name of a"):
            PushOptions(**options)


@pytest.mark.parametrize("name", ["v1", "v1.0-rc.2", "exp/one_2"])
def test_good_names_are_taken(name: str) -> None:
    assert PushOptions(tag=name, revision="main").tag == name


def test_a_cards_template_runs_in_a_sandbox(folder: Path) -> None:
    for template in ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ configs.__class__.__init__.__globals__ }}"):
        with pytest.raises(HfsynthError, match="template fails"):
            write_card(folder, STATED, template=template)
