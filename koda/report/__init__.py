"""The report: one audit record and its thumbnails in, one HTML and one PDF file out."""

from koda.report.environment import template_folder
from koda.report.render import RenderedReport, render

__all__ = ["RenderedReport", "render", "template_folder"]
