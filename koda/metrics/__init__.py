"""Figures of a model, or of two, over a set of samples.

Import the modules: this face loads nothing, since a plan must be readable without torch.
"""
