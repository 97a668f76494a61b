# /// script
# requires-python = ">=3.11"
# dependencies = ["hfsynth==0.1.0"]
# ///
r"""Make context-grounded tasks by code: tables and short articles with facts, and questions whose answers are known.

Public task sets that may be used freely hold no tables and hardly any short questions about facts. Names, numbers
and places are drawn; nothing in these texts is about the world. Columns out: `id, context, pairs: [{instruction,
response, task}], source, license`, as `train_embedded.py --also` reads them; `source` is `made_accounts` (figures over
some years), `made_tables` (works, seasons, elections, places) or `made_articles`. A text depends on the seed and its
number alone.

    uv run dataset_scripts/made_tasks.py OUT.parquet --accounts 600 --tables 400 --articles 700
    hf jobs uv run --secrets HF_TOKEN dataset_scripts/made_tasks.py hf://buckets/user/tasks/made.parquet
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Mapping, Sequence

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

import hfsynth

Pair = tuple[str, str]
Text = tuple[str, list[Pair]]

MADE_OF = tomllib.loads("""
[words]
first = [
  "Alma", "Anders", "Beatrix", "Bruno", "Carla", "Cedric", "Dora", "Edgar", "Elsa", "Farid", "Greta", "Hugo", "Ines",
  "Ivo", "Jasmin", "Joel", "Kira", "Leon", "Lucia", "Marek", "Mina", "Nadia", "Nils", "Olga", "Oscar", "Petra", "Priya",
  "Ravi", "Rosa", "Samir", "Selma", "Tariq", "Tilda", "Uma", "Viktor", "Wanda", "Yuri", "Zora",
]
last = [
  "Abbott", "Almeida", "Bakker", "Berglund", "Castellan", "Cho", "Dalton", "Durand", "Eriksen", "Falk", "Ferrand",
  "Garvey", "Hale", "Hollis", "Iqbal", "Jansen", "Keller", "Kowal", "Lindgren", "Marlow", "Mensah", "Novak", "Okafor",
  "Pereira", "Quist", "Rahman", "Rowe", "Salas", "Sato", "Tanner", "Tierney", "Urban", "Vance", "Verma", "Weller",
  "Winther", "Yates", "Zeller",
]
towns = [
  "Aldermoor", "Ashford", "Bellhaven", "Brackwater", "Carrowmere", "Dunsley", "Eastvale", "Fenwick", "Glenrock",
  "Harrowgate", "Ilsworth", "Kestrel", "Lakemont", "Marshend", "Northwick", "Oakridge", "Penholm", "Queensport",
  "Ravensby", "Saltmere", "Thornbury", "Umberleigh", "Vesterlund", "Yarrow",
]
regions = ["the north coast", "the Arden valley", "the western hills", "the Lower Plain", "the island of Soren"]
nouns = [
  "Harbour", "Winter", "Orchard", "Lantern", "River", "Mirror", "Station", "Garden", "Letter", "Silence", "Summer",
  "Compass", "Bridge", "Shadow",
]
adjectives = [
  "Broken", "Golden", "Last", "Quiet", "Distant", "Hidden", "Second", "Burning", "Paper", "Northern", "Empty", "Silver",
]
parties = ["Civic Union", "Green List", "Labour Alliance", "Liberal Party", "Rural Party", "Independent"]
causes = [
  "higher demand for our services", "lower prices of raw materials", "the acquisition of a smaller competitor",
  "the closing of two older plants", "an increase in headcount", "unfavourable exchange rates",
  "the launch of a new product line", "a change in the mix of products sold", "higher freight and energy costs",
]
items = [
  "Revenue", "Cost of sales", "Gross profit", "Research and development", "Selling expenses",
  "General and administrative expenses", "Operating income", "Interest expense", "Income tax expense", "Net income",
  "Cash and cash equivalents", "Inventories", "Trade receivables", "Prepaid expenses", "Property and equipment",
  "Goodwill", "Intangible assets", "Total assets", "Accounts payable", "Accrued liabilities", "Deferred revenue",
  "Long-term debt", "Lease liabilities", "Dividends paid", "Capital expenditure", "Depreciation",
  "Share-based compensation", "Product sales", "Service fees", "Licence income", "Wages and salaries", "Pension costs",
  "Marketing expenses", "Restructuring charges", "Raw materials", "Finished goods",
]
months = [
  "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
  "December",
]

[ways]  # what the braces of an article may stand for
purpose = ["dig for copper", "fish for herring", "build a mill", "escape a war", "trade in furs"]
trade = ["shipbuilding", "the salt trade", "weaving", "glass-making", "coal mining", "the timber trade"]
building = ["town hall", "market hall", "railway station", "old church", "library"]
stone = ["red brick", "granite", "limestone", "concrete", "sandstone"]
art = ["choral music", "puppetry", "lace-making", "photography", "woodcarving", "poetry", "drawing"]
job = ["painter", "poet", "botanist", "composer", "engineer", "historian", "photographer"]
parent = ["blacksmith", "doctor", "ferryman", "teacher", "clockmaker", "baker"]
fault = ["had no plot", "was too long", "mocked the church", "imitated older masters", "was hard to follow"]
firm = ["Instruments", "Works", "Brothers", "Industries", "Foundry"]
product = ["weighing scales", "bicycle frames", "water pumps", "sewing machines", "pianos", "lenses"]
place = ["disused brewery", "barn", "cellar", "former chapel", "railway shed"]
trouble = ["rents had risen", "the river flooded the works", "steel was cheaper there", "workers were hard to find"]
animal = ["warbler", "plover", "heron", "finch", "petrel", "owl"]
habitat = ["reed beds", "pine forests", "salt marshes", "rocky islands", "high meadows"]
food = ["beetles and larvae", "small fish", "berries", "seeds of thistles", "snails"]
threat = ["the marshes were drained", "rats eat the eggs", "old trees are felled", "summers have become too dry"]

[[articles.town]]
sentences = [
  "{town} is a town in {region} with a population of {count}.",
  "With {count} inhabitants, {town} is the largest town in {region}.",
]
questions = [
  ["What is the population of {town}?", "{count}"],
  ["How many people live in {town}?", "{count}"],
  ["Where is {town} located?", "in {region}"],
]

[[articles.town]]
sentences = [
  "It was founded in {year} by {person}, who had come there to {purpose}.",
  "{person} founded it in {year}, hoping to {purpose}.",
]
questions = [
  ["Who founded {town}?", "{person}"],
  ["When was {town} founded?", "{year}"],
  ["Why did {person} come to {town}?", "to {purpose}"],
]

[[articles.town]]
sentences = [
  "For more than a century its economy depended on {trade}, until the last works closed in {later}.",
  "Until {later} most families lived from {trade}.",
]
questions = [
  ["What did the economy of {town} depend on?", "{trade}"],
  ["Until when did people live from {trade}?", "{later}"],
]

[[articles.town]]
sentences = [
  "A fire in {fire} destroyed the {building}, which was rebuilt in {stone}.",
  "The {building}, built in {stone}, replaced one that burned down in {fire}.",
]
questions = [
  ["What was destroyed by fire in {fire}?", "the {building}"],
  ["What was the new {building} built in?", "{stone}"],
  ["When did the {building} burn down?", "{fire}"],
]

[[articles.town]]
sentences = [
  "Every {month} the town holds a festival of {art} that draws about {few} visitors.",
  "Its festival of {art}, held each {month}, is visited by some {few} people.",
]
questions = [
  ["In which month is the festival held?", "{month}"],
  ["What is the festival of {town} devoted to?", "{art}"],
  ["About how many people visit the festival?", "{few}"],
]

[[articles.life]]
sentences = [
  "{person} ({year}–{later}) was a {job} from {town}.",
  "{person} was a {job} who was born in {town} in {year} and died in {later}.",
]
questions = [
  ["What was {person}'s occupation?", "{job}"],
  ["Where was {person} from?", "{town}"],
  ["In which year did {person} die?", "{later}"],
]

[[articles.life]]
sentences = [
  "The child of a {parent}, {last} was taught at home and later studied in {other}.",
  "{last}, whose father was a {parent}, moved to {other} to study.",
]
questions = [["What did {last}'s father do?", "{parent}"], ["Where did {last} study?", "{other}"]]

[[articles.life]]
sentences = [
  "With {friend}, {last} founded a school of {art} that took in {small} pupils in its first year.",
  "Together {last} and {friend} opened a school of {art}; {small} pupils came in the first year.",
]
questions = [
  ["Who founded the school together with {last}?", "{friend}"],
  ["How many pupils did the school have in its first year?", "{small}"],
  ["What did the school teach?", "{art}"],
]

[[articles.life]]
sentences = [
  "The work that made {last} known, The {word} {noun}, appeared in {middle}.",
  "In {middle}, The {word} {noun} made {last} known beyond {town}.",
]
questions = [["Which work made {last} known?", "The {word} {noun}"], ["When did The {word} {noun} appear?", "{middle}"]]

[[articles.life]]
sentences = [
  "Critics disliked it because it {fault}, but readers bought {count} copies.",
  "It sold {count} copies, although critics complained that it {fault}.",
]
questions = [["Why did critics dislike the work?", "it {fault}"], ["How many copies were sold?", "{count}"]]

[[articles.firm]]
sentences = [
  "{last} {firm} is a maker of {product} based in {town}.",
  "{last} {firm}, based in {town}, makes {product}.",
]
questions = [["What does {last} {firm} make?", "{product}"], ["Where is {last} {firm} based?", "{town}"]]

[[articles.firm]]
sentences = [
  "{person} started it in {year} in a {place} with {small} workers.",
  "It began in {year}, when {person} hired {small} workers and rented a {place}.",
]
questions = [
  ["Who started {last} {firm}?", "{person}"],
  ["How many workers did it have at first?", "{small}"],
  ["Where did the company begin?", "in a {place}"],
]

[[articles.firm]]
sentences = [
  "In {middle} it was bought by {friend} for {few} million crowns.",
  "{friend} paid {few} million crowns for it in {middle}.",
]
questions = [
  ["Who bought the company?", "{friend}"],
  ["How much was paid for the company in {middle}?", "{few} million crowns"],
]

[[articles.firm]]
sentences = [
  "Because {trouble}, production moved to {other} in {later}.",
  "Production was moved to {other} in {later} because {trouble}.",
]
questions = [
  ["Why was production moved to {other}?", "because {trouble}"],
  ["Where did production move in {later}?", "{other}"],
]

[[articles.firm]]
sentences = [
  "Today it employs {count} people and exports to {states} countries.",
  "It now has {count} employees and sells in {states} countries.",
]
questions = [
  ["How many people does {last} {firm} employ?", "{count}"],
  ["To how many countries does it export?", "{states}"],
]

[[articles.animal]]
sentences = [
  "The {town} {animal} is a bird that lives in {habitat}.",
  "In {habitat} lives the {town} {animal}, a rare bird.",
]
questions = [
  ["Where does the {town} {animal} live?", "in {habitat}"],
  ["What kind of animal is the {town} {animal}?", "a bird"],
]

[[articles.animal]]
sentences = [
  "It is {small} centimetres long and feeds on {food}.",
  "Its food is {food}, and it grows to {small} centimetres.",
]
questions = [["What does the {animal} feed on?", "{food}"], ["How long is the {town} {animal}?", "{small} centimetres"]]

[[articles.animal]]
sentences = [
  "It nests in {month}, and both parents sit on {eggs} eggs.",
  "In {month} the female lays {eggs} eggs, which both parents guard.",
]
questions = [["When does the {animal} nest?", "in {month}"], ["How many eggs does the {town} {animal} lay?", "{eggs}"]]

[[articles.animal]]
sentences = [
  "{person} first described it in {year}.",
  "The species was first described by {person} in {year}.",
]
questions = [["Who first described the species?", "{person}"], ["In what year was it first described?", "{year}"]]

[[articles.animal]]
sentences = [
  "Its numbers have fallen to about {few} because {threat}.",
  "Only about {few} are left, for {threat}.",
]
questions = [["How many birds are left?", "about {few}"], ["Why have its numbers fallen?", "because {threat}"]]
""")
"""What the texts are made of; all of it was made up for this."""

WORDS: Mapping[str, Sequence[str]] = MADE_OF["words"]
UNITS = ("million", "thousand")
HOUSES = ("House", "Records", "Press")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", help="the parquet file to write")
    parser.add_argument("--accounts", type=int, default=600)
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--articles", type=int, default=700)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    kinds: list[tuple[str, Callable[[hfsynth.Draws], Text], int]] = [
        ("made_accounts", accounts, args.accounts),
        ("made_tables", table, args.tables),
        ("made_articles", article, args.articles),
    ]
    rows = [row(kind, make, number, args.seed) for kind, make, count in kinds for number in range(count)]
    with fsspec.open(args.out, "wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), file)
    print(f"{len(rows)} texts, {sum(len(found['pairs']) for found in rows)} pairs")


def row(kind: str, make: Callable[[hfsynth.Draws], Text], number: int, seed: int) -> dict[str, object]:
    """Return text `number` of a kind as a row of a task collection."""
    context, pairs = make(hfsynth.Draws(f"{kind}/{seed}/{number}"))
    asked = [{"instruction": question, "response": answer, "task": kind} for question, answer in pairs]
    return {"id": f"{kind}/{number}", "context": context, "pairs": asked, "source": kind, "license": "Apache-2.0"}


def some(pairs: Sequence[Pair], least: int, most: int, draws: hfsynth.Draws) -> list[Pair]:
    """Return `least` to `most` of the pairs with different questions, in their own order."""
    different = list(dict(reversed(pairs)).items())[::-1]
    kept = sorted(draws.order(len(different))[: least + draws.below(most - least + 1)])
    return [different[number] for number in kept]


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, *rows))


def person(draws: hfsynth.Draws) -> str:
    return f"{draws.pick(WORDS['first'])} {draws.pick(WORDS['last'])}"


def several(values: Sequence[str], count: int, draws: hfsynth.Draws) -> list[str]:
    return [values[number] for number in draws.order(len(values))[:count]]


def listed(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"


# Accounts


def accounts(draws: hfsynth.Draws) -> Text:
    """Make a table of amounts over two or three years with sentences about it."""
    unit, last = draws.pick(UNITS), 2008 + draws.below(17)
    years = [last - back for back in range(2 + draws.below(2))]
    names = several(WORDS["items"], 3 + draws.below(4), draws)
    start = 10 ** (2 + draws.below(3))
    amounts = {name: [start // 2 + draws.below(start * 3) for _ in years] for name in names}
    sign = draws.pick(("$", "", ""))
    end = draws.pick(("", f"{draws.pick(WORDS['months'])} {28 + draws.below(3)}, "))
    header = ["", *(f"{end}{year}" for year in years)]
    units = [["", f"(in {unit}s)", *[""] * (len(years) - 1)]]
    shown = grid(header, [*units, *([name, *(f"{sign}{value:,}" for value in amounts[name])] for name in names)])
    parts: list[tuple[str, list[Pair]]] = [
        (shown, figures(names, years, amounts, sign, unit, draws)),
        explained(names[0], years, amounts[names[0]], unit, draws),
        policy(draws),
    ]
    order = draws.pick(((0, 1, 2), (0, 1), (1, 0), (2, 0), (0,)))
    pairs = [pair for number in order for pair in parts[number][1]]
    return "\n\n".join(parts[number][0] for number in order), some(pairs, 4, 6, draws)


def figures(
    names: Sequence[str],
    years: Sequence[int],
    amounts: dict[str, list[int]],
    sign: str,
    unit: str,
    draws: hfsynth.Draws,
) -> list[Pair]:
    """Return questions about a table's own figures, the simplest first."""
    pairs: list[Pair] = []
    for name in several(names, 3, draws):
        at = draws.below(len(years))
        value, low = amounts[name][at], name.lower()
        question = draws.pick(("What was the {} in {}?", "What was the amount of {} in {}?", "How much was {} in {}?"))
        pairs.append((question.format(low, years[at]), f"{sign}{value:,} {unit}"))
    for name in several(names, 2, draws):
        pairs.append(draws.pick(compared(name.lower(), years, amounts[name], sign, unit)))
    name = draws.pick(names)
    most = max(range(len(years)), key=lambda at: amounts[name][at])
    largest = max(names, key=lambda found: amounts[found][0])
    return [
        *pairs,
        (f"In which year was {name.lower()} the highest?", str(years[most])),
        (f"Which item had the largest amount in {years[0]}?", largest),
        ("Which years does the table cover?", listed([str(year) for year in years])),
        ("In what unit are the figures in the table given?", f"In {unit}s."),
    ]


def compared(name: str, years: Sequence[int], values: Sequence[int], sign: str, unit: str) -> list[Pair]:
    """Return questions that take two amounts."""
    (last, before), (new, old) = years[:2], values[:2]
    way = "increased" if new > old else "decreased"
    return [
        (f"What was the change in {name} from {before} to {last}?", f"{new:,} - {old:,} = {new - old:,} {unit}"),
        (
            f"What was the percentage change in {name} between {before} and {last}?",
            f"({new:,} - {old:,}) / {old:,} = {(new - old) / old:.2%}",
        ),
        (
            f"What was the average {name} for {before} and {last}?",
            f"({new:,} + {old:,}) / 2 = {(new + old) / 2:,.1f} {unit}",
        ),
        (
            f"What were the respective values of {name} in {before} and {last}?",
            f"{sign}{old:,}, {sign}{new:,} {unit}",
        ),
        (f"Did {name} increase or decrease from {before} to {last}?", f"It {way} from {old:,} to {new:,}."),
    ]


def explained(
    name: str, years: Sequence[int], values: Sequence[int], unit: str, draws: hfsynth.Draws
) -> tuple[str, list[Pair]]:
    """Return a sentence on why an amount changed, and questions about it."""
    new, old, cause = values[0], values[1], draws.pick(WORDS["causes"])
    way = "increased" if new >= old else "decreased"
    noun = "increase" if new >= old else "decrease"
    by, share = abs(new - old), abs(new - old) / old
    text = draws.pick(
        (
            f"{name} {way} by {by:,} {unit}, or {share:.0%}, in {years[0]} compared with {years[1]}, "
            f"mainly due to {cause}.",
            f"Compared with {years[1]}, {name.lower()} for {years[0]} {way} {share:.0%}. "
            f"The {noun} was primarily driven by {cause}.",
        )
    )
    return text, [
        (f"What was the main reason for the {noun} in {name.lower()} in {years[0]}?", cause[0].upper() + cause[1:]),
        (f"By what percentage did {name.lower()} {noun} in {years[0]}?", f"{share:.0%}"),
    ]


def policy(draws: hfsynth.Draws) -> tuple[str, list[Pair]]:
    """Return a sentence on how something is accounted for, and questions about it."""
    years, method = 3 + draws.below(18), draws.pick(("straight-line", "declining-balance"))
    asset = draws.pick(("buildings", "software", "customer relationships", "machinery", "patents", "vehicles"))
    text = (
        f"The cost of {asset} is written down by the {method} method over an estimated useful life of {years} years. "
        f"We review {asset} for impairment at least once a year."
    )
    return text, [
        (f"Over how many years is the cost of {asset} written down?", f"{years} years"),
        (f"Which method is used to write down the cost of {asset}?", f"The {method} method."),
        (f"How often are {asset} reviewed for impairment?", "At least once a year."),
    ]


# Tables


def table(draws: hfsynth.Draws) -> Text:
    """Make a table with a title, and one or two questions that are answered by a sentence."""
    return draws.pick((works, seasons, election, heights))(draws)


def works(draws: hfsynth.Draws) -> Text:
    name, year = person(draws), 1985 + draws.below(30)
    kind, verb, column = draws.pick(
        (
            ("films", "appeared in the film", "Role"),
            ("albums", "released the album", "Label"),
            ("novels", "published the novel", "Publisher"),
        )
    )
    rows = []
    for title in titles(4 + draws.below(6), draws):
        maker = person(draws) if column == "Role" else f"{draws.pick(WORDS['towns'])} {draws.pick(HOUSES)}"
        rows.append([str(year), title, maker, draws.pick(("-", "Shortlisted", "Award"))])
        year += draws.below(4)
    context = f"{name} - {kind.capitalize()}\n{grid(['Year', 'Title', column, 'Notes'], rows)}"
    one = draws.pick(rows)
    same = [found for found in rows if found[0] == one[0]]
    if column == "Role":
        detail = (f"What role did {name} play in {one[1]}?", f"{name} played {one[2]} in {one[1]} ({one[0]}).")
    else:
        detail = (
            f"Who brought out {one[1]} by {name}, and when?",
            f"{one[1]} was brought out by {one[2]} in {one[0]}.",
        )
    pairs = [
        detail,
        (
            f"Which {kind} did {name} have in {one[0]}?",
            f"In {one[0]}, {name} {verb}{'s' * (len(same) > 1)} {listed([found[1] for found in same])}.",
        ),
        (f"What was the first work of {name} in the list?", f"{name} first {verb} {rows[0][1]} in {rows[0][0]}."),
    ]
    return context, some(pairs, 1, 2, draws)


def titles(count: int, draws: hfsynth.Draws) -> list[str]:
    """Return different titles of works."""
    nouns = several(WORDS["nouns"], count, draws)
    return [f"{draws.pick(WORDS['adjectives'])} {noun}" for noun in nouns]


def seasons(draws: hfsynth.Draws) -> Text:
    name, year = person(draws), 1990 + draws.below(28)
    clubs = [
        f"{town} {draws.pick(('United', 'City', 'Rovers', 'Athletic'))}" for town in several(WORDS["towns"], 2, draws)
    ]
    rows = []
    for number in range(3 + draws.below(5)):
        games = 12 + draws.below(27)
        rows.append(
            [f"{year + number}–{(year + number + 1) % 100:02}", clubs[number > 2], str(games), str(draws.below(games))]
        )
    context = f"{name} - Career statistics\n{grid(['Season', 'Club', 'Games', 'Goals'], rows)}"
    best, one = max(rows, key=lambda found: int(found[3])), draws.pick(rows)
    pairs = [
        (
            f"How did {name} do in the {one[0]} season?",
            f"In the {one[0]} season, {name} played {one[2]} games for {one[1]} and scored {one[3]} goals.",
        ),
        (
            f"In which season did {name} score the most goals?",
            f"{name} scored most in {best[0]}: {best[3]} goals for {best[1]}.",
        ),
        (f"For which clubs did {name} play?", f"{name} played for {listed(list(dict.fromkeys(r[1] for r in rows)))}."),
    ]
    return context, some(pairs, 1, 2, draws)


def election(draws: hfsynth.Draws) -> Text:
    town, year = draws.pick(WORDS["towns"]), 1960 + draws.below(64)
    votes = sorted((1_000 + draws.below(30_000) for _ in range(3 + draws.below(2))), reverse=True)
    total = sum(votes)
    rows = [
        [person(draws), party, f"{count:,}", f"{count / total:.1%}"]
        for party, count in zip(several(WORDS["parties"], len(votes), draws), votes, strict=True)
    ]
    context = f"{year} {town} council election - Results\n{grid(['Candidate', 'Party', 'Votes', 'Share'], rows)}"
    (first, party, count, share), second = rows[0], rows[1]
    pairs = [
        (
            f"Who won the {year} {town} council election, and with how many votes?",
            f"{first} of the {party} won the {year} {town} council election with {count} votes ({share}).",
        ),
        (
            f"By what margin did {first} defeat {second[0]}?",
            f"{first} received {count} votes and {second[0]} {second[2]}: {votes[0] - votes[1]:,} votes more.",
        ),
        (
            f"What was the result of {second[0]} in the {year} election?",
            f"{second[0]} of the {second[1]} came second with {second[2]} votes, or {second[3]}.",
        ),
    ]
    return context, some(pairs, 1, 2, draws)


def heights(draws: hfsynth.Draws) -> Text:
    place = draws.pick(WORDS["towns"])
    kind, measure = draws.pick(
        (("buildings", "Height (m)"), ("lakes", "Area (km²)"), ("mountains", "Height (m)"), ("bridges", "Length (m)"))
    )
    sizes = sorted((40 + draws.below(900) for _ in range(5 + draws.below(4))), reverse=True)
    names = [f"{last} {kind[:-1].capitalize()}" for last in several(WORDS["last"], len(sizes), draws)]
    rows = [
        [str(n + 1), name, str(size), str(1900 + draws.below(120))]
        for n, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    last_column = "Year" if kind in {"buildings", "bridges"} else "Surveyed"
    context = f"List of {kind} near {place}\n{grid(['Rank', 'Name', measure, last_column], rows)}"
    at = 1 + draws.below(len(rows) - 1)
    word, size = measure.split(" (")[0].lower(), {"m": "metres", "km²": "square kilometres"}[measure.split("(")[1][:-1]]
    rank = ("largest", "second largest", "third largest", "fourth largest", "fifth largest")
    pairs = [
        (
            f"What is the largest of the {kind} near {place}, and what is its {word}?",
            f"{names[0]} is the largest of the {kind} near {place}, with a {word} of {sizes[0]} {size}.",
        ),
        (
            f"Which are the three largest {kind} near {place}?",
            f"The three largest {kind} near {place} are {listed(names[:3])}.",
        ),
        (
            f"What is the {word} of {names[at]}?",
            f"{names[at]}{', the ' + rank[at] + ',' if at < len(rank) else ''} has a {word} of {sizes[at]} {size}.",
        ),
    ]
    return context, some(pairs, 1, 2, draws)


# Articles


def article(draws: hfsynth.Draws) -> Text:
    """Make a short article of three to five facts in order, and questions answered by words of it."""
    facts = MADE_OF["articles"][draws.pick(("town", "life", "firm", "animal"))]
    year = 1700 + draws.below(180)
    name, towns = person(draws), several(WORDS["towns"], 2, draws)
    drawn = {
        **{key: draws.pick(values) for key, values in sorted(MADE_OF["ways"].items())},
        "person": name,
        "last": name.split()[1],
        "friend": person(draws),
        "town": towns[0],
        "other": towns[1],
        "year": str(year),
        "fire": str(year + 20 + draws.below(9)),
        "middle": str(year + 30 + draws.below(9)),
        "later": str(year + 55 + draws.below(20)),
        "count": f"{1_000 + draws.below(60_000):,}",
        "few": str(20 + draws.below(900)),
        "small": str(8 + draws.below(50)),
        "eggs": draws.pick(("two", "three", "four")),
        "states": str(5 + draws.below(60)),
        "month": draws.pick(WORDS["months"]),
        "region": draws.pick(WORDS["regions"]),
        "word": draws.pick(WORDS["adjectives"]),
        "noun": draws.pick(WORDS["nouns"]),
    }
    kept = facts[: 3 + draws.below(3)]
    context = " ".join(draws.pick(fact["sentences"]) for fact in kept).format(**drawn)
    pairs = [draws.pick(fact["questions"]) for fact in (*kept, *kept[:2])]
    filled = [(question.format(**drawn), answer.format(**drawn)) for question, answer in pairs]
    return context, [(question, answer) for question, answer in some(filled, 3, 5, draws)]


if __name__ == "__main__":
    main()
