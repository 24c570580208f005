"""Builds the compiled core; everything else about the package is in pyproject.toml.

A failed build of an extension is an error: there is no slower pure-Python twin to fall back to.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# Every .pyx below src is a module; adding one takes no line here.
PACKAGE = Path("src/fastbars")
MODULES = tuple(".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in sorted(PACKAGE.rglob("*.pyx")))
# A build with sanitizers needs those only that read what an exchange sends.
CHOSEN = os.environ.get("FASTBARS_MODULES", "").split() or MODULES
# Cython knows of .pxd files what depends on them, of .h files nobody does.
HEADERS = sorted(str(path) for path in PACKAGE.rglob("*.h"))

if sys.platform == "win32":
    COMPILE_ARGS = ["/O2"]
    LINK_ARGS: list[str] = []
    INLINE = "__forceinline"
else:
    COMPILE_ARGS = ["-O3", "-g0", "-fno-strict-aliasing", "-Wno-unused-function", "-Wno-unused-const-variable"]
    # Hardening: tools/check_wheel.py looks for it in the built wheel.
    COMPILE_ARGS += ["-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"]
    LINK_ARGS = ["-Wl,-z,relro,-z,now"] if sys.platform.startswith("linux") else []
    INLINE = "inline __attribute__((always_inline))"
# Elsewhere a product and a sum may become one operation, which rounds once: what is rounded here counts on two.
if sys.platform != "win32":
    ROUNDED_TWICE = {"columnar.columns": ["-ffp-contract=off"]}
else:
    ROUNDED_TWICE = {}
# Where "inline" is an order: the loops of ordinary.pxd are compiled once for each kind of batch, by constant arguments.
MACROS = {name: [("CYTHON_INLINE", INLINE)] for name in ("kernel.fold", "kernel.path_loops")}

extensions = [
    Extension(
        f"fastbars.{name}",
        [f"src/fastbars/{name.replace('.', '/')}.pyx"],
        depends=HEADERS,
        include_dirs=["src/fastbars/kernel", "src/fastbars/wire", "src/fastbars/archives"],
        define_macros=MACROS.get(name, []),
        extra_compile_args=COMPILE_ARGS + ROUNDED_TWICE.get(name, []),
        extra_link_args=LINK_ARGS,
    )
    for name in CHOSEN
]

setup(
    ext_modules=cythonize(
        extensions,
        include_path=["src"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": False,
            "freethreading_compatible": False,
            # What Cython generates restores any state that it is given, without a look at it: a class that can be
            # pickled says how.
            "auto_pickle": False,
        },
    ),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
