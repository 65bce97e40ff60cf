"""From directions to sets of samples, and what tells them from the rest.

Import the modules: this face loads nothing, since a plan must be readable without torch.
"""
