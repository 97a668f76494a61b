"""A page in the browser to look at a corpus, try a recipe and plan a mixture: views over pure functions."""
