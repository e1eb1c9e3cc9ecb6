"""The section on what people say of answers. See docs/feedback.md."""

from __future__ import annotations

from farthing.settings.basic import Section


class FeedbackSettings(Section):
    """Feedback."""
