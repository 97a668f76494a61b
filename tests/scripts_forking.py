"""A module run as a program, where vLLM forks its engine's process, as it does with CUDA.

The CPU build starts it anew, and another one for the computing: two Pythons more that read all of vLLM.
"""

import multiprocessing
import runpy
import sys

_context = multiprocessing.get_context


def _forking(method: str | None = None) -> object:
    return _context("fork" if method == "spawn" else method)


if __name__ == "__main__":
    multiprocessing.get_context = _forking  # type: ignore[assignment]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
