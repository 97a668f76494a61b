"""Say what mlcroissant finds wrong with a description, and which rows it reads by it. Runs where that is installed.

python read_croissant.py DESCRIPTION [RECORD_SET …]
"""

from __future__ import annotations

import json
import sys
import warnings

warnings.simplefilter("ignore")  # of its libraries about each other

import mlcroissant  # noqa: E402


def plain(value: object) -> object:
    """Return a value of a row as JSON has it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {name: plain(own) for name, own in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else str(value)


found = mlcroissant.Dataset(jsonld=sys.argv[1])
issues = found.metadata.ctx.issues
rows = {name: [plain(dict(row)) for row in found.records(name)] for name in sys.argv[2:]}
print(json.dumps({"errors": sorted(issues.errors), "warnings": sorted(issues.warnings), "rows": rows}))  # noqa: T201
