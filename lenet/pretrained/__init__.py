"""The trained networks that come with the package, and how a run becomes one of them.

publish: from run folders to weights with a card. Imports training, evaluation and figures.
"""
