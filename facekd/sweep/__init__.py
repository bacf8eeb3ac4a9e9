"""Sweeps: methods x students x seeds on equal terms (data, budget, student), and a report that judges them together.

Each cell is one recipe, run by `facekd.training`; a sweep goes on after any number of kills.
"""
