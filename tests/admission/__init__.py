"""Who may come in: each decision, on a clock that only tests move."""
