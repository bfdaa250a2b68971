"""How good a network is, in numbers.

metrics: from scores and labels; evaluate: from a network and a split. Imports data, networks and
engine.
"""
