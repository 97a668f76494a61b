"""The private names of other libraries that this project uses, and what to watch when those are upgraded.

No library promises to keep such a name. Whoever raises a version in pyproject.toml reads here what has to hold, and
which tests tell whether it does. A library is imported when its name is needed: most of them are heavy. What is
internal to vLLM bears no underscore, and stays in `engine.vllm` and `engine.vllm_cpu`.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from huggingface_hub import CommitOperationAdd
    from transformers import Trainer


# datasets


def register_for_hashing(kind: type, save: Callable[[Any, Any], None]) -> None:
    """Let `save(pickler, value)` pickle values of a type where `datasets` takes their fingerprint, and only there.

    Watch: `datasets.utils._dill.pklregister`, and that `datasets.fingerprint.Hasher` still pickles by its table. Else
    the engine's flags come into the fingerprint of a map. Tests: `tests/synthesis/test_synthesizer.py`.
    """
    from datasets.utils._dill import pklregister

    pklregister(kind)(save)


def fingerprint_of(rows: Dataset) -> str:
    """Return what stands for the rows of a dataset and everything that was done to them.

    Watch: `Dataset._fingerprint`. Were it to change for the same rows, what is rendered and mixed would be made anew
    instead of found in the cache, and an export would be taken for one of other rows. Tests:
    `tests/texts/test_rendering.py`.
    """
    return str(rows._fingerprint)


def saved_state(state: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the fingerprint and the file names in the `state.json` of a `save_to_disk` folder; may raise KeyError.

    Watch: the keys `_fingerprint` and `_data_files`, which folders on disk have too. Tests:
    `tests/documents/test_sources.py`.
    """
    return str(state["_fingerprint"]), [str(file["filename"]) for file in state["_data_files"]]


def streamed_files(rows: IterableDataset) -> Iterator[str]:
    """Yield the files that a stream goes through; none where it does not tell.

    Watch: `IterableDataset._ex_iterable`, the chain of `ex_iterable` below it, and the names `original_files` and
    `base_files` in the builders' `kwargs`. Without them the origin of a stream is unknown: the card then asks for it.
    Tests: `tests/publishing/test_saving.py`.
    """
    inner: Any = getattr(rows, "_ex_iterable", None)
    while inner is not None:
        arguments = getattr(inner, "kwargs", None) or {}
        yield from (str(path) for path in arguments.get("original_files") or arguments.get("base_files") or ())
        inner = getattr(inner, "ex_iterable", None)


# huggingface_hub


def retried_statuses() -> tuple[int, ...]:
    """Return the statuses after which huggingface_hub would call again by itself.

    Watch: `utils._http._DEFAULT_RETRY_ON_STATUS_CODES`. A status that is missing here is waited for twice, once by the
    library without a word. Tests: `tests/publishing/test_hub.py`.
    """
    from huggingface_hub.utils._http import _DEFAULT_RETRY_ON_STATUS_CODES

    return _DEFAULT_RETRY_ON_STATUS_CODES


def ask_upload_modes(
    operations: Sequence[CommitOperationAdd],
    *,
    where: tuple[str, str, str],
    headers: dict[str, str],
    endpoint: str,
    pull: bool,
) -> None:
    """Ask the Hub which files belong into the storage; the operations remember it. `where`: repo, its kind, revision.

    Watch: `_commit_api._fetch_upload_modes` and its parameters, and that `CommitOperationAdd._upload_mode` is None
    until then. Tests: `tests/publishing/test_push_faults.py`.
    """
    from huggingface_hub._commit_api import _fetch_upload_modes

    unasked = [operation for operation in operations if operation._upload_mode is None]
    repo, kind, revision = where
    _fetch_upload_modes(unasked, kind, repo, headers, quote(revision, safe=""), endpoint, pull)


def waits_for_storage(operation: CommitOperationAdd) -> bool:
    """Say whether the content of a file belongs into the storage and has not been sent there.

    Watch: `_upload_mode` is "lfs" for such a file, `_should_ignore` tells of a .gitignore, `_is_uploaded` of a content
    sent. Tests: `tests/publishing/test_push_faults.py`.
    """
    return operation._upload_mode == "lfs" and not operation._should_ignore and not operation._is_uploaded


def note_stored(operation: CommitOperationAdd) -> None:
    """Let a commit take the content of a file as sent.

    Watch: `HfApi.create_commit` sends nothing for an operation whose `_is_uploaded` is true. Else every content goes
    twice. Tests: `tests/publishing/test_push_faults.py`.
    """
    operation._is_uploaded = True


def storage_token_url(repo: str, kind: str, *, revision: str | None, endpoint: str) -> str:
    """Return where a token to write to the storage comes from; `revision` is None for a pull request yet to be made.

    Watch: `utils._xet.xet_connection_info_refresh_url`, and that the Hub takes `create_pr=1`. Tests:
    `tests/publishing/test_push_refusals.py`.
    """
    from huggingface_hub.utils import XetTokenType
    from huggingface_hub.utils._xet import xet_connection_info_refresh_url

    url = xet_connection_info_refresh_url(
        token_type=XetTokenType.WRITE,
        repo_id=repo,
        repo_type=kind,
        revision=quote(revision, safe="") if revision else None,
        endpoint=endpoint,
    )
    return url if revision else f"{url}?create_pr=1"


# multiprocessing and its twin multiprocess, torch


def reimports_a_script() -> bool:
    """Say whether this process was started by multiprocessing and is still importing the script that started it.

    Watch: `_inheriting` of the current process, which the `spawn` module of Python sets and takes away. Else a script
    without a guard starts engines for ever. Tests: `tests/engine/test_engine_start.py`.
    """
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


def place_in_pool() -> int:
    """Return this worker's place among its pool's, counted from 0 wherever the pool's numbers begin.

    Watch: `_identity` of the current process, a tuple that ends with the worker's number. Else workers of a map ask for
    the same GPU first. Tests: `tests/engine/test_engine_start.py`.
    """
    import multiprocess

    identities = [module.current_process()._identity for module in (multiprocess, multiprocessing)]
    return next((identity[-1] - 1 for identity in identities if identity), 0)


def forked_after_cuda() -> bool:
    """Say whether this process was forked from one in which torch had CUDA in use; it loads no torch.

    Watch: `torch.cuda._is_in_bad_fork`. Else torch refuses later, with a stack instead of a sentence. Tests:
    `tests/contract/test_cuda_fork.py`.
    """
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda._is_in_bad_fork())


# transformers


def on_device(trainer: Trainer, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a batch where the model is, as the trainer does for every step of training.

    Watch: `Trainer._prepare_inputs`. Tests: `tests/training/test_training.py`.
    """
    found: Mapping[str, Any] = trainer._prepare_inputs(inputs)
    return found


# vllm


def call_before_sampling(runners: Any, call: Callable[[Any], None]) -> None:  # noqa: ANN401
    """Have `call(runner)` called before a model runner of vLLM of this class draws tokens; once a class.

    Watch: `_sample` of `vllm.v1.worker.cpu_model_runner.CPUModelRunner`, and that its `discard_request_mask` and
    `input_batch.generators` are those of the step then. Else an engine on a CPU dies where a sampled completion begins
    with a prompt that is computed in parts. Tests: `tests/engine/test_vllm_cpu.py`.
    """
    sample = runners._sample
    if getattr(sample, "calls_before", False):
        return

    def sampled(runner: Any, *given: Any) -> Any:  # noqa: ANN401
        call(runner)
        return sample(runner, *given)

    sampled.calls_before = True  # type: ignore[attr-defined]
    runners._sample = sampled


def answer_in_this_process(registry: Any) -> None:  # noqa: ANN401 - vllm.model_executor.models.registry
    """Let vLLM ask a model's class in this process what it can do, instead of in a Python of its own.

    Watch: `registry._run_in_subprocess`, a function that is called with a function and returns its result. Where it is
    gone a model's first load on a machine takes seconds longer, and dies where torchvision was built for another
    torch. Tests: `tests/engine/test_vllm_engine.py`.
    """
    registry._run_in_subprocess = lambda ask: ask()
