"""Documents into pairs: few-shot chains, and the transform for `datasets.map`."""
