"""The `zoo` command: one module a verb."""
