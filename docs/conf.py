"""Sphinx: the pages of this folder and a reference of everything public. ``make docs`` builds them."""

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

import macr_plugin

project = "macr_plugin"
author = "the macr_plugin authors"
copyright = author
release = macr_plugin.__version__
html_title = f"macr_plugin {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"source_repository": ""}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

napoleon_use_ivar = True
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    # What torch's modules and Python's dataclasses document themselves.
    "undoc-members": False,
    "show-inheritance": True,
    # Of every pydantic model and every torch module: not ours to explain.
    "exclude-members": "model_config, training",
}


def keep_colons(app, what, name, obj, options, lines):
    """Put an empty comment first: Napoleon takes what an attribute's first line has before a colon for its type."""
    if what in ("attribute", "data", "property") and lines:
        lines[:0] = ["..", ""]


def setup(app):
    """Look at docstrings before Napoleon does, whose priority is 500."""
    app.connect("autodoc-process-docstring", keep_colons, priority=400)


# GitHub draws the diagrams; here they stand as text, since nothing is loaded from other sites.
lexers["mermaid"] = TextLexer()
