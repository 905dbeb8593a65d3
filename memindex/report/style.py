"""The style sheet of the report: system fonts, one column, light and dark paper, phones and print."""

from __future__ import annotations

from memindex.report.palette import css_variables

_RULES = """
*, *::before { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 2.1rem; line-height: 1.15; letter-spacing: -.015em; margin: 0 0 .8rem; text-wrap: balance }
h2 { font-size: 1.35rem; line-height: 1.25; letter-spacing: -.01em; margin: 0 0 .15rem }
h1, h2, .summary, .long { overflow-wrap: anywhere }
section { margin-top: 3.2rem }
.kind { margin: 0 0 .3rem; color: var(--muted); font-size: .8rem; letter-spacing: .06em;
  text-transform: uppercase }
.summary { font-size: 1.12rem; margin: 0; max-width: 40rem }
.question { margin: 0 0 .9rem; color: var(--muted) }
.note, .empty, footer { color: var(--muted); font-size: .88rem; margin: .6rem 0 }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; margin: 1.6rem 0 0;
  padding: .8rem 0 0;
  border-top: 1px solid var(--grid); font-size: .9rem }
a { color: var(--series-0); text-decoration-thickness: 1px; text-underline-offset: .2em }
.fit { margin: .3rem 0; font-size: .95rem }
figure { margin: 0 }
figure svg { display: block; width: 100%; height: auto; stroke-linejoin: round; overflow: visible }
.wide svg { max-width: 700px }
.narrow { display: none }
.narrow svg { max-width: 420px; margin: 0 auto }
details { margin-top: .5rem; border-top: 1px solid var(--grid) }
summary { cursor: pointer; padding: .45rem 0; font-size: .9rem; color: var(--muted) }
summary:hover { color: var(--ink) }
:focus-visible { outline: 2px solid var(--series-0); outline-offset: 2px }
.save { margin: 0 0 .6rem; font-size: .84rem }
.scroll, pre { overflow-x: auto; margin: 0 0 .6rem }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.35; font-variant-numeric: tabular-nums }
th { text-align: left; vertical-align: bottom; font-weight: 600; border-bottom: 1px solid var(--muted) }
td { vertical-align: top; border-bottom: 1px solid var(--grid); white-space: nowrap }
.long { white-space: normal; min-width: 14rem }
th, td { padding: .3rem 1.1rem .3rem 0 }
.number { text-align: right }
pre { font-size: .8rem; line-height: 1.45; padding: .8rem;
  background: color-mix(in srgb, var(--grid) 45%, var(--paper)) }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
@media (max-width: 560px) {
  body { font-size: 16px }
  main { padding: 1.5rem 1rem 3rem }
  h1 { font-size: 1.7rem }
  .wide { display: none }
  .narrow { display: block }
}
"""

_PRINT = """
  main { max-width: none; padding: 0 }
  body { font-size: 10.5pt }
  nav, summary, .save { display: none }
  section { margin-top: 1.6rem; break-inside: avoid-page }
  .wide { display: block } .narrow { display: none }
  .scroll { overflow: visible }
"""


def style_sheet() -> str:
    """The whole style sheet; the figures' colour variables are defined in it."""
    light, dark = css_variables(dark=False), css_variables(dark=True)
    return (
        f"\n:root {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"{_RULES}@media print {{\n  :root {{ {light} }}{_PRINT}}}\n"
    )
