"""Sphinx's configuration of the site; `docs/site/build.py` lays out its source and calls it."""

from pathlib import Path

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

HERE = Path(__file__).parent

project = "Computer Vision with ResNet"
html_title = project
language = "en"
include_patterns = ["*.md", "docs/*.md", "notebooks/*.ipynb", "api/*.rst", "*/README.md", "benchmarks/*.md"]
include_patterns += ["docs/explorer/data/*.md"]
include_patterns += ["checkpoints/pretrained/*.md"]
exclude_patterns = ["README.md"]  # parts of it are on the home page

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # scripts of third parties
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4

default_role = "py:obj"  # what stands between single backquotes in a docstring: a link where it is an object of ours
add_module_names = False
python_maximum_signature_line_length = 120
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

html_theme = "furo"
highlight_language = "none"  # of blocks that name no language: they are commands and what they print
pygments_dark_style = "a11y-dark"  # without underlines, which look like links
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_sidebars = {"**": ["sidebar/brand.html", "sidebar/search.html", "sidebar/scroll-start.html"]}
html_sidebars["**"] += ["sidebar/explorer.html", "sidebar/navigation.html", "sidebar/scroll-end.html"]
templates_path = [str(HERE / "templates")]
html_context = {"has_explorer": tags.has("explorer")}  # noqa: F821 (Sphinx gives it)
html_copy_source = False
html_show_sphinx = html_show_copyright = False
html_use_index = html_domain_indices = False
html_math_renderer = "mathml"


def render_formula(self: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw without a script or a font of ours."""
    try:
        self.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    except MathError as error:
        logging.getLogger(__name__).warning("formula %r: %s", node.astext(), error, location=node)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.add_html_math_renderer("mathml", (render_formula, None), (render_formula, None))
