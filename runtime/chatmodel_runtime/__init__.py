"""The runtime image: it fetches a model, serves it over HTTP, and says truthfully how it is.

One process and one event loop behind two ports. Nothing imports this package's root.
"""
