"""The steps of an audit as plain functions; `tasks` and `flows` schedule them."""
