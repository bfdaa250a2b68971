"""The site of these pages: `make docs` builds it with Sphinx from the folder above."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["PYTHONPATH"] = sys.path[0]

import lenet

project = "lenet"
version = release = lenet.__version__
author = "The lenet developers"
copyright = author
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/*.ipynb", "lenet/pretrained/README.md"]
exclude_patterns = [".*", "build", "dist", "runs", "sweeps", "tests", "benchmarks"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
default_role = "code"  # of docstrings
highlight_language = "text"  # of indented blocks: commands and trees
myst_heading_anchors = 4
nb_execution_mode = "off"  # docs/notebooks.py runs the code
nb_merge_streams = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = "lenet"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
