"""The shipped doubles, and the contract suites that every adapter must pass."""
