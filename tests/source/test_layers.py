"""Imports point down only, and each library lives in one room."""

import ast
import re
import sys
from functools import cache
from importlib.metadata import requires
from pathlib import Path

import pytest

import crypto_trigger

HOME = Path(crypto_trigger.__file__).parent
# Each floor may import from those below it, and from nothing beside or above it.
FLOORS = (
    {"__main__"},
    {"entry"},
    {"cli"},
    {"watch"},
    {"checking", "publishing"},
    {"call"},
    {"plugin"},
    {"completion", "options", "run", "demo"},
    {"listener", "views"},
    {"rehearsal"},
    {"delivery", "output", "report_file", "metrics_file", "state_file", "pings"},
    {"render", "plugin_formats", "arrival_formats", "picture"},
    {"report"},
    # The servers as we see them, on several floors.
    {"brokers"},
    {"brokers.follower", "brokers.subscriber"},
    {"brokers.jetstream_rehearsal"},
    {"brokers.jetstream", "brokers.core", "brokers.streaming", "brokers.setup", "brokers.inspection"},
    {"brokers.held"},
    {"brokers.stream", "brokers.streaming_wire", "brokers.inbox"},
    {"brokers.servers", "brokers.other_answers"},
    {"brokers.connection"},
    {"brokers.access", "brokers.faults", "brokers.greeting", "brokers.resolver"},
    {"brokers.tls", "brokers.fault_table", "brokers.jetstream_answers", "brokers.jetstream_errors"},
    {"brokers.failures"},
    {"retry", "server", "draft", "command_line", "web"},
    {"lookback"},
    {"settings"},
    {"table"},
    {"agreement"},
    {"setting", "contexts", "env_file"},
    {"arrival"},
    {"history", "strip", "findings"},
    {"freshness"},
    {"certificates", "trigger", "credentials", "layout", "web_address"},
    {"exposition", "help_page", "values"},
    {"output_file"},
    {"streams"},
    {"errors", "signals", "files", "libraries", "masking"},
    {"__init__"},
)
ROOMS = {
    "typer": {"cli", "completion", "options", "watch"},
    "backoff": {"retry"},
    "rich": {"output"},
    "nats": {"brokers."},
    "nkeys": {"brokers."},
    "dotenv": {"env_file"},
    "subprocess": {"server"},
}
DISTRIBUTIONS = {"dotenv": "python-dotenv", "nats": "nats-py", "nkeys": "nats-py", "subprocess": None}


def name_of(path):
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def running(node):
    """A tree's nodes without what only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for branch in child.orelse:
                yield branch
                yield from running(branch)
            continue
        yield child
        yield from running(child)


def imports(tree):
    """The full names a module imports, at its top or within a function."""
    for node in running(tree):
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


def floor(module):
    return next(number for number, names in enumerate(FLOORS) if module in names)


def test_every_module_has_its_floor():
    assert sorted(FILES) == sorted(name for names in FLOORS for name in names)


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module):
    for name in imported(module):
        target = ours(name)
        if target is not None and target != "__init__":
            assert floor(target) > floor(module), f"{module} imports {name}"


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


def test_only_output_writes_to_stdout_and_stderr():
    for path in HOME.rglob("*.py"):
        if name_of(path) not in {"output", "cli"}:
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
