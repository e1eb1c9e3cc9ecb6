"""The settings that a simulation runs on when there are none: a strong model, a fast one, and a free one of one's own."""

from __future__ import annotations

from farthing.types import Json


def example() -> Json:
    """Prices are those of Claude Sonnet and Haiku, in US dollars per million tokens. Nothing is called."""
    return {
        "local": {"enabled": False},
        "providers": {
            "vendor": {"kind": "openai_compatible", "base_url": "https://vendor.example/v1"},
            "own": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:8000/v1"},
        },
        "models": {
            "strong": {"provider": "vendor", "upstream_model": "claude-sonnet", "price": {"input_usd_per_1m": 3, "output_usd_per_1m": 15}},
            "fast": {"provider": "vendor", "upstream_model": "claude-haiku", "price": {"input_usd_per_1m": 0.8, "output_usd_per_1m": 4}},
            "local": {
                "provider": "own",
                "upstream_model": "llama-3.1-8b-instruct",
                "context_tokens": 32_000,
                "price": {"input_usd_per_1m": 0, "output_usd_per_1m": 0},
            },
        },
        "modes": {
            "ceiling_usd": 50,
            "tiers": ["free", "pro"],
            "ladder": {
                "DEEP": {},
                "SHALLOW": {"model": "fast", "history_turns": 6, "max_tokens": 1024},
                "SUPER_SHALLOW": {"model": "local", "history_turns": 2, "max_tokens": 512},
            },
        },
    }
