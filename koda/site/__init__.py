"""One static page over all audits of a KODA_HOME, and what is kept so that only changed audits are read again."""

from koda.site.build import BuiltSite, build_site

__all__ = ["BuiltSite", "build_site"]
