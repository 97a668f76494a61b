"""The same job as an indexed Job of Kubernetes: each pod runs the same command and begins with its share. Pure text.

Pods share the corpus folder through a volume that many may write to. A pod that is evicted is replaced, whatever the
cause, and what it had in hand is anybody's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import yaml

from hfsynth.job.shares import COMPLETIONS
from hfsynth.job.task_command import job_name, required, shared_folder, task_command, task_number

_RETRIES = 6
_ROOM = 60  # seconds beyond the grace, within which a pod's command ends
_EVICTED = {"type": "DisruptionTarget", "status": "True"}  # no failure of the work: it counts as no retry
_HEAD = """\
# kubectl apply -f FILE
# The claim is for a volume that many pods may write to (ReadWriteMany). Private models and data want a token:
# kubectl create secret generic hf-token --from-literal=token=hf_...
"""


def indexed_job(
    arguments: Sequence[str],
    *,
    out: str,
    pods: int | None,
    image: str | None,
    claim: str | None,
    gpus: int,
    grace: float = 30.0,
) -> str:
    """Return a Job in YAML whose `pods` run `hfsynth` with these arguments, one worker with `gpus` GPUs each.

    `image` has hfsynth and its engine, `claim` is for the volume that is mounted at the parent of `out`. Raise
    ConfigError where one of them is missing.
    """
    number = task_number(pods, "An indexed Job")
    folder = shared_folder(out)
    container = {
        "name": "hfsynth",
        "image": required(image, "--image", "An image with hfsynth and its engine", "REGISTRY/NAME:TAG"),
        "command": task_command(arguments),
        "env": [{"name": COMPLETIONS, "value": str(number)}, _token()],
        **({"resources": {"limits": {"nvidia.com/gpu": gpus}}} if gpus else {}),
        "volumeMounts": [{"name": "corpus", "mountPath": folder}, *_memory_mounts(gpus)],
    }
    volume = {"claimName": required(claim, "--claim", "The claim for the volume that the pods share", "NAME")}
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": math.ceil(grace + _ROOM),
        "containers": [container],
        "volumes": [{"name": "corpus", "persistentVolumeClaim": volume}, *_memory(gpus)],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(out)},
        "spec": {
            "completionMode": "Indexed",
            "completions": number,
            "parallelism": number,
            "backoffLimitPerIndex": _RETRIES,
            "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [_EVICTED]}]},
            "template": {"spec": pod},
        },
    }
    return _HEAD + yaml.safe_dump(job, sort_keys=False, width=1000)


def _token() -> dict[str, Any]:
    """Return the variable with the Hub's token, which is not there where the secret is not."""
    return {
        "name": "HF_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "token", "optional": True}},
    }


def _memory(gpus: int) -> list[dict[str, Any]]:
    """Return the shared memory through which the processes of an engine on several GPUs speak; pods have little."""
    return [{"name": "memory", "emptyDir": {"medium": "Memory"}}] if gpus > 1 else []


def _memory_mounts(gpus: int) -> list[dict[str, Any]]:
    return [{"name": "memory", "mountPath": "/dev/shm"}] if gpus > 1 else []
