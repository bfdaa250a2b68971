"""Sweeps: one recipe trained many times with other values.

search_space: what varies; studies: trials in a database; sweep: from a recipe to the best one.
Imports training and figures.
"""
