"""OpenAI's legacy /v1/completions in front of chat models."""
