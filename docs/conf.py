"""Sphinx configuration of the documentation: `make docs` builds it, and a warning is an error."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[1]

project = "fastbars"
author = "The fastbars developers"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Docstrings write code in single backticks.
default_role = "code"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
NAPOLEON = {"napoleon_numpy_docstring": False}
napoleon_numpy_docstring = False
add_module_names = False
maximum_signature_line_length = 88

highlight_language = "none"  # of blocks that name none

html_theme = "furo"
html_title = f"fastbars {release}"
html_static_path = ["static"]
html_css_files = ["fastbars.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False


def _rest(text: str) -> list[str]:
    return str(GoogleDocstring(text, Config(**NAPOLEON))).splitlines()


def _signature(node: ast.FunctionDef) -> str:
    if node.args.args and node.args.args[0].arg == "self":
        del node.args.args[0]
    returned = "" if node.returns is None or node.name == "__init__" else f" -> {ast.unparse(node.returns)}"
    return f"({ast.unparse(node.args)}){returned}"


class CompiledClass(SphinxDirective):
    """`.. compiledclass:: fastbars.kernel.batch.TickBatch`: a class of a compiled module, as its .pyi describes it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The class and its documented members."""
        module, _, name = self.arguments[0].rpartition(".")
        path = ROOT / "src" / Path(*module.split(".")).with_suffix(".pyi")
        self.env.note_dependency(str(path))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        functions = [node for node in found.body if isinstance(node, ast.FunctionDef)]
        made = next((_signature(node) for node in functions if node.name == "__init__"), "")
        lines = [
            f".. py:class:: {name}{made}",
            "",
            *(f"   {line}" for line in _rest(ast.get_docstring(found) or "")),
            "",
        ]
        for node in functions:
            if (text := ast.get_docstring(node)) is not None:
                static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
                lines += [f"   .. py:method:: {node.name}{_signature(node)}"]
                lines += ["      :staticmethod:"] if static else []
                lines += ["", *(f"      {line}" for line in _rest(text)), ""]
        return self.parse_text_to_nodes("\n".join(lines))


class CompiledMethods(SphinxDirective):
    """`.. compiledmethods:: fastbars.entry BarBuffer`: functions of a compiled module that are its methods."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Its documented functions."""
        path = ROOT / "src" / Path(*self.arguments[0].split(".")).with_suffix(".pyi")
        self.env.note_dependency(str(path))
        lines = []
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)) is not None:
                del node.args.args[0]  # the object
                lines += [f".. py:method:: {self.arguments[1]}.{node.name}{_signature(node)}"]
                lines += ["", *(f"   {line}" for line in _rest(text)), ""]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("compiledclass", CompiledClass)
    app.add_directive("compiledmethods", CompiledMethods)
