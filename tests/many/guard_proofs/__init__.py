"""The long proofs of the guard. Only on request: `make test-many`; in full with FULL_SIZE=1.

Everything but the tests themselves runs in processes of its own: the guard, what is behind it, and
its clients. They obey orders, one a line (`orders`).
"""
