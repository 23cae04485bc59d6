"""The ChatModel operator: one object says which model serves; a bad one is taken back by itself.

Nothing imports this package's root; `docs/architecture.md` says where things live.
"""
