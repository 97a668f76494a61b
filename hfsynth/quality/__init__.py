"""What pairs, corpora and synthesizers are worth: measures of text, metrics, evaluations."""
