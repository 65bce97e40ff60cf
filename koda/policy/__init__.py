"""Policy: limits on recorded figures, waivers, and the verdict that follows from them."""

from koda.policy.default import default_policy
from koda.policy.facts import AuditFacts
from koda.policy.figure import Figure, Observation
from koda.policy.figures import FIGURES, observe
from koda.policy.judging import judge
from koda.policy.retests import retested
from koda.policy.units import unit_of
from koda.policy.waivers import check_policy, waivers_in_force

__all__ = [
    "FIGURES",
    "AuditFacts",
    "Figure",
    "Observation",
    "check_policy",
    "default_policy",
    "judge",
    "observe",
    "retested",
    "unit_of",
    "waivers_in_force",
]
