"""A grammar of what customers write to a help desk: the same wish as a question, as a complaint, as keywords."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

Wish = tuple[str, tuple[str, ...], tuple[str, ...]]

WISHES: tuple[Wish, ...] = (
    ("reset", ("password", "PIN", "passcode", "login", "username", "access code", "security code", "wifi password", "admin password"), (
        "How do I reset my {x}?", "Forgot {x} help, please", "I forgot my {x}", "Where is the {x} reset link?", "reset {x}",
        "I can't remember my {x}", "How can I recover my {x}?",
        "{x} forgotten", "forgot my {x}, help", "How to retrieve a forgotten {x}", "I need to reset my {x}",
        "Please help, I forgot the {x}", "{x} recovery", "{x} reset instructions")),
    ("cancel", ("subscription", "order", "booking", "membership", "appointment", "reservation", "insurance", "contract", "trial"), (
        "How do I cancel my {x}?", "I want to cancel my {x}", "cancel {x}", "{x} cancellation", "Please cancel my {x}",
        "How can I terminate my {x}?", "I want to end my {x}", "Where can I cancel the {x}?",
        "{x} cancellation procedure", "Help me cancel my {x}")),
    ("track", ("order", "package", "parcel", "delivery", "shipment", "card", "refund", "application"), (
        "Where can I track my {x}?", "track my {x}", "{x} status", "What is the status of my {x}?", "My {x} hasn't arrived",
        "{x} tracking", "How do I track my {x}?", "I'd like to know the status of my {x}")),
    ("delete", ("account", "profile", "photo", "message", "card", "address", "comment"), (
        "How do I delete my {x}?", "delete {x}", "I want to delete my {x}", "Please remove my {x}", "How can I close my {x}?",
        "Where do I delete the {x}?", "remove my {x}", "{x} deleting instructions")),
    ("change", ("address", "email", "phone number", "name", "plan", "picture", "language", "password", "PIN"), (
        "How do I change my {x}?", "change {x}", "I want to change my {x}", "I need to update my {x}", "Where can I edit my {x}?",
        "How can I modify my {x}?", "update {x}", "Please change my {x}")),
    ("find invoice", ("invoice", "receipt", "statement", "tax form", "contract copy"), (
        "Where can I find my {x}?", "I need my {x}", "Please send me the {x}", "download {x}", "How do I get my {x}?",
        "Where do I download the {x}?")),
    ("repair", ("app", "printer", "website", "card reader", "camera", "keyboard", "screen"), (
        "My {x} is broken", "The {x} is not working", "{x} not working", "How do I fix the {x}?", "The {x} doesn't work",
        "Help, my {x} is broken", "How can I repair my {x}?")),
    ("choose", ("password", "PIN", "plan", "subscription", "card"), ("How do I choose a good {x}?", "Which {x} should I choose?",
    "What makes a good {x}?")),
    ("share", ("password", "account", "order", "subscription", "booking"), ("Can I share my {x}?", "Is it allowed to share the {x}?",
    "May I give my {x} to others?")),
)  # fmt: skip


def pairs(rng: Random, *, each: int = 40) -> Iterator[tuple[str, str, int, str]]:
    """(one, other, 1 when both wish the same, the wish) for every wish: as many of the same as of other things and other wishes."""
    for wish, things, forms in WISHES:
        others = [entry for entry in WISHES if entry[0] != wish]
        for _ in range(each):
            thing, another = rng.sample(things, 2)
            form, shape = rng.sample(forms, 2)
            yield form.format(x=thing), shape.format(x=thing), 1, wish
            yield form.format(x=thing), shape.format(x=another), 0, wish
            _, objects, shapes = rng.choice(others)
            yield form.format(x=thing), rng.choice(shapes).format(x=thing if rng.random() < 0.7 else rng.choice(objects)), 0, wish
