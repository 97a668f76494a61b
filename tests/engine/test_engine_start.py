"""What must not happen in a process before vLLM is imported, whatever the way to it; and what its children inherit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import multiprocess
import pytest
from engine_ways import WAYS, go
from jobs import TESTS, documents
from started import start_process

from hfsynth.core.config import EngineConfig
from hfsynth.core.devices import claim_device, gpus_at_hand
from hfsynth.core.errors import ConfigError
from hfsynth.engine.start import guard_advice, prepare_process, shielding_children

# Torch is made to look like a CUDA build whose devices can be counted, and whoever counts them is written down.
SPY = """
import importlib.abc, importlib.machinery, os, sys, traceback

class Spy(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        self.spec = importlib.machinery.PathFinder.find_spec(name, path)
        self.loader, self.spec.loader = self.spec.loader, self
        return self.spec
    def create_module(self, spec):
        return self.loader.create_module(spec)
    def exec_module(self, module):
        self.spec.loader = self.loader
        self.loader.exec_module(module)
        module._C._cuda_getDeviceCount = self.count
    def count(self):
        if "vllm" not in sys.modules:
            with open(os.environ["COUNTED"], "a") as file:
                file.write("".join(traceback.format_stack()))
        return 0

sys.meta_path.insert(0, Spy())
"""
# It stands where vLLM would be imported: what comes after is vLLM's own.
REACHED = """
import os
with open(os.environ["REACHED"], "a") as file:
    file.write(f"{os.getpid()}\\n")
raise ImportError("this is as far as it goes")
"""


# It also says which GPU its process was given, and waits for the other one: a pool ends with the first that fails.
TOGETHER = """
import os, sys, time
with open(os.environ["REACHED"], "a") as file:
    file.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {os.getpid()}\\n")
for _ in range(1200):
    if len(open(os.environ["REACHED"]).readlines()) == 2:
        break
    time.sleep(0.05)
raise ImportError("this is as far as it goes")
"""
CHAINS = """
from datasets import load_dataset
import hfsynth
synthesize = hfsynth.Synthesizer({model!r}, shots=2)
ds = load_dataset("json", data_files={source!r}, split="train")
synthesize.map(ds, batch_size=2, num_proc=2)
"""


@pytest.fixture
def spied(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which counting torch's devices is noted, and importing vLLM ends."""
    for folder, name, content in (("spy", "sitecustomize.py", SPY), ("fake/vllm", "__init__.py", REACHED)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(content)
    path = os.pathsep.join(map(str, (tmp_path / "spy", tmp_path / "fake", TESTS, *sys.path)))
    places = {"COUNTED": str(tmp_path / "counted"), "REACHED": str(tmp_path / "reached")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "PYTORCH_"))}
    return {**kept, **places, "PYTHONPATH": path}


def noted(environment: Mapping[str, str], name: str) -> str:
    path = Path(environment[name])
    return path.read_text() if path.exists() else ""


def test_the_spy_sees_a_count(spied: dict[str, str]) -> None:
    pytest.importorskip("torch")
    subprocess.run([sys.executable, "-c", "import torch; torch.cuda.is_available()"], env=spied, check=True)
    assert "is_available" in noted(spied, "COUNTED")


@pytest.mark.parametrize("way", WAYS)
def test_no_way_to_an_engine_counts_devices_before_vllm(
    spied: dict[str, str], tmp_path: Path, tiny_llama: Path, way: str
) -> None:
    ran = go(way, tmp_path, tiny_llama, spied)
    assert ran.returncode != 0 and "this is as far as it goes" in ran.stderr + ran.stdout, ran.stderr
    assert noted(spied, "REACHED")
    assert noted(spied, "COUNTED") == ""


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = tmp_path / "bin" / "nvidia-smi"
    listing.parent.mkdir()
    listing.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: a)'\necho 'GPU 1: H100 (UUID: b)'\n")
    listing.chmod(listing.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{listing.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_each_process_of_synthesize_map_has_its_gpu_before_vllm_is_loaded(
    spied: dict[str, str], two_gpus: None, tmp_path: Path, tiny_llama: Path
) -> None:
    (tmp_path / "fake" / "vllm" / "__init__.py").write_text(TOGETHER)
    code = CHAINS.format(model=str(tiny_llama), source=str(documents(tmp_path / "texts.jsonl", 9)))
    environment = {**spied, "PATH": os.environ["PATH"]}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    ran = subprocess.run([sys.executable, "-c", code], env=environment, stdout=-1, stderr=-1, text=True, timeout=600)
    assert ran.returncode != 0 and "this is as far as it goes" in ran.stderr, ran.stderr
    reached = [line.split() for line in noted(spied, "REACHED").splitlines()]
    assert sorted(device for device, _ in reached) == ["0", "1"]
    assert noted(spied, "COUNTED") == ""
    assert not any(Path(f"/proc/{pid}").exists() for _, pid in reached)


together: Any = None  # a barrier that workers inherit


def prepared(number: int) -> str:
    """Prepare a worker for an engine, as its first batch does; return the GPU it was given, or the error."""
    try:
        for _ in range(2):
            prepare_process({})
    except ConfigError as error:
        return error.message
    finally:
        together.wait(300)
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.parametrize("processes", [2, 3])
def test_each_process_of_a_map_has_a_gpu_of_its_own_and_none_goes_without(two_gpus: None, processes: int) -> None:
    assert gpus_at_hand() == ["0", "1"]
    for _ in range(2):  # a second pool's processes have other numbers, and find the GPUs free again
        globals()["together"] = multiprocess.Barrier(processes)
        with multiprocess.Pool(processes) as pool:
            found = sorted(pool.map(prepared, range(processes), chunksize=1))
        assert found[:2] == ["0", "1"]
        assert found[2:] == ["There are more processes than GPUs: num_proc may be 2 at most."] * (processes - 2)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def claimed(place: int) -> str | None:
    device = claim_device(["a", "b", "c"], place, os.getppid())
    together.wait(300)
    return device


def test_a_gpu_is_claimed_by_place_and_then_by_what_is_free() -> None:
    for places, expected in (([2, 0, 1], ["a", "b", "c"]), ([1, 1, 1], ["a", "b", "c"]), ([5], ["c"])):
        globals()["together"] = multiprocess.Barrier(len(places))
        with multiprocess.Pool(len(places)) as pool:
            assert sorted(pool.map(claimed, places, chunksize=1)) == expected


def refusal(arguments: dict[str, Any]) -> str:
    try:
        prepare_process(arguments)
    except ConfigError as error:
        return f"{error}"
    return ""


def test_an_engine_over_several_gpus_is_refused_in_a_process_of_a_map() -> None:
    with multiprocess.Pool(1) as pool:
        said = pool.apply(refusal, ({"tensor_parallel_size": 2},))
        assert pool.apply(refusal, ({"tensor_parallel_size": 1},)) == ""
    assert "tensor_parallel_size cannot be 2" in said and "--tensor-parallel" in said
    assert refusal({"tensor_parallel_size": 2}) == ""


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import multiprocessing\n"
        "from hfsynth.engine.start import prepare_process\n"
        "prepare_process({})\n"
        "child = multiprocessing.get_context('spawn').Process(target=print)\n"
        "child.start(); child.join(); print('ended', child.exitcode)\n"
    )
    ran = subprocess.run([sys.executable, script], stdout=-1, stderr=-1, text=True, timeout=600)
    assert "ended 1" in ran.stdout
    assert "Put what the script does under `if __name__ == '__main__':`" in ran.stderr
    guarded = script.read_text().replace("prepare_process({})\nchild", "if __name__ == '__main__':\n  child")
    script.write_text(guarded.replace("\nchild.start", "\n  child.start"))
    ran = subprocess.run([sys.executable, script], stdout=-1, stderr=-1, text=True, timeout=600)
    assert "ended 0" in ran.stdout and not ran.stderr


def test_the_advice_names_the_guard_only_where_vllm_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "script.py", raising=False)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    assert "__main__" in guard_advice()
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    assert guard_advice() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the library that torch has on Linux")
def test_threads_that_wait_for_each_other_soon_sleep_unless_the_user_wants_otherwise() -> None:
    pytest.importorskip("torch")
    program = "from hfsynth.engine.start import prepare_process; prepare_process({}); import torch"
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "LD_PRELOAD"))}
    told = {**unset, "OMP_WAIT_POLICY": "ACTIVE", "OMP_DISPLAY_ENV": "VERBOSE"}  # what the library was loaded with
    ran = subprocess.run([sys.executable, "-c", program], stderr=-1, text=True, check=True, env=told)
    assert "GOMP_SPINCOUNT = '1000'" in ran.stderr
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in ran.stderr


def blocked(pid: int) -> set[int]:
    """Return the signals that a process's first thread blocks."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = int(next(line for line in lines if line.startswith("SigBlk")).split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_children_do_not_hear_the_keyboard_and_this_process_does() -> None:
    with shielding_children():
        child = start_process([sys.executable, "-c", "import time; time.sleep(60)"], fresh=True)
        spawned = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
        spawned.start()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(600):
                time.sleep(0.1)
    try:
        for pid in (child.pid, spawned.pid):
            assert {signal.SIGINT, signal.SIGHUP} <= blocked(pid)
            assert signal.SIGTERM not in blocked(pid)
    finally:
        child.kill()
        child.wait()
        spawned.kill()
        spawned.join()
    assert not {signal.SIGINT, signal.SIGHUP} & blocked(os.getpid())
    assert all(thread.name != "hfsynth-signals" or not thread.is_alive() for thread in threading.enumerate())


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    monkeypatch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK", raising=False)
    prepare_process(EngineConfig().arguments)
    assert os.environ["VLLM_CPU_KVCACHE_SPACE"] == "7"
    assert os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"


def test_torch_does_not_say_that_it_has_no_triton() -> None:
    pytest.importorskip("torch")
    program = (
        "import hfsynth.engine.start as start; start.prepare_process({}); "
        "import torch._library.triton as library; library.logger.warning('Triton not available')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Triton" not in done.stderr
