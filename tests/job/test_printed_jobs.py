"""Files for schedulers: what is in them, and that what they start does the job. No scheduler is here."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jobs import command, documents, ended, journaled, parts, run, scripted, start, until
from started import start_process

from hfsynth.core.errors import ConfigError
from hfsynth.job.kubernetes import indexed_job
from hfsynth.job.shares import Share
from hfsynth.job.skypilot import managed_job
from hfsynth.job.slurm import array_script
from hfsynth.job.task_command import job_name, shared_folder, task_command

TESTS = Path(__file__).parents[1]
ASKED = ["synthesize", "user/raw", "/data/corpus", "--shots", "2"]


def printed(arguments: list[str]) -> str:
    code, text, errors = ended(start(arguments))
    assert code == 0, errors
    return text


# --- the command of a task ----------------------------------------------------------------------------------------


def test_a_task_runs_the_same_command_without_what_says_who_works() -> None:
    others = [
        "--workers",
        "8",
        "--launcher=slurm",
        "--sbatch",
        "--time=1:00",
        "--submit",
        "--share",
        "1/2",
        "--claim=x",
    ]
    assert task_command([*ASKED, *others, "--seed", "3"]) == ["hfsynth", *ASKED, "--seed", "3", "--workers", "1"]


@pytest.mark.parametrize(
    ("out", "name"),
    [("/data/My_corpus.v2", "hfsynth-my-corpus-v2"), ("/data/-", "hfsynth"), (f"/d/{'x' * 60}", f"hfsynth-{'x' * 32}")],
)
def test_names_of_jobs(out: str, name: str) -> None:
    assert job_name(out) == name


@pytest.mark.parametrize("out", ["corpus", "/corpus", "./data/corpus", "/data/../corpus"])
def test_a_volume_must_be_mounted_somewhere(out: str) -> None:
    with pytest.raises(ConfigError, match="mounted"):
        shared_folder(out)


# --- Slurm --------------------------------------------------------------------------------------------------------


def test_the_settings_of_an_array() -> None:
    lines = ["--comment=a b", '--account="x y"', "--time=8:00:00", "--signal=B:USR1@600"]
    script = array_script(["synthesize", "a b", "out"], tasks=3, shards=None, gpus=2, grace=60.0, lines=lines)
    found = script.splitlines()
    for line in (
        "--requeue",
        "--array=0-2",
        "--gpus-per-task=2",
        '--comment="a b"',
        '--account="x y"',
        "--time=8:00:00",
    ):
        assert f"#SBATCH {line}" in found
    assert [line for line in found if "--signal" in line] == [
        "#SBATCH --signal=B:USR1@150",
        "#SBATCH --signal=B:USR1@600",
    ]
    assert "hfsynth synthesize 'a b' out --workers 1 &" in found
    assert "--gpus" not in array_script(ASKED, tasks=3, shards=None, gpus=0)
    assert "#SBATCH --array=0-1\n" in array_script(ASKED, tasks=8, shards=2, gpus=0)
    with pytest.raises(ConfigError, match="number of tasks"):
        array_script(ASKED, tasks=None, shards=2, gpus=0)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck here")
def test_shellcheck_finds_nothing_in_the_script(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(array_script([*ASKED, "--keep", 'grounding>=0.5; "x"'], tasks=3, shards=None, gpus=1))
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


class Cluster:
    """What a script finds on a node: hfsynth, a scontrol that notes what it is asked, and Slurm's variables."""

    def __init__(self, folder: Path, script: str, tasks: int) -> None:
        self.requeued, self._tasks = folder / "requeued", tasks
        self._script = folder / "job.sh"
        self._script.write_text(script)
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._stand_in("hfsynth", f'exec {shlex.quote(sys.executable)} -m hfsynth "$@"')
        self._stand_in("scontrol", f'echo "$@" >> {shlex.quote(str(self.requeued))}')

    def _stand_in(self, name: str, line: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def start(self, task: int) -> subprocess.Popen[str]:
        """Start a task as Slurm would."""
        environment = {
            **os.environ,
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join((str(TESTS), *sys.path)),
            "SLURM_ARRAY_JOB_ID": "77",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": str(self._tasks),
            "SLURM_ARRAY_TASK_MIN": "0",
        }
        pipe = subprocess.PIPE
        return start_process(["bash", str(self._script)], env=environment, stdout=pipe, stderr=pipe)

    def asked(self) -> list[str]:
        """Return what scontrol was asked."""
        return self.requeued.read_text().splitlines() if self.requeued.exists() else []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a source, and the corpus that one process made of it."""
    folder = tmp_path_factory.mktemp("whole")
    source = documents(folder / "the texts.jsonl", 80)
    run(command(source, folder / "out", *scripted(), "--shard-rows", 10, "--workers", 0))
    return folder


def test_the_tasks_of_an_array_do_the_job_together(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (*scripted(), "--shard-rows", 10, "--launcher", "slurm", "--workers", 2, "--sbatch", "--time=1:00:00")
    script = printed(command(whole / "the texts.jsonl", out, *options))
    assert "#SBATCH --array=0-1\n" in script and "#SBATCH --time=1:00:00\n" in script
    assert not out.exists()
    cluster = Cluster(tmp_path, script, 2)
    for task in [cluster.start(task) for task in (0, 1)]:
        code, _, errors = ended(task)
        assert code == 0, errors
    assert parts(out) == parts(whole / "out")
    assert not cluster.asked()


@pytest.mark.long
def test_a_task_whose_time_is_nearly_up_is_queued_again(whole: Path, tmp_path: Path) -> None:
    """The array's tasks join a job that is described; both are told that their time is up, and are started again."""
    out = tmp_path / "out"
    run(command(whole / "the texts.jsonl", out, *scripted(latency=0.1), "--shard-rows", 10, "--describe"))
    arguments = command("", out, "--model", "scripts_kill:noted", "--launcher", "slurm", "--workers", 4)
    script = printed([*arguments[:3], "work", *arguments[5:]])
    cluster = Cluster(tmp_path, script, 4)
    tasks = [cluster.start(task) for task in (1, 3)]
    assert until(lambda: journaled(out) >= 4, tasks[0])
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
    for task in tasks:
        code, _, errors = ended(task)
        assert code == 143, errors
    assert sorted(cluster.asked()) == ["requeue 77_1", "requeue 77_3"]
    assert not (out / "pairs").exists()
    cancelled = cluster.start(0)
    before = journaled(out)
    assert until(lambda: journaled(out) != before, cancelled)
    cancelled.send_signal(signal.SIGTERM)
    assert ended(cancelled)[0] == 143
    assert len(cluster.asked()) == 2, "who is cancelled is not queued again"
    for task in [cluster.start(task) for task in (1, 3)]:
        code, _, errors = ended(task)
        assert code == 0, errors
    assert parts(out) == parts(whole / "out")


def test_a_script_that_cannot_be_submitted(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", 5)
    arguments = command(source, tmp_path / "out", *scripted(), "--submit")
    assert ended(start([*arguments, "--launcher", "slurm"]))[0] == 2
    code, _, errors = ended(start([*arguments, "--launcher", "slurm", "--workers", "1"]))
    assert (code, "no sbatch" in errors) == (2, True)
    code, _, errors = ended(start([*arguments, "--launcher", "kubernetes", "--workers", "1"]))
    assert (code, "Print the file" in errors) == (2, True)


# --- Kubernetes ---------------------------------------------------------------------------------------------------


def kubernetes_job(gpus: int = 1, **given: Any) -> dict[str, Any]:  # noqa: ANN401
    settings = {"out": "/data/corpus", "pods": 4, "image": "registry/hfsynth:1", "claim": "shared", "grace": 45.0}
    found: dict[str, Any] = yaml.safe_load(indexed_job(ASKED, gpus=gpus, **{**settings, **given}))
    return found


def test_an_indexed_job() -> None:
    job = kubernetes_job(gpus=2)
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("batch/v1", "Job", "hfsynth-corpus")
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    assert spec["backoffLimitPerIndex"] > 0 and "backoffLimit" not in spec
    assert spec["podFailurePolicy"]["rules"][0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # which the limit by index asks for
    assert pod["terminationGracePeriodSeconds"] > 45
    (container,) = pod["containers"]
    assert container["command"] == task_command(ASKED) and container["image"] == "registry/hfsynth:1"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 2}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"corpus": "/data", "memory": "/dev/shm"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["corpus"]["persistentVolumeClaim"] == {"claimName": "shared"}
    assert volumes["memory"]["emptyDir"] == {"medium": "Memory"}
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert Share.found({**variables, "JOB_COMPLETION_INDEX": "3", "HF_TOKEN": ""}) == Share(
        3, 4, "JOB_COMPLETION_INDEX"
    )


def test_a_pod_without_a_gpu_asks_for_none() -> None:
    (container,) = kubernetes_job(gpus=0)["spec"]["template"]["spec"]["containers"]
    assert "resources" not in container and len(container["volumeMounts"]) == 1


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_a_job_keeps_to_the_schema_of_kubernetes(gpus: int) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="the schemas of Kubernetes are not installed")
    validate.validate(kubernetes_job(gpus), "1.29", strict=True)
    validate.validate(kubernetes_job(gpus), validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("given", "missing"), [({"pods": None}, "--workers"), ({"image": None}, "--image"), ({"claim": ""}, "--claim")]
)
def test_what_an_indexed_job_needs(given: dict[str, Any], missing: str) -> None:
    with pytest.raises(ConfigError) as error:
        kubernetes_job(**given)
    assert missing in (error.value.hint or "")


def test_the_command_line_prints_a_job_without_looking_at_folders_that_are_elsewhere(tmp_path: Path) -> None:
    cluster = ("--launcher", "kubernetes", "--workers", 3, "--image", "x", "--claim", "shared")
    for engine, limits in (("vllm", {"nvidia.com/gpu": 2}), ("server", None)):
        options = ("--model", "user/model", "--engine", engine, "--tensor-parallel", 2, "--grace", 100)
        job = yaml.safe_load(printed(command("/nowhere/raw.jsonl", "/nowhere/corpus", *options, *cluster)))
        pod = job["spec"]["template"]["spec"]
        assert pod["containers"][0].get("resources", {}).get("limits") == limits
        assert pod["terminationGracePeriodSeconds"] == 160
        assert pod["containers"][0]["command"] == [
            *("hfsynth", "synthesize", "/nowhere/raw.jsonl", "/nowhere/corpus", "--quiet"),
            *map(str, options),
            *("--workers", "1"),
        ]
    arguments = command("", "/nowhere/corpus", *cluster)
    job = yaml.safe_load(printed([*arguments[:3], "work", *arguments[5:]]))
    assert job["spec"]["template"]["spec"]["containers"][0]["command"][:3] == ["hfsynth", "work", "/nowhere/corpus"]


@pytest.mark.long
def test_the_commands_of_pods_do_the_job_together(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    out = tmp_path / "data" / "corpus"
    cluster = ("--launcher", "kubernetes", "--workers", 2, "--image", "x", "--claim", "shared")
    arguments = command(whole / "the texts.jsonl", out, *scripted(), "--shard-rows", 10, *cluster)
    (container,) = yaml.safe_load(printed(arguments))["spec"]["template"]["spec"]["containers"]
    assert container["volumeMounts"][0]["mountPath"] == str(tmp_path / "data")
    variables = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    pods = []
    for index in range(2):
        environment = {
            **os.environ,
            **variables,
            "PYTHONPATH": os.pathsep.join((str(TESTS), *sys.path)),
            "JOB_COMPLETION_INDEX": str(index),
        }
        started = [sys.executable, "-m", *container["command"]]
        pods.append(start_process(started, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    for pod in pods:
        code, _, errors = ended(pod)
        assert code == 0, errors
    assert parts(out) == parts(whole / "out")


# --- SkyPilot -----------------------------------------------------------------------------------------------------


def sky_job(gpus: int = 1, **given: Any) -> dict[str, Any]:  # noqa: ANN401
    settings = {"out": "/data/corpus", "jobs": 4, "volume": "shared", "accelerators": "H100", "image": None}
    found: dict[str, Any] = yaml.safe_load(managed_job(ASKED, gpus=gpus, **{**settings, **given}))
    return found


def test_a_managed_job() -> None:
    assert sky_job() == {
        "name": "hfsynth-corpus",
        "resources": {"accelerators": "H100:1"},
        "volumes": {"/data": "shared"},
        "setup": "pip install 'hfsynth[vllm]'",
        "run": f"exec {shlex.join(task_command(ASKED))}",
    }
    assert sky_job(gpus=2, accelerators="H100:8", image="registry/hfsynth:1")["resources"] == {
        "image_id": "docker:registry/hfsynth:1",
        "accelerators": "H100:8",
    }
    assert "resources" not in sky_job(gpus=0, accelerators=None)
    assert "setup" not in sky_job(image="registry/hfsynth:1")
    assert "--num-jobs 4 " in managed_job(
        ASKED, out="/data/corpus", jobs=4, volume="shared", accelerators="H100", image=None, gpus=1
    )


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"jobs": None}, "--workers"), ({"volume": None}, "--claim"), ({"accelerators": None}, "--accelerators")],
)
def test_what_a_managed_job_needs(given: dict[str, Any], missing: str) -> None:
    with pytest.raises(ConfigError) as error:
        sky_job(**given)
    assert missing in (error.value.hint or "")


def test_the_command_line_prints_a_managed_job_that_joins() -> None:
    cluster = ("--launcher", "skypilot", "--workers", 3, "--claim", "shared", "--accelerators", "L40S")
    arguments = command("", "/nowhere/corpus", *cluster)
    job = yaml.safe_load(printed([*arguments[:3], "work", *arguments[5:]]))
    assert job["run"] == "exec hfsynth work /nowhere/corpus --quiet --workers 1"
    assert job["resources"]["accelerators"] == "L40S:1"
