"""Matplotlib's drawings as SVG for a page or a file: text stays text, colours are variables, ids are unique."""

from __future__ import annotations

import io
import re
from html import escape
from typing import Any

from matplotlib.figure import Figure as Canvas

from memindex.report.palette import css_variables, to_css


def svg_of(canvas: Canvas) -> str:
    """The drawing as an <svg> element without metadata, comments and style sheet."""
    sink = io.StringIO()
    metadata: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}
    canvas.savefig(sink, format="svg", metadata=metadata, transparent=True)
    svg = sink.getvalue()
    svg = svg[svg.index("<svg") :]
    for junk in (r"<metadata>.*?</metadata>\s*", r"<style.*?</style>\s*", r"<!--.*?-->\s*"):
        svg = re.sub(junk, "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="([\d.]+)pt"', r'\1 height="\2"', svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', r'\1 width="\2"', svg, count=1)
    return to_css(svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif"))


def inline(svg: str, name: str, title: str, description: str) -> str:
    """The element for a page that defines the colours; `name` is unique among the page's drawings."""
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    return _told(_unique_ids(svg, name), name, title, description)


def standalone(svg: str, name: str, title: str, description: str) -> str:
    """The element with its own colours, light and dark, for a file that no page surrounds."""
    style = (
        f"<style>svg {{ {css_variables(dark=False)} background: var(--paper); stroke-linejoin: round }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {css_variables(dark=True)} }} }}</style>"
    )
    svg = _told(svg, name, title, description)
    end = svg.index("</desc>") + len("</desc>")
    return svg[:end] + style + svg[end:]


def _told(svg: str, name: str, title: str, description: str) -> str:
    """The drawing with what a screen reader says of it (SVG accessible name and description)."""
    end = svg.index(">") + 1
    words = (
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
    )
    names = f' role="img" aria-labelledby="{name}-title" aria-describedby="{name}-description"'
    return svg[: end - 1] + names + ">" + words + svg[end:]


def _unique_ids(svg: str, prefix: str) -> str:
    """Drop ids that nothing refers to, and prefix the others: many figures share one page."""
    used = set(re.findall(r"#([\w-]+)", svg))

    def rename(match: re.Match[str]) -> str:
        return f' id="{prefix}-{match.group(1)}"' if match.group(1) in used else ""

    svg = re.sub(r' id="([^"]*)"', rename, svg)
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)
