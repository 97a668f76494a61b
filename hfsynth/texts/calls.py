"""`render` and `mix` as they are called from Python: of datasets in memory, or of a corpus folder as the commands do.

Knows nothing of how texts are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from hfsynth.core.errors import ConfigError
from hfsynth.documents.dataset_splits import AnyDataset
from hfsynth.models.tokenizers import TextTokenizer, Tokenizing
from hfsynth.texts.corpus_folder import TextsReport, mix_folder, render_folder
from hfsynth.texts.languages import AUTO
from hfsynth.texts.mixing import Mixture, mix_datasets
from hfsynth.texts.mixture_parts import Part
from hfsynth.texts.rendering import render_dataset
from hfsynth.texts.styles import Styles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def render(
    what: AnyDataset | str | Path,
    *,
    seed: int = 0,
    tokenizer: str | PreTrainedTokenizerBase | TextTokenizer | Callable[[str], int] | None = None,
    styles: Mapping[str, float] | Styles | None = None,
    validation: float = 0.0,
    text_column: str = "text",
    id_column: str = "id",
    pair_spans: bool = False,
    wordings: str = AUTO,
) -> Any:  # noqa: ANN401 - a dataset for a dataset, a dict for a dict, a stream for a stream, a report for a folder
    """Turn a synthesized dataset or a corpus folder into training texts, one for each run of chained documents.

    Of a dataset, a stream, or a dict of splits of either the result is the same, split by split. Columns in: `text`,
    `pairs`, and where there are `id` and `synthesis`. Without `synthesis` every document is a chain of its own.
    Columns out: `text`, `source_ids`, `shots`, `num_pairs`, `style`, `chain`, `wordings`, and `tokens` (without BOS and
    EOS) when a tokenizer is given: a Hub id, a fast tokenizer, or a function that counts. `text_column` and `id_column`
    name columns that are called otherwise, as they do for `Synthesizer`. `pair_spans` adds a column of that name: where
    each pair begins and ends in the text, in characters, which `hfsynth.export` needs to cut long texts and for loss
    masks.

    What stands around documents and pairs is in English, German, French, Spanish, Chinese or Hindi: by `wordings`
    (`en`, `de`, `fr`, `es`, `zh`, `hi`) in that language; by `auto` in each document's own, as its column `language` or
    `lang` says, else as its words tell, and in English where there are none in it. The column `wordings` has the
    language of every document of `source_ids`, empty for one without pairs.

    Of a folder, here or on a store (`s3://…`), as `hfsynth render FOLDER` does, the texts are written into its `data/`,
    in place of what was there, and a report is returned: `root`, `texts` by split, `facts`. The tokenizer is then
    named, and columns are never called otherwise.

    A document without pairs stands alone, once; one without text gives none. A document whose earlier shots were
    taken away, by a filter or a shuffle, gives none either: the log says how many. The same seed gives the same texts,
    and a second call reads those of a dataset from the cache of `datasets`. `styles` are weights by name (see
    `Styles`). With `validation`, that share of the chains of `train` goes to a split of its own, by a hash of the
    chain, whatever the seed.

    Raises ColumnError where a column is missing or of the wrong type, ConfigError for styles or shares that cannot
    work, for a language without wordings, and for a `validation` of splits that have one; OutputError for a folder
    without finished pairs.
    """
    if not isinstance(what, (str, Path)):
        return render_dataset(
            what,
            seed=seed,
            tokenizer=tokenizer,
            styles=styles,
            validation=validation,
            text_column=text_column,
            id_column=id_column,
            pair_spans=pair_spans,
            wordings=wordings,
        )
    if (text_column, id_column) != ("text", "id"):
        raise ConfigError(
            "The columns of a corpus folder are `text` and `id`.", hint="Leave text_column and id_column."
        )
    if not (styles is None or isinstance(styles, Mapping)) or not (tokenizer is None or isinstance(tokenizer, str)):
        raise ConfigError(
            "A folder's recipe names how it was rendered: its tokenizer is a Hub id or a folder, its styles a mapping.",
            hint="Or render its dataset: hfsynth.render(load_dataset(folder, 'pairs')).",
        )
    return render_folder(
        what,
        seed=seed,
        tokenizer=tokenizer,
        styles=styles,
        validation=validation,
        pair_spans=pair_spans,
        wordings=wordings,
    )


@overload
def mix(
    parts: Sequence[Part],
    out: None = None,
    *,
    tokenizer: Tokenizing,
    seed: int = 0,
    budget_tokens: int | None = None,
    ratios: Mapping[str, float] | Sequence[float] | None = None,
    preset: str | None = None,
) -> Mixture: ...


@overload
def mix(
    parts: Sequence[Part],
    out: str | Path,
    *,
    tokenizer: Tokenizing,
    seed: int = 0,
    budget_tokens: int | None = None,
    ratios: Mapping[str, float] | Sequence[float] | None = None,
    preset: str | None = None,
) -> TextsReport: ...


def mix(
    parts: Sequence[Part],
    out: str | Path | None = None,
    *,
    tokenizer: Tokenizing,
    seed: int = 0,
    budget_tokens: int | None = None,
    ratios: Mapping[str, float] | Sequence[float] | None = None,
    preset: str | None = None,
) -> Mixture | TextsReport:
    """Mix parts by tokens, interleaved evenly, into one dataset or into the `data/` of the corpus folder `out`.

    Where a part has splits, the mixture has them too. Shares come from `ratios` (by part name or position, summing to
    1), else from a `preset`, else from the parts' weights. Without `out` the rows are written to the datasets cache,
    under the same name for the same mixture; the parts are not changed. With `out`, as `hfsynth mix OUT` does, the
    folder is new, empty, or one of hfsynth whose `data/` is replaced as a whole, and a report is returned: `root`,
    `texts` by split, `facts`. The tokenizer is then named, and `ratios` are by part name.

    Raises ConfigError for ratios, weights, a budget or a preset that cannot work, ColumnError for columns that fit no
    known layout, BudgetError when a part runs out, OutputError for a folder that is not hfsynth's.
    """
    if out is None:
        return mix_datasets(
            parts, tokenizer=tokenizer, seed=seed, budget_tokens=budget_tokens, ratios=ratios, preset=preset
        )
    if not isinstance(tokenizer, str) or not (ratios is None or isinstance(ratios, Mapping)):
        raise ConfigError(
            "A folder's recipe names how it was mixed: its tokenizer is a Hub id or a folder, its ratios are by part."
        )
    return mix_folder(
        parts, out, tokenizer=tokenizer, seed=seed, budget_tokens=budget_tokens, ratios=ratios, preset=preset
    )
