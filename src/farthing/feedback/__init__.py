"""What people say of answers, and what follows. See docs/feedback.md."""
