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
html_css_files = ["narrow_screens.css"]
html_theme_options = {"source_repository": ""}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Options keep both of their dashes.
smartquotes = False

napoleon_use_ivar = True
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# What torch's modules and Python's dataclasses document themselves.
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}

# GitHub draws the diagrams; here they stand as text, since nothing is loaded from other sites.
lexers["mermaid"] = TextLexer()
