"""Every report mien writes: a :class:`~mien.report.document.Document` -> HTML and Markdown.

It knows documents and series, not scores: whoever has something to report builds a Document and
hands it to :func:`mien.report.html.to_html` or :func:`mien.report.markdown.to_markdown`; charts
are SVG strings from :mod:`mien.report.charts` and :mod:`mien.report.plots`.
"""
