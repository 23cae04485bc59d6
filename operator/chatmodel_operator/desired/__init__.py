"""Pure builders, one file per kind: a plan becomes manifests, plain dicts as `kubectl` shows them.

Called by `reconcile`. A manifest holds only the fields we have an opinion on.
"""
