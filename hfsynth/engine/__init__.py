"""What runs prompts: vLLM in this process, a server, a script; all drive chains the same way."""
