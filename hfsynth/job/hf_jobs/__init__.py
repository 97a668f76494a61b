"""Workers on the Hub's machines (Hugging Face Jobs): what they cost, how they are started, followed and ended."""
