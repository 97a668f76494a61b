"""What HF Jobs are asked for and what that costs: hardware and its price, time limits, what a job installs. Pure.

Money is counted in whole micro-dollars, as the Hub's prices are; a job that runs may cost all that its time limit
allows, one that has ended costs the minutes that it ran.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hfsynth.core.config import EngineConfig
from hfsynth.core.errors import ConfigError
from hfsynth.version import __version__

DEFAULT_TIMEOUT = "4h"
MOST_SECONDS = 7 * 24 * 3600

_MICRO = 1_000_000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_TIMEOUT = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII)
_UNITS_A_HOUR = {"second": 3600.0, "minute": 60.0, "hour": 1.0}
_ADDRESS = re.compile(r"(?:https|git\+https|git\+ssh|hf)://\S+")
_REQUIREMENT = re.compile(r"hfsynth\s*(?:\[[\w\s,-]*\])?\s*(?:(?:==|>=|<=|~=|!=|<|>|@).*)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine that can be had: `name` is its flavor, `hourly` its micro-dollars an hour."""

    name: str
    told: str
    gpus: int
    hourly: int

    def most(self, seconds: int) -> int:
        """Return what a job costs that runs so long, in begun minutes."""
        return math.ceil(math.ceil(seconds / 60) * self.hourly / 60)


def hourly(cost: int, unit: str) -> int:
    """Return the micro-dollars an hour of what costs so much a unit; raise ConfigError for a unit nobody knows."""
    try:
        return math.ceil(cost * _UNITS_A_HOUR[unit])
    except KeyError as error:
        raise ConfigError(
            f"The Hub gives its prices by the {unit!r}, which this version of hfsynth does not know.",
            hint="Update hfsynth.",
        ) from error


def money(micro: int) -> str:
    """Return an amount as people write it: never less than it is."""
    return f"${math.ceil(micro / 10_000) / 100:,.2f}"


def micro_dollars(dollars: float) -> int:
    """Return an amount in micro-dollars, rounded down."""
    return math.floor(round(dollars * _MICRO, 3))


def chosen_hardware(flavor: str | None, there: Sequence[Hardware]) -> Hardware:
    """Return the machine of this name; raise ConfigError, which lists those that there are, for any other."""
    found = next((one for one in there if one.name == flavor), None)
    if found is None:
        listed = "\n".join(f"  {one.name:<20} {money(one.hourly):>8} an hour  {one.told}".rstrip() for one in there)
        wrong = "No hardware is named." if flavor is None else f"There is no hardware {flavor!r}."
        raise ConfigError(f"{wrong} There are:\n{listed}", hint="Name one with --flavor.")
    return found


def seconds_of(timeout: str) -> int:
    """Return the seconds of a time limit such as 90m, 2h, 1.5h, 1d or 3600; raise ConfigError for what is none."""
    found = _TIMEOUT.fullmatch(timeout.strip().lower())
    seconds = int(float(found[1]) * _UNITS[found[2] or "s"]) if found else 0
    if not 0 < seconds <= MOST_SECONDS:
        raise ConfigError(
            f"{timeout!r} is no time limit of a job.", hint="Write it as --timeout 90m, 4h or 1d: a week at most."
        )
    return seconds


def installed(engine: EngineConfig, mined: bool, hardware: Hardware, package: str | None) -> str:
    """Return the requirement that a job installs: hfsynth with the extras that its engine needs.

    `package` is a requirement or an address (of a wheel, or git+https://…) that takes the place of this version from
    the package index. Raise ConfigError for what a job cannot reach.
    """
    by_kind = {"vllm": "vllm," if hardware.gpus else "cpu,", "server": "server,"}
    extras = ("" if mined else by_kind.get(engine.kind, "")) + "stores"
    if package is None:
        return f"hfsynth[{extras}]=={__version__}"
    if _ADDRESS.fullmatch(package):
        return f"hfsynth[{extras}] @ {package}"
    if _REQUIREMENT.fullmatch(package.strip()):
        return package.strip()
    raise ConfigError(
        f"A job cannot install {package!r}.",
        hint='Give an address (https://…/hfsynth-1.0-py3-none-any.whl, git+https://…) or "hfsynth[vllm,stores]==1.0".',
    )


_STORES = {
    "s3": ("AWS_",),
    "gs": ("GOOGLE_",),
    "az": ("AZURE_",),
    "hf": ("HFSYNTH_S3_", "HFSYNTH_HUB_S3", "AWS_"),
}
_ENGINE_KEYS = ("HFSYNTH_API_KEY", "OPENAI_API_KEY")
_OF_THIS_MACHINE = re.compile(
    r"_FILE$|_PROFILE$|_BUNDLE$|^GOOGLE_APPLICATION_CREDENTIALS$|^GOOGLE_SERVICE_ACCOUNT(?:_PATH)?$|_CONTAINER_|_RELATIVE_URI$"
)


def passed_on(out: str, engine: EngineConfig, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a job gets as secrets: what its store, and a server's engine, ask for.

    Names of files and profiles stay: they mean nothing on another machine. Raise ConfigError where there is nothing to
    reach the store with.
    """
    begins = _STORES.get(out.partition(":")[0], ())
    found = {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(begins) and value and not _OF_THIS_MACHINE.search(name)
    }
    if begins and not found:
        raise ConfigError(
            f"Jobs have nothing to reach {out} with: no variable {' or '.join(f'{one}…' for one in begins)} is set.",
            hint="Set the keys of the store as variables; jobs get them as secrets.",
        )
    keys = _ENGINE_KEYS if engine.kind == "server" else ()
    return {**found, **{name: environment[name] for name in keys if environment.get(name)}}
