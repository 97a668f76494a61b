"""Install a CUDA build of torch beside the environment, and run what needs one. It is several gigabytes large.

make fork
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).parent


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hfsynth-torch-") as folder:
        sys.stderr.write("Installing a CUDA build of torch, several gigabytes, for this check alone.\n")
        wanted = f"torch=={torch.__version__.partition('+')[0]}"
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--no-cache-dir", "--target", folder]
        subprocess.run([*install, "--only-binary", ":all:", wanted], check=True)
        command = [sys.executable, "-m", "pytest", "-q", str(HERE / "test_cuda_fork.py")]
        sys.exit(subprocess.run(command, env={**os.environ, "HFSYNTH_CUDA_TORCH": folder}, check=False).returncode)


if __name__ == "__main__":
    main()
