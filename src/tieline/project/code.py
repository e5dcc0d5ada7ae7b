"""The Python of a project: its entities, adapters and processes, imported apart from all other code.

A project's modules call each other `entities` or `adapters.oscar`. They are kept under a package of
their own, and their `import` statements look there first, so that two projects in one process do not
meet and nothing of a project shadows an installed package for anybody else.
"""

import ast
import builtins
import importlib
import re
import sys
import types
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from itertools import count
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final, get_origin

import msgspec

from tieline.entity import Entity, Event, Ref, referenced
from tieline.errors import ConfigurationError
from tieline.project.findings import Findings, Place, meant

_PREFIX: Final = "tieline_project_"
_numbers: Final = count(1)
_UNFIT_FIELD: Final = re.compile(r"\S+\.(\w+\.\w+): (.+?); (.+)", re.DOTALL)
_LONGEST_TEXT: Final = 300


class Code:
    """The modules of the project in `folder`."""

    def __init__(self, folder: Path, findings: Findings) -> None:
        self.folder = folder
        self._findings = findings
        self._package = f"{_PREFIX}{next(_numbers)}"
        package = types.ModuleType(self._package)
        package.__path__ = [str(folder)]
        sys.modules[self._package] = package
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        self._own = _top_names(folder)
        _import_in[self._package] = _importer(self._package, self._own)

    def forget(self) -> None:
        """Unload every module of this project, when nothing of it is used."""
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{self._package}.")]:
            del sys.modules[name]
        _import_in.pop(self._package, None)

    def module(self, name: str, place: Place) -> types.ModuleType | None:
        """The module called `name`, of the project or installed; None, and a mistake, where it fails.

        `place` is where the project file names it.
        """
        if not all(part.isidentifier() for part in name.split(".")):
            self._findings.mistake(place, f"{name!r} is no module name", "write it with dots, such as adapters.oscar")
            return None
        own = name.partition(".")[0] in self._own
        try:
            return importlib.import_module(f"{self._package}.{name}" if own else name)
        except (Exception, SystemExit) as error:  # a module may raise anything
            self._explain(error, name, place)
            return None

    def the_one(self, kind: type[Any], name: str, place: Place) -> Any | None:
        """The one object of class `kind` in the module `name`; None, and a mistake, where there is not one."""
        module = self.module(name, place)
        if module is None:
            return None
        found = {id(value): (name, value) for name, value in vars(module).items() if isinstance(value, kind)}
        if len(found) == 1:
            return next(iter(found.values()))[1]
        where, word = self._file_of(module, place), kind.__name__
        if found:
            names = ", ".join(name for name, _ in found.values())
            self._findings.mistake(where, f"several {word} objects: {names}", "give each a module of its own")
        else:
            self._findings.mistake(where, f"no {word} object", f"assign one: name = {word}(…)")
        return None

    def entities(self) -> dict[str, type[Entity]] | None:
        """The entity classes of `entities`, by name; None where the module fails."""
        if not any((self.folder / name).exists() for name in ("entities.py", "entities")):
            return {}
        module = self.module("entities", Place("entities.py"))
        if module is None:
            return None
        classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Entity)]
        bases = {base for cls in classes for base in cls.__mro__[1:]} | {Entity, Event}
        found = {cls.__name__: cls for cls in classes if cls.__key__ or cls not in bases}
        for cls in found.values():
            self._check_entity(cls)
        return found

    def place_of(self, function: Any, otherwise: Place) -> Place:
        """Where a function or class is written, where that is in the project."""
        code = getattr(function, "__code__", None)
        if isinstance(code, types.CodeType):
            return self._place(code.co_filename, code.co_firstlineno) or otherwise
        module = sys.modules.get(getattr(function, "__module__", ""))
        file = getattr(module, "__file__", None)
        if not isinstance(function, type) or file is None or self._place(file, 0) is None:
            return otherwise
        lines = [node.lineno for node in _classes(Path(file)) if node.name == function.__name__]
        return self._place(file, max(lines, default=0)) or otherwise

    def _check_entity(self, cls: type[Entity]) -> None:
        fields: Sequence[str] = cls.__struct_fields__
        place = self.place_of(cls, Place("entities.py"))
        if not cls.__key__:
            remedy = f'say which field identifies it: class {cls.__name__}(…, key="…")'
            self._findings.mistake(place, f"{cls.__name__} has no key", remedy)
        for word, name in [("key", key) for key in cls.__key__] + [("subject", cls.__subject__)]:
            if name is not None and name not in fields:
                self._findings.mistake(
                    place, f"{cls.__name__} has no field {name!r}, which is its {word}", meant(str(name), fields)
                )
        try:
            referenced(cls)
            msgspec.json.schema(cls, schema_hook=_only_refs)
        except Exception as error:  # whatever an annotation evaluates to
            self._findings.mistake(
                place,
                f"{cls.__name__} has a field without a canonical form: {self._text(error)}",
                "use text, whole numbers, Decimal, Money, datetime, Ref, lists, or Values of those",
            )

    def _explain(self, error: BaseException, name: str, place: Place) -> None:
        if isinstance(error, ConfigurationError):
            self._findings.take_over(self._last_place(error) or place, error)
            return
        if isinstance(error, SyntaxError):
            where = self._place(error.filename or "", error.lineno or 0) or place
            self._findings.mistake(where, f"no valid Python: {error.msg}", "correct this line")
            return
        where = self._last_place(error) or place
        unfit = _UNFIT_FIELD.fullmatch(self._text(error)) if isinstance(error, TypeError) else None
        if unfit is not None:
            field, what, remedy = unfit.groups()
            # The class statement stops at its first unfit field; floats seldom come alone.
            others = _float_fields(self.folder / where.file) if what.startswith("float") else {}
            for wrong, line in (_field_lines(self.folder / where.file, {field}) | others).items():
                self._findings.mistake(where._replace(line=line), f"{wrong}: {what}", remedy)
        elif isinstance(error, ModuleNotFoundError) and error.name is not None:
            missing = error.name.removeprefix(f"{self._package}.")
            if where == place and f"{name}.".startswith(f"{missing}."):
                near = get_close_matches(name, _modules(self.folder), n=1, cutoff=0.8)
                remedy = f"did you mean {near[0]!r}?" if near else f"create {name.replace('.', '/')}.py"
                self._findings.mistake(where, f"there is no module {name!r}", remedy)
            else:
                self._findings.mistake(where, f"there is no module {missing!r}", "install it, or correct the import")
        else:
            self._findings.mistake(where, f"{type(error).__name__}: {self._text(error)}", "correct what stands here")

    def _text(self, error: BaseException) -> str:
        text = " ".join(str(error).replace(f"{self._package}.", "").replace(f"{self.folder}/", "").split())
        return text[:_LONGEST_TEXT]

    def _last_place(self, error: BaseException) -> Place | None:
        """The last line of the project's own code that `error` passed through."""
        passed = [self._place(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
        return next((place for place in reversed(passed) if place is not None), None)

    def _place(self, file: str, line: int) -> Place | None:
        try:
            return Place(Path(file).relative_to(self.folder).as_posix(), line)
        except ValueError:
            return None

    def _file_of(self, module: types.ModuleType, otherwise: Place) -> Place:
        return self._place(getattr(module, "__file__", None) or "", 0) or otherwise


class _Loader(SourceFileLoader):
    """Loads a file of a project, from its source every time, with the project's own `import`."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        code: types.CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: types.ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import_in[package]}
        super().exec_module(module)


class _Finder:
    """Finds modules below the package of a project in the project's folder, and nowhere else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX):
            return None
        found = (FileFinder(entry, (_Loader, [".py"])).find_spec(fullname) for entry in path or ())
        return next((spec for spec in found if spec is not None), None)


_finder: Final = _Finder()
_import_in: Final[dict[str, Any]] = {}


def _importer(package: str, own: frozenset[str]) -> Any:
    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        top = name.partition(".")[0]
        if level or top not in own:
            return __import__(name, globals, locals, fromlist, level)
        module = __import__(f"{package}.{name}", globals, locals, fromlist, 0)
        return module if fromlist else sys.modules[f"{package}.{top}"]

    return import_


def _top_names(folder: Path) -> frozenset[str]:
    """What a project's modules may import of each other: `entities`, `adapters`, `processes` and its other files."""
    files = {path.stem for path in folder.glob("*.py")}
    folders = {path.parent.name for path in folder.glob("*/*.py")}
    names = files | folders | {"adapters", "entities", "processes"}
    return frozenset(name for name in names if name.isidentifier()) - {"tieline"}


def _modules(folder: Path) -> list[str]:
    return [".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.glob("*/*.py")]


def _only_refs(hint: Any) -> dict[str, Any]:
    """Of the types that JSON does not have, a reference is the only one with a canonical form."""
    if (get_origin(hint) or hint) is Ref:
        return {"type": "string"}
    raise TypeError(getattr(hint, "__name__", str(hint)))


def _classes(file: Path) -> list[ast.ClassDef]:
    tree = ast.parse(file.read_bytes())
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def _float_fields(file: Path) -> dict[str, int]:
    """The line of each plain float in the values and entities of a file, by `Class.field`."""
    kinds = {"Value", "Entity", "Event"}
    found: set[str] = set()
    for node in sorted(_classes(file), key=lambda node: node.lineno):
        if kinds.isdisjoint(base.id for base in node.bases if isinstance(base, ast.Name)):
            continue
        kinds.add(node.name)
        found.update(f"{node.name}.{name}" for name, field in _fields(node) if _is_float(field.annotation))
    return _field_lines(file, found)


def _field_lines(file: Path, wanted: set[str]) -> dict[str, int]:
    fields = {f"{node.name}.{name}": field.lineno for node in _classes(file) for name, field in _fields(node)}
    return {name: fields.get(name, 0) for name in sorted(wanted, key=lambda name: fields.get(name, 0))}


def _fields(node: ast.ClassDef) -> list[tuple[str, ast.AnnAssign]]:
    return [(ast.unparse(field.target), field) for field in node.body if isinstance(field, ast.AnnAssign)]


def _is_float(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Annotated"):
        return False
    if isinstance(annotation, ast.Name):
        return annotation.id == "float"
    return any(_is_float(child) for child in ast.iter_child_nodes(annotation) if isinstance(child, ast.expr))
