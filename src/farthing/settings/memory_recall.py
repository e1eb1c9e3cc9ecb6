"""What of memory is put into prompts, and conversations that are left to us. See docs/recall.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from farthing.settings.basic import Count, Seconds, Section

Tokens = Annotated[int, Field(ge=0, le=1_000_000)]


class RecallSettings(Section):
    """What is put into a prompt, and what is kept so that there is something to put in."""

    default: Literal["off", "facts", "facts+windows"] = "off"
    """For requests that do not say (`farthing: {memory: …}`) and have a user."""
    max_fact_tokens: Tokens = 300
    """Facts put in at most, chosen by relevance to the question where there are more."""
    max_window_tokens: Tokens = 500
    """Earlier turns put in at most, chosen by relevance to the question."""
    replace_history: bool = False
    """Facts instead of history: of the turns that a client sends, only the last `recent_turns` within `max_recent_tokens` are sent on."""
    recent_turns: Annotated[int, Field(ge=1, le=1000)] = 6
    """The last messages of a conversation, put in (or left in) whatever they are about."""
    max_recent_tokens: Tokens = 1500
    """The same in tokens: further back than that is only what is relevant."""
    max_turns_read: Annotated[int, Field(ge=1, le=5000)] = 400
    """The latest turns of a user, or of a conversation, that are looked through."""
    read_timeout_s: Seconds = 0.05
    """How long a request waits for facts and for the turns of other conversations. After that it goes on without."""
    conversation_timeout_s: Seconds = 1
    """How long it waits for the conversation that it names, to be read and, at the end of the answer, to be written."""
    max_turn_bytes: Annotated[int, Field(ge=1, le=1_000_000)] = 65_536
    """A longer user turn is refused where its conversation is kept here; a longer answer is kept up to there."""
    turn_ttl_s: Annotated[float, Field(gt=0, le=315_360_000)] = 7_776_000
    turns_per_conversation: Count = 2000
    turns_per_user: Count = 10_000
    max_turns: Count = 5_000_000
    """Beyond any of these the oldest turns go."""
    max_pending_turns: Count = 10_000
    """Turns that a worker keeps until PostgreSQL is back. Beyond it the oldest are lost, counted and logged."""
    max_vectors: Count = 10_000
    """Embeddings of facts that a worker remembers, 400 bytes each."""
