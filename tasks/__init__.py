"""Prefect tasks: one step of an audit each, cached by content digest."""
