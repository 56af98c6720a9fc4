"""`make search` and `make test` on a fresh machine: requirements, interpreters, stamps."""

import ast
import graphlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).resolve().parents[1]
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
MACHINES = {
    "linux x86_64": ("linux", "x86_64"),
    "linux aarch64": ("linux", "aarch64"),
    "windows": ("win32", "AMD64"),
    "mac": ("darwin", "arm64"),
}
needs_make = pytest.mark.skipif(not shutil.which("make") or os.name == "nt", reason="needs make")


def _requirements(name="requirements.txt"):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


def _wanted(version, machine):
    system, processor = MACHINES[machine]
    environment = {"python_version": version, "sys_platform": system, "platform_machine": processor}
    return {r.name: r.specifier for r in _requirements() if r.marker is None or r.marker.evaluate(environment)}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("version", VERSIONS)
def test_each_machine_gets_its_stack(version, machine):
    wanted = _wanted(version, machine)
    older = version in ("3.9", "3.10", "3.11")
    assert ("2.15.1" in wanted["tensorflow"], "2.21.0" in wanted["tensorflow"]) == (older, not older)
    assert ("1.26.4" in wanted["numpy"], "2.1.0" in wanted["numpy"]) == (older, not older)
    assert ("tensorboard" in wanted) == (not older)
    assert ("tensorflow-addons" in wanted) == (older and machine in ("linux x86_64", "mac"))


def _imports() -> dict[str, set[str]]:
    """Module of the package -> those of it that it imports, within functions too."""
    paths = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").replace(".__init__", ""): path
        for path in (ROOT / "galm_tf").rglob("*.py")
    }
    graph = {}
    for name, path in paths.items():
        nodes = [
            n
            for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(n, ast.ImportFrom) and n.module
        ]
        wanted = {whole if (whole := f"{n.module}.{a.name}") in paths else n.module for n in nodes for a in n.names}
        graph[name] = (wanted & set(paths)) - {name, "galm_tf"}
    return graph


def test_modules_import_one_another_without_circles():
    graph = _imports()
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises for a circle
    assert set(order) == set(graph) and order.index("galm_tf.layers") < order.index("galm_tf.supernet") < order.index(
        "galm_tf.main"
    )


@pytest.mark.parametrize(
    "part, users",
    [
        ("baselines", ("benchmark",)),
        ("benchmark", ()),
        ("strategies", ("benchmark", "report", "main")),
    ],
)
def test_the_core_does_without_what_it_is_compared_with(part, users):
    def within(name, *parts):
        return any(f"{name}.".startswith(f"galm_tf.{one}.") for one in parts)

    found = {name for name, wanted in _imports().items() if any(within(other, part) for other in wanted)}
    assert {name for name in found if not within(name, part, *users)} == set() and found


def test_commands_in_docstrings_stand_on_lines_of_their_own():
    """They are what --help prints."""
    count = 0
    for path in sorted([*(ROOT / "galm_tf").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]):
        lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
        for before, line in zip(["", *lines], lines):
            if line.startswith("    ") and ("python " in line or "python " in before):
                goes_on = before.endswith("\\")
                assert goes_on or re.match(r" {4}(python|make) ", line), f"{path.name}: {line}"
                assert line.count("python ") <= 1 and len(line) <= 120, f"{path.name}: {line}"
                count += 1
    assert count > 25


def test_every_import_is_required():
    """Read from the sources: what the package imports is named, or comes with what is named."""
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "absl": "absl-py", "keras": "tensorflow"}
    optional = {"pyarrow", "fcntl", "tensorflow_addons", "keras_tuner"}
    required = {r.name for r in _requirements()}
    for path in (ROOT / "galm_tf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {name.split(".")[0] for name in found} - set(
                sys.stdlib_module_names if hasattr(sys, "stdlib_module_names") else ()
            ):
                if top in optional or top == "galm_tf" or top == "__future__":
                    continue
                if not hasattr(sys, "stdlib_module_names") and names.get(top, top) not in required:
                    continue  # Python 3.9 cannot tell the standard library's names
                assert names.get(top, top) in required, f"{path.name} imports {top}"


def _executable(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path):
    """A PATH with nothing but a shell's tools, and an empty home."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "make", "env", "touch", "dirname", "ls", "rm", "find"):
        if shutil.which(name):
            (tools / name).symlink_to(shutil.which(name))
    return {"PATH": str(tools), "HOME": str(tmp_path)}, tools


def _find(environment, *versions):
    return subprocess.run(
        [ROOT / ".ci" / "find_python", *versions], env=environment, capture_output=True, text=True, check=False
    )


def _fake(version, executable="$0"):
    return f'#!/bin/sh\necho "{version} {executable}"\n'


@needs_make
def test_a_name_that_fails_when_it_runs_is_passed_over(machine):
    environment, tools = machine
    _executable(tools / "python3.12", "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    versions = pathlib.Path(environment["HOME"]) / ".pyenv" / "versions" / "3.12.1" / "bin"
    versions.mkdir(parents=True)
    _executable(versions / "python", _fake("3.12"))
    assert _find(environment, "3.12").stdout.strip() == str(versions / "python")


@needs_make
def test_the_order_of_versions_decides(machine):
    environment, tools = machine
    _executable(tools / "python3", _fake("3.10"))
    _executable(tools / "python3.9", _fake("3.9"))
    assert _find(environment, "3.99", "3.9", "3.10").stdout.strip() == str(tools / "python3.9")
    assert _find(environment, "3.10", "3.9").stdout.strip() == str(tools / "python3")


@pytest.fixture
def project(tmp_path):
    """The real Makefile with nothing to install and a main that says which Python it has."""
    root = tmp_path / "project"
    (root / "galm_tf").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", root)
    shutil.copytree(ROOT / ".ci", root / ".ci")
    (root / "requirements.txt").write_text("\n", encoding="utf-8")
    (root / "requirements-dev.txt").write_text("-r requirements.txt\n", encoding="utf-8")
    (root / "galm_tf" / "main.py").write_text("import sys; print('RAN', *sys.argv[1:])\n", encoding="utf-8")
    return root


def _make(project, *arguments, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "VENV", "PYTHON", "ARGS"))}
    done = subprocess.run(
        ["make", *arguments], cwd=project, env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@needs_make
def test_make_sets_up_once(project):
    """First call: environment and packages. Second: neither. Changed requirements, or a package that was left half
    installed: packages. Broken: all.
    """
    code, text = _make(project, "search", f"PYTHON={sys.executable}")
    assert code == 0 and "Setting up .venv with" in text and "install" in text and "RAN --domain=sun\n" in text
    code, text = _make(project, "search", "ARGS=--seed=3")
    assert code == 0 and "Setting up" not in text and "install" not in text and "RAN --domain=sun --seed=3" in text
    os.utime(project / "requirements.txt")
    code, text = _make(project, "search")
    assert code == 0 and "Setting up" not in text and "install" in text
    (packages,) = (project / ".venv" / "lib").glob("python*/site-packages")
    torn = packages / "torn-1.0.dist-info"
    torn.mkdir()
    (torn / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1.0\n", encoding="utf-8")
    code, text = _make(project, "search")
    assert code == 0 and "torn-1.0.dist-info was left half installed" in text and "install --quiet" in text
    assert not torn.exists() and len(list(packages.glob("*.dist-info")))
    (project / ".venv" / "bin" / "python").unlink()
    code, text = _make(project, "search", f"PYTHON={sys.executable}")
    assert code == 0 and "Setting up .venv with" in text and "install" in text and "RAN" in text
    (project / "runs").mkdir()
    assert _make(project, "clean")[0] == 0
    assert sorted(os.listdir(project)) == [
        ".ci",
        "Makefile",
        "galm_tf",
        "requirements-dev.txt",
        "requirements.txt",
        "runs",
    ]


@needs_make
def test_make_without_a_fitting_python(project, machine):
    environment, tools = machine
    _executable(tools / "python3", _fake("3.7"))
    code, text = _make(project, "search", "VERSIONS=3.98 3.99", PATH=environment["PATH"], HOME=environment["HOME"])
    assert (
        code and "error: Expected a Python of these versions: 3.98 3.99. Received: none that runs and has venv" in text
    )
    assert not (project / ".venv").exists()


@needs_make
@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/nowhere/python", "Expected PYTHON to name an interpreter that runs"),
        ("python3", "Received: PYTHON=python3, which is 3.7"),
    ],
)
def test_make_with_a_python_that_does_not_fit(project, machine, python, message):
    environment, tools = machine
    _executable(tools / "python3", "#!/bin/sh\necho 3.7\n")
    code, text = _make(project, "search", f"PYTHON={python}", PATH=environment["PATH"], HOME=environment["HOME"])
    assert code and message in text and not (project / ".venv").exists()


@needs_make
def test_make_takes_no_environment_with_a_space_in_its_name(project):
    code, text = _make(project, "search", "VENV=my env")
    assert code and "Expected VENV to name one folder without spaces. Received: VENV=my env" in text
    assert not (project / "my").exists() and not (project / "env").exists()


def test_the_list_of_commands_ends_well_when_its_reader_has_seen_enough():
    command = [sys.executable, "-m", "galm_tf"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)
    done = subprocess.run(
        ["sh", "-c", '"$0" -m galm_tf >&-', sys.executable], cwd=ROOT, capture_output=True, check=False
    )
    assert (done.stderr, done.returncode) == (b"", 0)
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2 and done.stderr.startswith("error: Expected to write standard output. Received: No")


@needs_make
def test_make_leaves_a_folder_of_other_files_alone(project):
    code, text = _make(project, "search", "VENV=galm_tf", f"PYTHON={sys.executable}")
    assert code and "Received: VENV=galm_tf, which holds other files" in text
    assert _make(project, "clean", "VENV=galm_tf")[0] == 0 and (project / "galm_tf" / "main.py").exists()
