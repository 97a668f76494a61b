"""The same job for SkyPilot: a managed job that is launched many times over, each with its share. Pure text.

Jobs share the corpus folder through a volume. SkyPilot replaces a machine that is lost, and the job goes on.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from hfsynth.job.task_command import job_name, required, shared_folder, task_command, task_number


def managed_job(
    arguments: Sequence[str],
    *,
    out: str,
    jobs: int | None,
    volume: str | None,
    accelerators: str | None,
    image: str | None,
    gpus: int,
) -> str:
    """Return a managed job in YAML that runs `hfsynth` with these arguments, one worker with `gpus` GPUs.

    `volume` is mounted at the parent of `out`. `accelerators` name the GPU, as H100 or H100:2; without an `image`
    hfsynth is installed. Raise ConfigError where the volume is missing, or the GPU that an engine needs.
    """
    number = task_number(jobs, "A SkyPilot job")
    name = job_name(out)
    resources: dict[str, Any] = {"image_id": f"docker:{image}"} if image else {}
    if gpus:
        kind = required(accelerators, "--accelerators", "The kind of GPU", "H100")
        resources["accelerators"] = kind if ":" in kind else f"{kind}:{gpus}"
    extra = "vllm" if gpus else "server"
    job = {
        "name": name,
        **({"resources": resources} if resources else {}),
        "volumes": {shared_folder(out): required(volume, "--claim", "The volume that the jobs share", "NAME")},
        **({} if image else {"setup": f"pip install 'hfsynth[{extra}]'"}),
        "run": f"exec {shlex.join(task_command(arguments))}",
    }
    head = f"# sky jobs launch --num-jobs {number} FILE\n# Private models and data want a token: --secret HF_TOKEN\n"
    return head + yaml.safe_dump(job, sort_keys=False, width=1000)
