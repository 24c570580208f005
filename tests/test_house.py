"""The house keeps its shape: no class knows too much, none stands in for a part of another, none reaches into another.

Read from the sources: nothing is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from test_architecture import PACKAGE

MOST_FIELDS = 16
# Records whose fields are what users write or read, one by one.
RECORDS = {"ExchangeBar", "OHLCVBar", "StreamConfig", "StreamStats", "TradeFields"}
# Its subclasses are the users', who override `parse_message`.
FOR_USERS = {"BaseWebSocketAdapter", "SinkError"}
# What the loops of the kernel run over: one piece of memory, or the owner of the columns that they read.
HOT = {"Table", "TickBatch"}


@dataclass
class Class:
    """A class or C structure of the package."""

    file: str
    name: str
    bases: list[str]
    fields: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)


def classes_of(path: Path) -> list[Class]:
    """The classes of a source; those of a .pyx and its .pxd are of one file."""
    file = str(path.relative_to(PACKAGE).with_suffix(""))
    text = path.read_text(encoding="utf-8")
    return list(_compiled(file, text) if path.suffix in (".pyx", ".pxd") else _in_python(file, text))


def _in_python(file: str, text: str) -> Iterator[Class]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases]
        found = Class(file, node.name, bases)
        is_record = "NamedTuple" in bases or any("dataclass" in ast.unparse(each) for each in node.decorator_list)
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                if is_record and not ast.unparse(item.annotation).startswith("ClassVar"):
                    found.fields.add(item.target.id)
            elif isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "__slots__":
                found.fields |= {str(each.value) for each in ast.walk(item.value) if isinstance(each, ast.Constant)}
            elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                found.methods.add(item.name)
                found.fields |= {
                    each.attr
                    for each in ast.walk(item)
                    if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
                    if isinstance(each.value, ast.Name) and each.value.id == "self"
                }
        yield found


def _compiled(file: str, text: str) -> Iterator[Class]:
    found: Class | None = None
    for line in text.splitlines():
        code = line.partition("#")[0].rstrip()
        if match := re.match(r"(?:cdef |cpdef )?(?:class|(?:packed )?struct) (\w+)(?:\(([^)]*)\))?:", code):
            if found is not None:
                yield found
            bases = [base.strip() for base in (match[2] or "").split(",") if base.strip()]
            found = Class(file, match[1], bases)
        elif code and not code[0].isspace():
            if found is not None:
                yield found
            found = None
        elif found is not None:
            if match := re.match(r"    (?:cdef |cpdef )?(?:readonly |public )?[\w.]+(?:\[[\w, :]*\])* [*\w, ]+$", code):
                found.fields |= {name.strip(" *").rpartition(" ")[2].strip("*") for name in code.split(",")}
            elif match := re.match(r"    (?:def|cdef|cpdef) [^(]*?(\w+)\(", code):
                found.methods.add(match[1])
    if found is not None:
        yield found


def all_classes() -> dict[tuple[str, str], Class]:
    """Every class of the package, by file and name; a .pyx adds to what its .pxd has declared."""
    classes: dict[tuple[str, str], Class] = {}
    for path in sorted(path for kind in ("pxd", "py", "pyx") for path in PACKAGE.rglob(f"*.{kind}")):
        for each in classes_of(path):
            known = classes.setdefault((each.file, each.name), each)
            known.bases = known.bases or each.bases
            known.fields |= each.fields
            known.methods |= each.methods
    return classes


CLASSES = all_classes()


def bases_of(one: Class) -> Iterator[Class]:
    """The classes of the package that it inherits from, directly or not."""
    for base in one.bases:
        for other in CLASSES.values():
            if other.name == base and other is not one:
                yield other
                yield from bases_of(other)


def test_no_class_has_more_than_sixteen_fields() -> None:
    counts = {
        f"{one.file}: {one.name}": len(one.fields.union(*(base.fields for base in bases_of(one))))
        for one in CLASSES.values()
        if one.name not in RECORDS | HOT
    }
    assert {name: count for name, count in counts.items() if count > MOST_FIELDS} == {}


def test_no_class_is_a_base_for_a_single_other_one() -> None:
    subclasses: dict[str, list[str]] = {}
    for one in CLASSES.values():
        for base in one.bases:
            subclasses.setdefault(base, []).append(one.name)
    own = {one.name for one in CLASSES.values()} - FOR_USERS
    assert {base for base, names in subclasses.items() if base in own and len(names) == 1} == set()


def test_no_class_overrides_a_private_method_of_another_file() -> None:
    overridden = {
        f"{one.file}: {one.name}.{name} of {base.file}"
        for one in CLASSES.values()
        for base in bases_of(one)
        if base.file != one.file
        for name in one.methods & base.methods
        if name.startswith("_") and not name.startswith("__")
    }
    assert overridden == set()


def test_no_module_uses_a_private_name_of_another() -> None:
    used: set[str] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
        own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
        own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        own |= {
            "_agg",
            "_asdict",
            "_exit",
            "_fields",
            "_replace",
            "_AUTHENTICATION",
            "_SSL",
            "_SubParsersAction",
        }  # the kernel, and public names of libraries
        names = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
        names += [alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
        private = {name for name in names if name.startswith("_") and not name.startswith("__")}
        used |= {f"{path.relative_to(PACKAGE)}: {name}" for name in private - own}
    assert used == set()


def test_fields_are_counted_in_every_form() -> None:
    text = (
        "@dataclass\nclass A(B):\n    x: int\n    k: ClassVar[int] = 1\n    def f(self):\n        self.y = self.z = 1\n"
    )
    (found,) = _in_python("a", text)
    assert (found.bases, found.fields, found.methods) == (["B"], {"x", "y", "z"}, {"f"})
    (found,) = _in_python("a", 'class A:\n    __slots__ = ("x", "y")\n    z: int = 1\n')
    assert found.fields == {"x", "y"}
    text = (
        "cdef class A(B):\n    cdef int x, y     # text\n    cdef readonly list z\n    cdef const char *text\n"
        "    cdef int64_t[4] four\n    cdef int f(self, int u) except -1\n    def g(self):\n        cdef int local\n"
        "cdef struct S:\n    int64_t a\n    double *b\n"
    )
    compiled, struct = _compiled("a", text)
    assert (compiled.bases, compiled.methods) == (["B"], {"f", "g"})
    assert compiled.fields == {"x", "y", "z", "text", "four"}
    assert struct.fields == {"a", "b"}


def test_the_allowed_exceptions_are_needed() -> None:
    named = {one.name: len(one.fields) for one in CLASSES.values()}
    assert {name for name in RECORDS | HOT if named[name] <= MOST_FIELDS} == set()
