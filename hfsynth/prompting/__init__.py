"""A document and earlier shots into token ids, a completion into pairs: one module a format."""
