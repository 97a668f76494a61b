"""Made-up identifiers of every kind, to be planted in texts."""

from __future__ import annotations

import random
import string
from collections.abc import Callable


def _digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choice(string.digits) for _ in range(count))


def _email(draw: random.Random) -> str:
    name = "".join(draw.choice(string.ascii_lowercase) for _ in range(7))
    return f"{name}{draw.choice(['.b', '_7', '+list', ''])}@{name[::-1]}.{draw.choice(['de', 'co.uk', 'museum'])}"


def _ip(draw: random.Random) -> str:
    if draw.random() < 0.3:
        return f"2a00:1450:{draw.randrange(1, 9999):x}::{draw.randrange(1, 9999):x}"
    return (
        f"{draw.choice([8, 52, 91, 203])}.{draw.randrange(1, 255)}.{draw.randrange(130, 255)}.{draw.randrange(1, 255)}"
    )


def _phone(draw: random.Random) -> str:
    form = draw.choice(["+49 30 {} {}", "+44-20-{}-{}", "+1 (212) {}-{}", "+33.1.{}.{}", "+91{}{}"])
    return form.format(draw.randrange(201, 999), draw.randrange(1021, 9876))


def _card(draw: random.Random) -> str:
    start = draw.choice(["4", "51", "6011", "37"])
    body = start + _digits(draw, (14 if start == "37" else 15) - len(start))
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in body[::-2])
    number = body + str(-(doubled + sum(map(int, body[-2::-2]))) % 10)
    return number if start == "37" else draw.choice([number, " ".join(number[at : at + 4] for at in (0, 4, 8, 12))])


def _iban(draw: random.Random) -> str:
    country, length = draw.choice([("DE", 18), ("FR", 23), ("NL", 14), ("ES", 20)])
    body = "INGB" + _digits(draw, 10) if country == "NL" else _digits(draw, length)
    number = "".join(str(int(character, 36)) for character in f"{body}{country}00")
    whole = f"{country}{98 - int(number) % 97:02}{body}"
    return draw.choice([whole, " ".join(whole[at : at + 4] for at in range(0, len(whole), 4))])


def _key(draw: random.Random) -> str:
    letters = string.ascii_letters + string.digits
    return draw.choice(["hf_", "ghp_"]) + "".join(draw.choice(letters) for _ in range(36))


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "email": _email,
    "ip": _ip,
    "phone": _phone,
    "card": _card,
    "iban": _iban,
    "key": _key,
}
