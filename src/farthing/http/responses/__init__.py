"""OpenAI's /v1/responses in front of chat models."""
