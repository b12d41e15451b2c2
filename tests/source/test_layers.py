"""Each package imports only from those that the picture allows, and each library lives in one room."""

import ast
import re
import sys
from functools import cache
from importlib.metadata import requires
from pathlib import Path

import pytest

import crypto_trigger

HOME = Path(crypto_trigger.__file__).parent
# What the modules of each package may import beside their own package and `errors`. Imports for types count, too.
ARROWS = {
    "commands": {"reporting", "monitoring", "delivery", "connection", "settings", "slots", "deadline"},
    "reporting": {"settings", "slots", "deadline"},
    "monitoring": {"reporting", "settings", "slots"},
    "delivery": {"connection", "settings", "slots", "deadline"},
    "connection": {"settings", "deadline"},
    "settings": {"slots", "deadline"},
    "slots": set(),
    "deadline": {"slots"},
}
# Modules that stand beside the packages, and what of the package they may import.
TOP = {"__init__": set(), "errors": set(), "__main__": set(ARROWS)}
ROOMS = {
    "typer": {"commands."},
    "backoff": {"deadline.retry"},
    "rich": {"reporting.terminal"},
    "nats": {"connection.", "delivery."},
    "nkeys": {"connection."},
    "dotenv": {"settings.env_file"},
    "subprocess": {"commands.server"},
}
DISTRIBUTIONS = {"dotenv": "python-dotenv", "nats": "nats-py", "nkeys": "nats-py", "subprocess": None}


def name_of(path):
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imports(tree):
    """The full names a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = {name_of(path): path for path in HOME.rglob("*.py")}


@cache
def parsed(module):
    return ast.parse(FILES[module].read_text())


@cache
def imported(module):
    return tuple(imports(parsed(module)))


def ours(full_name):
    """The module of ours that an import reaches, or None."""
    if full_name.split(".")[0] != "crypto_trigger":
        return None
    parts = full_name.split(".")[1:]
    while parts and ".".join(parts) not in FILES:
        parts.pop()
    return ".".join(parts) or "__init__"


def test_every_module_is_in_a_package_of_the_picture():
    assert {module.partition(".")[0] for module in FILES} == set(ARROWS) | set(TOP)


@pytest.mark.parametrize("module", FILES)
def test_imports_follow_the_arrows(module):
    package = module.partition(".")[0]
    allowed = TOP[package] if package in TOP else {*ARROWS[package], package}
    for name in imported(module):
        target = ours(name)
        if target is not None and target not in ("__init__", "errors"):
            assert target.partition(".")[0] in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("package", ARROWS)
def test_a_package_by_itself_imports_nothing(package):
    assert imported(package) == ()


def test_the_arrows_have_no_circle():
    left = dict(ARROWS)
    while left:
        ends = {package for package, targets in left.items() if not targets & set(left)}
        assert ends, f"a circle in {sorted(left)}"
        left = {package: targets for package, targets in left.items() if package not in ends}


def test_one_library_has_one_room():
    for module in FILES:
        for library in {name.split(".")[0] for name in imported(module)} - {"crypto_trigger"}:
            if library in ROOMS:
                assert any(
                    module == room or (room.endswith(".") and module.startswith(room)) for room in ROOMS[library]
                ), (module, library)
            else:
                assert library in sys.stdlib_module_names, f"{module} imports {library}"


def test_every_library_has_a_room_that_uses_it_and_is_asked_for():
    used = {name.split(".")[0] for module in FILES for name in imported(module)}
    assert set(ROOMS) <= used
    required = [line for line in requires("crypto-trigger") if "extra ==" not in line]
    assert {re.match(r"[\w-]+", line)[0] for line in required} == {
        DISTRIBUTIONS.get(library, library) for library in ROOMS
    } - {None}


def test_only_the_terminal_writes_to_stdout_and_stderr():
    for path in HOME.rglob("*.py"):
        if name_of(path) not in {"reporting.terminal", "commands.program"}:
            assert not re.search(r"\bsys\.(stdout|stderr)\b|\bprint\(", path.read_text()), path


KINDS = {"Delivery", "Outcome", "Change"}


def kinds_in(node):
    """The enumerations whose members a tree names."""
    return {
        part.value.id
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in KINDS
    }


def test_kinds_are_told_apart_by_a_match_that_a_new_kind_does_not_pass():
    told = set()
    for module in FILES:
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.Compare):
                assert not kinds_in(node), f"{module}:{node.lineno} compares: a new kind would fall to one side"
            if isinstance(node, ast.Match) and (kinds := kinds_in(ast.Module([c.pattern for c in node.cases], []))):
                told |= kinds
                assert "assert_never(" in ast.unparse(node.cases[-1]), f"{module}:{node.lineno}"
    assert told == KINDS
