"""Make an environment for each trainer in build/trainers, read an export there, and say what could not be installed.

One more is Croissant's own library, which reads a corpus by its description.

    python tests/trainers/environments.py [NAME …]

Each trainer's requirements exclude ours or another's, so each has an environment of its own: `make trainers` makes all
of them (about 10 GB, a few minutes where the index is near) and runs tests/trainers. Needs the standard library alone,
and uv on the PATH or the index it can be installed from.
"""

# ruff: noqa: T201
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "trainers"

sys.path.insert(0, str(ROOT / "locks"))
from install import index_settings  # noqa: E402


@dataclass(frozen=True)
class Environment:
    """A trainer: what is installed, what of that without its own requirements, and what is an empty module.

    Empty is what has to be there to be imported, is not used for text, and cannot be imported beside the CPU's torch.
    """

    name: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    torch: bool = True


TORCH = "torch==2.13.0+cpu"
# axolotl requires CUDA's kernels and a hundred packages that its loader does not import.
AXOLOTL = (
    *("transformers==5.16.1", "datasets==4.8.4", "accelerate==1.13.0", "peft==0.20.0", "trl==1.9.0", "huggingface_hub"),
    *("pydantic", "addict", "fire", "PyYAML", "requests", "einops", "colorama", "numba", "numpy", "packaging", "scipy"),
    *("sentencepiece", "evaluate", "pillow", "python-dotenv"),
)
ENVIRONMENTS = (
    Environment("croissant", ("mlcroissant[parquet]==1.1.1",), torch=False),
    Environment("axolotl", AXOLOTL, alone=("axolotl==0.19.0",)),
    Environment("litdata", ("torchvision", "litdata==0.2.76")),
    Environment("litgpt", ("litgpt==0.5.13", "litdata==0.2.76")),
    Environment("llama-factory", ("llamafactory==0.9.5",), empty=("torchaudio",)),
    Environment("megatron", ("megatron-core==0.16.1",)),
    Environment("nanotron", ("datatrove==0.10.1",)),
    Environment("olmo", ("ai2-olmo-core==3.0.0",)),
    Environment("torchtitan", ("torchtitan==0.3.0", "triton")),
    Environment("trl", ("trl==1.16.0",)),
)
UNFIT = ("torchvision", "torchaudio", "torchcodec")
"""What comes for CUDA's torch, and keeps transformers and lightning from being imported beside the CPU's."""


def made(chosen: Environment, uv: str) -> str:
    """Make an environment, and return why it could not be; nothing where it is there."""
    folder = PLACE / chosen.name
    done = folder / ".ready"
    if done.is_file() and done.read_text() == repr(chosen):
        return ""
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "bin" / "python"
    install = [uv, "pip", "install", "--python", str(python)]
    steps: list[Sequence[str]] = [[uv, "venv", "--python", sys.executable, str(folder)]]
    steps += [[*install, "--no-deps", *chosen.alone]] if chosen.alone else []
    steps += [[*install, *((TORCH,) if chosen.torch else ()), *chosen.packages]]
    steps += [[uv, "pip", "uninstall", "--python", str(python), *UNFIT]] if chosen.torch else []
    for step in steps:
        environment = os.environ | index_settings(Path(sys.executable))
        ran = subprocess.run(step, capture_output=True, text=True, env=environment, check=False)
        if ran.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            return " ".join(ran.stderr.split())[-300:]
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in chosen.empty:
        (packages / f"{name}.py").touch()
    done.write_text(repr(chosen))
    return ""


def uv_here() -> str:
    """Return the path of uv, installed beside the environments where there is none."""
    found = shutil.which("uv")
    if found is None:
        tools = PLACE / ".tools"
        subprocess.run([sys.executable, "-m", "venv", tools], check=True)
        subprocess.run([tools / "bin" / "python", "-m", "pip", "install", "-qq", "uv"], check=True)
        found = str(tools / "bin" / "uv")
    return found


def main(names: Sequence[str]) -> int:
    """Make the environments of these names, all where none is given, and read exports in those that are there."""
    uv = uv_here()
    failed = {}
    for chosen in ENVIRONMENTS:
        if not names or chosen.name in names:
            print(f"{chosen.name}: {' '.join((*chosen.alone, *chosen.packages))}"[:110], flush=True)
            if why := made(chosen, uv):
                failed[chosen.name] = why
    tests = [sys.executable, "-m", "pytest", "-q", "-rs", str(Path(__file__).parent)]
    ran = subprocess.run(tests, cwd=ROOT, check=False)
    for name, why in failed.items():
        print(f"{name} could not be installed: {why}")
    return ran.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
