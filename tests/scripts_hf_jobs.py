"""Whoever has HF Jobs fill a folder that is described: run as `scripts_hf_jobs.py OUT {"jobs": 3, …}`.

The command line takes object stores alone; here jobs are processes of this machine, and a folder is what they share.
"""

from __future__ import annotations

import json
import sys

from hfsynth.core.errors import HfsynthError
from hfsynth.job.hf_jobs import crew
from hfsynth.job.hf_jobs.api import HfJobs
from hfsynth.job.hf_jobs.launch import Asked, There, carry_out_there
from hfsynth.job.join import require_plan
from hfsynth.job.opening import open_site
from hfsynth.job.settings import JobSettings

EVERY = 0.2
crew.SEEN_OUT = 3.0


def main() -> int:
    out, options = sys.argv[1], json.loads(sys.argv[2])
    asked = Asked(**{"flavor": "cpu-basic", **options})
    there = There.open(asked, HfJobs(timeout=5))
    with open_site(out) as site:
        order = there.order(out, require_plan(site), JobSettings.read(site.corpus).engine)
        carry_out_there(there, order, site, say=say, every=EVERY)
    return 0


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HfsynthError as error:
        say(str(error))
        sys.exit(error.exit_code)
