"""Drawings of a workflow definition: text, Mermaid, SVG and plain data. Pure functions, no Django, no database."""

from .conditions import conditions_of
from .data import as_data
from .mermaid import as_mermaid
from .svg import as_svg
from .text import as_text

__all__ = ["as_data", "as_mermaid", "as_svg", "as_text", "conditions_of"]
