"""The one style block of a web report: no fonts or images from anywhere, and no style attributes.

Its digest stands in the page's content security policy, so the browser applies this block and nothing a hostile name
might have smuggled in.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Final

from onnxmark.report.palette import DARK, LIGHT, SERIES, properties

COLUMNS: Final = 20
"""Columns of a table that can be set flush right."""

_RULES: Final = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:80rem;margin:0 auto;padding:2.5rem clamp(1rem,4vw,3rem) 3rem}
h1,h2,h3,h4{line-height:1.25;margin:0;overflow-wrap:anywhere}
h1,h2{font-family:Charter,"Bitstream Charter","Iowan Old Style",Georgia,serif;font-weight:600}
h1{font-size:clamp(1.5rem,3.6vw,2.25rem)}
h2{font-size:1.45rem;display:flex;flex-wrap:wrap;gap:.4rem .8rem;align-items:baseline}
h3{font-size:1.05rem}
h4{font-size:.95rem;font-weight:600}
p,ul,dl{margin:.6rem 0}
section{margin-top:1.9rem}
main>section{margin-top:2.6rem;border-top:1px solid var(--line);padding-top:1.4rem}
.kind{margin:0 0 .35rem;color:var(--soft);font-size:.8rem;letter-spacing:.09em;text-transform:uppercase}
.sub{margin:.35rem 0 0;color:var(--soft)}
.lit{font-family:ui-monospace,"Cascadia Mono",Menlo,"DejaVu Sans Mono",monospace;font-size:.88em;overflow-wrap:anywhere}
.note{color:var(--soft)}
.good{color:var(--good)}
.bad{color:var(--bad)}
.doubt{color:var(--doubt)}
.result{margin:1.5rem 0 0;padding:1rem 1.25rem;border-left:.4rem solid var(--soft);background:var(--wash)}
.result strong{display:block;font-size:1.35rem;letter-spacing:.03em}
.result p{margin:.2rem 0 0;max-width:52rem;overflow-wrap:anywhere}
.result .note{font-size:.9rem}
.result.good{border-color:var(--good);background:var(--good-wash)}
.result.bad{border-color:var(--bad);background:var(--bad-wash)}
.result.doubt{border-color:var(--doubt);background:var(--doubt-wash)}
.result p{color:var(--ink)}
.result .note{color:var(--soft)}
.badge{font:600 .78rem/1.6 system-ui,-apple-system,"Segoe UI",sans-serif;letter-spacing:.05em;padding:0 .55em;
border:1px solid;border-radius:.2rem;white-space:nowrap}
dl{display:grid;grid-template-columns:minmax(8rem,13rem) minmax(0,1fr);gap:.3rem 1.2rem}
dt{color:var(--soft)}
dd{margin:0;grid-column:2;overflow-wrap:anywhere}
ul{padding-left:1.2rem;max-width:54rem}
li{margin:.25rem 0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:1rem 0 .4rem;
background:linear-gradient(to right,var(--paper) 60%,transparent) 0 0/2.5rem 100% local no-repeat,
linear-gradient(to left,var(--paper) 60%,transparent) 100% 0/2.5rem 100% local no-repeat,
linear-gradient(to right,var(--line),transparent) 0 0/.9rem 100% no-repeat,
linear-gradient(to left,var(--line),transparent) 100% 0/.9rem 100% no-repeat}
table{border-collapse:collapse;width:max-content;max-width:100%;font-size:.84rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding-bottom:.4rem}
:where(th,td){max-width:26rem;padding:.28rem .8rem .28rem 0;text-align:left;vertical-align:baseline;
border-bottom:1px solid var(--line)}
th:last-child,td:last-child{padding-right:0}
thead th{color:var(--soft);font-weight:500;max-width:7rem;vertical-align:bottom;white-space:normal}
tbody th{font-weight:400}
td .lit,th .lit{overflow-wrap:normal;word-break:normal}
.sort .lit,.sort td{overflow-wrap:break-word}
:where(%FLUSH%){text-align:right;white-space:nowrap}
.find{display:flex;flex-wrap:wrap;gap:.3rem .6rem;align-items:baseline;margin-top:1rem;font-size:.88rem;
color:var(--soft)}
.find input{font:inherit;color:var(--ink);background:var(--paper);border:1px solid var(--soft);border-radius:.2rem;
padding:.2rem .5rem;width:min(20rem,100%)}
thead button{font:inherit;color:inherit;background:none;border:0;margin:0;padding:.15rem 0;text-align:inherit;
cursor:pointer}
thead button::after{content:"\\2002\\2195\\fe0e";opacity:.6}
[aria-sort] button{color:var(--ink);font-weight:600}
[aria-sort=ascending] button::after{content:"\\2002\\2191";opacity:1}
[aria-sort=descending] button::after{content:"\\2002\\2193";opacity:1}
.bar{white-space:nowrap;text-align:right}
.bar svg{width:81px;height:12px;vertical-align:-.08em;margin-right:.5rem}
.fig{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1.2rem 2.4rem;
align-items:start}
figure{margin:1.2rem 0 0;min-width:0}
figcaption{font-size:.88rem;max-width:54rem}
figcaption b{display:block;font-size:.95rem}
.many{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,18.75rem),1fr));gap:1rem 1.5rem;
margin-top:.8rem}
.many div{min-width:0}
.many h4{margin:0 0 .1rem;font-size:.88rem;font-weight:600;overflow-wrap:anywhere}
.key{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.4rem;margin:.4rem 0 0;padding:0;font-size:.85rem;
color:var(--soft)}
.key svg{vertical-align:-.15em;margin-right:.35rem}
.draw{overflow-x:auto;margin-top:.5rem}
.draw svg{display:block;max-width:100%;height:auto}
.draw .wide{min-width:40rem}
summary{cursor:pointer}
summary>*{display:inline}
details{margin-top:.6rem}
details>summary{color:var(--soft);font-size:.88rem}
section>details>summary{color:var(--ink);font-size:1rem}
pre{font:.78rem/1.5 ui-monospace,"Cascadia Mono",Menlo,"DejaVu Sans Mono",monospace;overflow-x:auto;margin:.5rem 0}
footer{margin-top:2.6rem;border-top:1px solid var(--line);padding-top:.8rem;color:var(--soft);font-size:.85rem}
svg text{font:11px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--soft)}
svg .on{fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
svg .below{fill:var(--wash)}
svg .grid{stroke:var(--line);fill:none}
svg .limit{stroke:var(--ink);fill:none;stroke-dasharray:5 3}
.bar path{stroke:var(--ink);stroke-width:1.5}
svg .curve{stroke:var(--soft);fill:none;stroke-width:1.5}
svg .whisker{stroke:currentColor;fill:none}
svg .drawn{stroke:currentColor;fill:none;stroke-width:1.8}
svg .full,circle,.bar rect{fill:currentColor}
svg .open{fill:var(--paper);stroke:currentColor;stroke-width:1.8}
svg .cross{fill:none;stroke:currentColor;stroke-width:2}
svg .m{text-anchor:middle}
svg .e{text-anchor:end}
:focus-visible{outline:2px solid var(--ink);outline-offset:2px}
@media (max-width:40rem){
dl{grid-template-columns:minmax(0,1fr);gap:0}
dd{grid-column:1}
dt{font-size:.85rem;margin-top:.45rem}
table{max-width:none}
:where(tbody th,td){max-width:9.5rem}
:where(%FLUSH%){max-width:none}
caption{max-width:calc(100vw - 2rem)}
}
@page{margin:15mm}
@media print{
body{font-size:10pt}
main{max-width:none;padding:0}
details::details-content{content-visibility:visible;block-size:auto}
.scroll,.draw,pre{overflow:visible}
.find{display:none}
thead button::after{content:none}
table{width:auto;font-size:7pt}
th,td{padding-right:.5rem}
pre{white-space:pre-wrap}
figure,tr,.many div,.result{break-inside:avoid}
h2,h3,h4{break-after:avoid}
.result,svg .below,.bar rect{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
""".strip()


def stylesheet() -> str:
    """The text of the style block."""
    light = f":root{{color-scheme:light dark;{properties(LIGHT)}}}"
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{properties(DARK)}}}}}"
    # A class on the table instead of one on every cell: a sweep has thousands of cells.
    flush = ",".join(f".n{index} tr>:nth-child({index})" for index in range(1, COLUMNS + 1))
    series = "".join(f".s{index}{{color:var(--series-{index})}}" for index in range(SERIES))
    return f"{light}\n{dark}\n{_RULES.replace('%FLUSH%', flush)}\n{series}"


def digest(style: str) -> str:
    """The source expression that allows exactly this block: ``sha256-...``."""
    return f"sha256-{b64encode(hashlib.sha256(style.encode()).digest()).decode()}"
