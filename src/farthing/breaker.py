"""The circuit breaker in front of something of ours: while it is away, callers learn so at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from farthing.errors import Unavailable


class Breaker:
    """Closed, open, or half-open (M. Nygard, Release It!, "Circuit Breaker").

    After `failures` failures in a row it opens: `attempt` raises `Unavailable` at once for `cooldown_s` seconds. Then one attempt is
    let through as a probe while the others are still refused; its success closes the breaker, its failure opens it again. `fatal` says
    which exceptions are failures; others (a cancelled caller) say nothing about what is behind it. `clock` gives seconds. `name` is what
    the errors call it.
    """

    def __init__(
        self,
        *,
        failures: int,
        cooldown_s: float,
        fatal: tuple[type[Exception], ...],
        clock: Callable[[], float],
        name: str = "The database",
    ) -> None:
        self._name = name
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._fatal = fatal
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Try it, and learn from how it went. Raises `Unavailable` without trying while open."""
        probe = self._admit()
        try:
            yield
        except self._fatal:
            self.failed()
            raise
        else:
            self._failures = 0
            self._opened_at = None
        finally:
            if probe:
                self._probing = False

    def failed(self) -> None:
        """Count a failure that was noticed outside an attempt."""
        self._failures += 1
        if self._failures >= self._limit:
            self._opened_at = self._clock()

    def _admit(self) -> bool:
        """Whether this attempt is the probe."""
        if self._opened_at is None:
            return False
        remaining = self._opened_at + self._cooldown_s - self._clock()
        if remaining > 0 or self._probing:
            raise Unavailable(f"{self._name} is away.", retry_after_s=max(remaining, 0.1))
        self._probing = True
        return True
