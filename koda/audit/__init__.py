"""The steps of an audit as plain functions; `tasks` and `flows` schedule them."""

from koda.audit.plan import AuditPlan, prepare

__all__ = ["AuditPlan", "prepare"]
