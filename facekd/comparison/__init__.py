"""Comparing methods: a grid of recipes, run to its end through any number of kills, and what its figures say.

A room of its own, since it belongs to none of the others: `training` makes one run of one recipe and knows of no other,
`evaluation` judges one model, `distillation` holds the methods; a comparison runs many recipes on equal terms (data,
seeds, budget, student) and judges them together. It uses `recipe`, `training` and `evaluation`, and nothing uses it but
the verb `facekd compare`.
"""
