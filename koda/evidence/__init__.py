"""Evidence: what of an audit can be checked by someone who has its files, and signatures over them."""

from __future__ import annotations
