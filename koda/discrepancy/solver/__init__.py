"""Solvers of the constrained problem: dense, and in a growing subspace with proved gaps."""
