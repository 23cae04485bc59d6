"""The three kinds of the group carepath.ai as pydantic types, and the words their status uses.

The CRDs under `crds/` are generated from here (`python -m chatmodel_operator.api.crds`).
"""
