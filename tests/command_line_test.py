"""Flags, flagfiles and how an entry module ends."""

import dataclasses
import errno
import os
import pathlib
import re
import signal
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

import galm_tf
import main_flags
from galm_tf import command_line, deploy, evaluate, predict, quiet_start, refusals
from galm_tf import config as config_lib
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.run_folder import RunFolder
from small_domains import few_images

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLAGFILES = sorted(ROOT.glob("flags/*.flags"))
# What a user of default.flags names himself: which data, which run.
_NOT_IN_DEFAULT = {
    "domain", "data_dir", "layout", "cache_dir", "verify_cache", "splits_file", "run_dir", "resume", "seed", "source_run",
    "label_files", "leave_out", "add_attribute", "trunk_model", "trunk_layers", "transfer",
}  # fmt: skip


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda p: p.stem)
def test_a_flagfile_is_valid_and_says_what_it_is(path, parse):
    assert isinstance(parse(f"--flagfile={path}"), Config)
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert lines[0].startswith("# ") and any("python -m galm_tf.main" in line for line in comments)
    names = [re.match(r"--(?:no(?!rm))?(\w+)", line).group(1) for line in lines if line.startswith("--")]
    assert len(names) == len(set(names)), "a flag is set twice"


def test_the_flagfiles_are_there():
    assert {"default", "paper", "pretrained", "quick", "smoke", "table_quick", "transfer"} == {
        p.stem for p in FLAGFILES
    }


def test_default_flags_are_the_defaults(parse):
    path = ROOT / "flags" / "default.flags"
    assert parse(f"--flagfile={path}") == Config()
    words = set(re.findall(r"^--(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    missing = [name for name in Config().to_json() if not words & {name, "no" + name}]
    assert set(missing) == _NOT_IN_DEFAULT


def test_paper_flags_keep_the_letter(parse):
    """Paper §3.1, §3.4 and §4.1: the figures that it states."""
    paper = parse(f"--flagfile={ROOT / 'flags' / 'paper.flags'}")
    assert (paper.controller_steps, paper.samples_per_step, paper.controller_learning_rate) == (2000, 1, 1e-4)
    assert (paper.controller_optimizer, paper.baseline, paper.reward, paper.reward_data) == (
        "sgd",
        "global",
        "accuracy",
        "batch",
    )
    assert (paper.entropy_weight, paper.normalize_advantage, paper.derive_top, paper.conditioning) == (
        0,
        False,
        1,
        "concat",
    )
    assert (paper.reward_bn, paper.adapt_steps, paper.weight_decay) == ("recalibrated", 0, 0)


def test_a_folder_alone_names_its_domain_and_paths_from_home_are_whole(parse, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = parse("--data_dir=~/mine,/data/zoo", "--run_dir=~/runs/a", "--source_run=~/b,~c", "--cache_dir=~")
    assert config.domain == ("mine", "zoo") and config.data_dir == (f"{tmp_path}/mine", "/data/zoo")
    assert (config.run_dir, config.source_run, config.cache_dir) == (
        f"{tmp_path}/runs/a",
        (f"{tmp_path}/b", "~c"),
        str(tmp_path),
    )
    assert parse("--data_dir=/data/zoo", "--domain=awa").domain == ("awa",) and parse().domain == ("sun",)
    with flagsaver.flagsaver():
        command_line.parse_flags(["main", "--data_dir=/data/zoo"])
        # as --resume and --add_attribute have it
        assert config_lib.from_flags(flags.FLAGS, Config(domain=("mine",))).domain == ("mine",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--data_dir=b\xe4r\n", "Expected a flagfile in UTF-8.*save it as UTF-8"),
        ("\ufeff--rounds=3\n".encode(), "byte-order mark, before --rounds=3; save"),
    ],
)
def test_flagfiles_in_other_encodings(parse, tmp_path, content, message):
    (tmp_path / "x.flags").write_bytes(content)
    with pytest.raises(UserError, match=message):
        parse(f"--flagfile={tmp_path}/x.flags")
        command_line.expect_no_arguments(command_line.parse_flags(["main", f"--flagfile={tmp_path}/x.flags"]))


def test_a_terminal_that_lacks_a_letter_is_no_reason_to_stop():
    code = "from galm_tf import command_line\ncommand_line.run(lambda _: print('полосатый'), ['x'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0 and done.stdout.startswith(rb"\u043f"), done


SMOKE = str(ROOT / "flags" / "smoke.flags")


@pytest.mark.parametrize(
    "arguments",
    [(f"--flagfile={SMOKE}", "--rounds=5"), ("--rounds=5", f"--flagfile={SMOKE}"), ("--rounds", "5", "--flagfile", SMOKE), ("--rounds=5", "-flagfile", SMOKE)],
    ids=["after", "before", "apart", "one-dash"],
)  # fmt: skip
def test_typed_flags_win_over_a_flagfile_wherever_it_stands(parse, arguments):
    config = parse(*arguments)
    assert (config.rounds, config.warmup_steps) == (5, 6)


def test_of_several_flagfiles_the_later_wins_and_one_within_another_counts_where_it_stands(parse, tmp_path):
    (tmp_path / "inner.flags").write_text("--rounds=3\n--batch_size=8\n", encoding="utf-8")
    (tmp_path / "outer.flags").write_text(
        f"--rounds=4\n--flagfile={tmp_path}/inner.flags\n--batch_size=9\n", encoding="utf-8"
    )
    outer = f"--flagfile={tmp_path}/outer.flags"
    assert (parse(outer).rounds, parse(outer).batch_size) == (3, 9)
    assert (
        parse(outer, "--seed=1", f"--flagfile={SMOKE}").rounds == 1
        and parse(f"--flagfile={SMOKE}", "--seed=1", outer).rounds == 3
    )


def test_typed_values_of_a_flag_for_several_win_over_those_of_a_flagfile(parse, tmp_path):
    parse()
    (tmp_path / "x.flags").write_text("--rounds=3\n--several=a\n--several=b\n", encoding="utf-8")
    file = f"--flagfile={tmp_path}/x.flags"
    for typed, values in ([], ["a", "b"]), (["--several=c"], ["c"]), (["--several", "b", "--several=c"], ["b", "c"]):
        if "several" in flags.FLAGS:
            del flags.FLAGS.several
        flags.DEFINE_multi_enum("several", ["d"], list("abcd"), "")
        with flagsaver.flagsaver():
            assert command_line.parse_flags(["x", *typed, file, "e", "f"]) == ["x", "e", "f"]
            assert (flags.FLAGS.several, flags.FLAGS.rounds) == (values, 3)
            assert flags.FLAGS["several"].present == len(values)
    del flags.FLAGS.several


def test_flags_of_other_versions_may_be_passed_over_in_a_flagfile_too(parse, tmp_path):
    (tmp_path / "x.flags").write_text("--rounds=3\n--newer=1\n", encoding="utf-8")
    assert parse("--undefok=newer", f"--flagfile={tmp_path}/x.flags").rounds == 3
    (tmp_path / "y.flags").write_text("--undefok=newer\n", encoding="utf-8")
    assert parse(f"--flagfile={tmp_path}/y.flags", "--newer=1", "--rounds=4").rounds == 4


def test_what_follows_two_dashes_is_no_flagfile(parse):
    parse()
    with flagsaver.flagsaver():
        assert command_line.parse_flags(["x", "--rounds=5", "a", "--", "--flagfile=b"]) == ["x", "a", "--flagfile=b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# c\n\n--lerning_rate=3\n", "Received: --lerning_rate in FILE, line 3; did you mean --learning_rate?"),
        ("--noaugment_flop\n", "Received: --noaugment_flop in FILE, line 1; did you mean --augment_flip?"),
        ("--zzqx\n", "Received: --zzqx in FILE, line 1; run with --help"),
        (
            "--rounds=many\n",
            "Expected --rounds to be a whole number, at least 1. Received: --rounds=many in FILE, line 1; run with --help",
        ),
        (
            "--dropout=1,5\n",
            "Expected --dropout to be a number, between 0.0 and 0.9. Received: --dropout=1,5 in FILE, line 1; run",
        ),
        (
            "--resume=perhaps\n",
            "Expected --resume to be true or false. Received: --resume=perhaps in FILE, line 1; run",
        ),
        (
            "--reward=mauc\n",
            "Expected --reward to be one of auc, accuracy, balanced_accuracy. Received: --reward=mauc in FILE, line 1; nearest: auc.",
        ),
        ("--reward=\n", "Received: --reward= in FILE, line 1; name one."),
        (
            "--noresume=1\n",
            "Expected flags that can be read. Received: --noresume=1 does not take an argument; run with --help",
        ),
        ("--rounds=0\n", "Expected --rounds to be at least 1. Received: rounds=0"),
        ("--image_size=50\n", "multiple of 32. Received: image_size=50"),
    ],
)
def test_a_mistake_in_a_flagfile(parse, tmp_path, content, message):
    path = tmp_path / "my.flags"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        parse(f"--flagfile={path}")
    text = str(error.value)
    assert re.search(re.escape(message).replace(r"\.\*", ".*").replace("FILE", re.escape(str(path))), text), text
    assert "\n" not in text


def test_a_flag_on_the_command_line_is_not_blamed_on_a_file(parse, tmp_path):
    (tmp_path / "my.flags").write_text("--rounds=3\n", encoding="utf-8")
    with pytest.raises(UserError, match="Received: --round; did you mean --rounds"):
        parse(f"--flagfile={tmp_path}/my.flags", "--round=3")


def test_a_missing_flagfile_names_the_nearest(parse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("flags")
    pathlib.Path("flags", "quick.flags").write_text("", encoding="utf-8")
    for given, repair in (
        ("flags/quik.flags", "nearest: flags/quick.flags"),
        ("quick.flags", "nearest: flags/quick.flags"),
        ("none/x", "check its path"),
    ):
        with pytest.raises(UserError, match=f"Received: --flagfile={given} .No such file or directory.; {repair}[.]$"):
            parse(f"--flagfile={given}")
    shutil.rmtree("flags")
    with pytest.raises(UserError, match="; run it from a checkout, or give the settings by flags[.]$"):
        parse("--flagfile=flags/quick.flags")


@pytest.mark.parametrize("flag", ["--rounds", "--flagfile"])
def test_a_flag_without_its_value(parse, flag):
    with pytest.raises(UserError, match=f"Expected a value of {flag}. Received: none; give it as {flag}=VALUE."):
        parse("--seed=1", flag)


def test_an_unset_variable_is_not_taken_for_a_flag_that_is_left_out(parse, tmp_path):
    for flag in ("source_run", "label_files", "run_dir"):
        with pytest.raises(UserError, match=f"Expected a value of --{flag}. Received: --{flag}= and nothing; name one"):
            parse(f"--{flag}=")
    (tmp_path / "x.flags").write_text("--source_run=runs/A\n", encoding="utf-8")
    assert parse(f"--flagfile={tmp_path}/x.flags", "--source_run=").source_run == ()
    assert parse("--resume", "--leave_out=").leave_out == ()  # in place of the run's
    parse("--undefok=foo", "--foo=")
    outer = tmp_path / "outer.flags"
    outer.write_text(f"--label_files=\n--flagfile={tmp_path}/x.flags\n", encoding="utf-8")
    assert parse(f"--flagfile={outer}", "--source_run=", "--label_files=").source_run == ()
    for arguments in (
        (f"--flagfile={SMOKE}", "--source_run="),  # which that file does not give
        (f"--flagfile={tmp_path}/x.flags", "--label_files="),
        ("--flagfile=",),
        ("--flagfile", ""),
        ("--resume", "--flagfile="),
        ("--source_run=runs/A", "--add_attribute="),
    ):
        with pytest.raises(UserError, match="Expected a value of --(.*). Received: --\\1= and nothing; name one"):
            parse(*arguments)


@pytest.mark.parametrize("name", ["domain", "data_dir", "label_files", "leave_out", "source_run"])
@pytest.mark.parametrize("value", [",", "a,,b", "a,"])
def test_a_gap_in_a_list_is_told(parse, tmp_path, name, value):
    message = f"before and after every comma of --{name}. Received: --{name}={value}"
    with pytest.raises(UserError, match=f"{message}; name what is missing, or take a comma out.$"):
        parse(f"--{name}={value}")
    (tmp_path / "x.flags").write_text(f"--seed=1\n--{name}={value}\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"{message} in {tmp_path}/x.flags, line 2; name"):
        parse(f"--flagfile={tmp_path}/x.flags")


def test_a_name_with_a_line_break_goes_in_quotes(parse):
    with pytest.raises(
        UserError, match="list of strings. Received: --data_dir=a\nb; put a name that .* in double quot"
    ):
        parse("--data_dir=a\nb")
    assert parse('--data_dir="a\nb"').data_dir == ("a\nb",)


def test_a_folder_whose_name_is_no_text_asks_for_one_of_its_domain(parse):
    folder = os.fsdecode(b"data/b\xff")
    with pytest.raises(
        UserError, match=r"names in UTF-8 in --domain.* Received: domain='b\\udcff'; choose .* --domain"
    ):
        parse(f"--data_dir={folder}")
    assert parse(f"--data_dir={folder}", "--domain=b").data_dir == (folder,)


def test_bounds_of_a_commands_own_flags_are_told():
    values = flags.FlagValues()
    flags.DEFINE_integer("top", 0, "", lower_bound=0, flag_values=values)
    flags.DEFINE_float("threshold", 0, "", lower_bound=0, upper_bound=1, flag_values=values)
    assert [command_line._bounds(values[name]) for name in ("top", "threshold")] == ["at least 0", "between 0 and 1"]


def test_words_without_dashes_are_refused():
    with pytest.raises(UserError, match="Expected flags only. Received: domain=sun;"):
        command_line.expect_no_arguments(["main", "domain=sun"])
    command_line.expect_no_arguments(["main"])


@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [
        (None, 0, ""),
        (UserError("Expected a. Received: b."), 2, "error: Expected a. Received: b.\n"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
        (RuntimeError("error_already_set: X REPLACED BY KeyboardInterrupt"), 130, "\nInterrupted.\n"),
        (KeyboardInterrupt("Add --resume."), 130, "\nInterrupted. Add --resume.\n"),
    ],
)
def test_exit_status(capsys, raised, status, told):
    def main(_):
        if raised is not None:
            raise raised

    with pytest.raises(SystemExit) as stop:
        command_line.run(main, ["main"])
    assert stop.value.code == status
    assert capsys.readouterr().err == told


def _exhausted(words):
    return tf.errors.ResourceExhaustedError(None, None, words)


def test_too_little_memory_is_told(capsys, monkeypatch):
    def main(_):
        raise _exhausted("{{node x}} OOM when allocating [1,2] [Op:Conv2D]\nnode: x")

    with pytest.raises(SystemExit) as stop:
        command_line.run(main, ["main"])
    assert stop.value.code == command_line.BAD_INPUT
    assert capsys.readouterr().err.startswith("error: Expected more memory")
    assert refusals.lacks_memory(MemoryError()) and not refusals.lacks_memory(ValueError())
    # TensorFlow's word for a full disk, and for too many open files
    assert not refusals.lacks_memory(_exhausted(f"/disk; {os.strerror(errno.ENOSPC)} [Op:SaveV2]"))
    told = "Expected more memory, of the GPU where one computes. Received: {}; free what other programs hold and {}."
    processor = ", have the processor compute by CUDA_VISIBLE_DEVICES=-1 before it"
    monkeypatch.setattr(command_line.flags, "FLAGS", {})
    assert command_line._of_memory(MemoryError()) == told.format("none is left", "give the command again" + processor)
    monkeypatch.setattr(command_line.flags, "FLAGS", {"resume", "batch_size", "image_size"})
    assert command_line._of_memory(_exhausted("{{node x}} OOM [Op:X]\nnode")) == told.format(
        "OOM",
        f"give the command again, a run's with --resume{processor}, or begin anew with a smaller --batch_size or --image_size",
    )


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), RuntimeError("error REPLACED BY KeyboardInterrupt")])
def test_the_outer_of_two_that_can_go_on_tells_how(capsys, raised):
    def main(_):
        with command_line.interrupted("The same command goes on."), command_line.interrupted("Add --resume."):
            raise raised

    with pytest.raises(SystemExit) as stop:
        command_line.run(main, ["main"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "\nInterrupted. The same command goes on.\n"
    with pytest.raises(RuntimeError, match="other"), command_line.interrupted():
        raise RuntimeError("other")


def _ended(module, *arguments, before=""):
    """A command in a process of its own, whose first import of NumPy is replaced by some code."""
    code = f"""if True:
        import runpy, sys
        class Finder:
            def find_spec(self, name, *_):
                if name == "numpy":
                    import logging
                    {before}
        sys.meta_path.insert(0, Finder())
        sys.argv[1:] = {list(arguments)!r}
        runpy._run_module_as_main({module!r})
    """
    return _python(code)


_TERMINATE = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"


@pytest.mark.parametrize(
    "module, before",
    [("main", _TERMINATE), *((name, "raise KeyboardInterrupt") for name in ("benchmark", "tune", "report", "predict"))],
)
def test_an_interrupt_while_modules_are_loaded_ends_quietly(module, before):
    done = _ended(f"galm_tf.{module}", before=before)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nInterrupted.\n")


def test_a_schedulers_signal_ends_a_command_as_an_interrupt():
    stopped = (
        "import os, signal, galm_tf.command_line as c; c.parse_flags = lambda _: os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = _ended("galm_tf.report", before=stopped)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nInterrupted.\n")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("loading", [False, True])
def test_a_signal_that_comes_while_garbage_is_collected_is_not_lost(number, loading):
    """Python raises what it means there, and passes over it."""
    lost = f"""
                    import os, signal, time, weakref
                    import galm_tf.command_line as c
                    def stopped(_=None):
                        signal.signal(signal.{number}, signal.default_int_handler)  # what runs the tests may ignore it
                        found = weakref.WeakSet()
                        watched = weakref.ref(found, lambda _: os.kill(os.getpid(), signal.{number}))
                        del found
                        time.sleep(20)
                    c.parse_flags = stopped
                    {"stopped()" * loading}
    """
    done = _ended("galm_tf.report", before=lost)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nInterrupted.\n")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("loading", [False, True])
def test_a_signal_that_comes_again_leaves_the_exit_status(number, loading):
    """Also where Python no longer raises what it means, but leaves it to the system."""
    again = f"""
                    import os, signal
                    import galm_tf.command_line as c
                    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may ignore it
                    class Late:
                        def __del__(self, kill=os.kill, process=os.getpid()): kill(process, {int(getattr(signal, number))})
                    def stopped(_=None):
                        c.late = Late()
                        raise KeyboardInterrupt
                    c.parse_flags = stopped
                    {"stopped()" * loading}
    """
    done = _ended("galm_tf.report", before=again)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nInterrupted.\n")


def test_another_error_that_cannot_be_raised_is_told():
    failing = """
                    import galm_tf.command_line as c
                    class Failing:
                        def __del__(self): raise ValueError("bug")
                    c.parse_flags = lambda _: [Failing()].clear() or exit()
    """
    assert "ValueError: bug" in _ended("galm_tf.report", before=failing).stderr


def test_warnings_have_one_form():
    done = _ended(
        "galm_tf.report",
        before="logging.warning('%s is left out', 'x'); logging.getLogger('y').warning('z'); raise KeyboardInterrupt",
    )
    assert done.stderr == "warning: x is left out\nwarning: z\n\nInterrupted.\n"


def test_a_command_does_not_look_for_garbage_in_modules():
    told = "lambda: print(gc.isenabled(), gc.get_freeze_count() > 10**4)"
    done = _ended("galm_tf.report", "--none", before=f"import atexit, gc; told = {told}; told(); atexit.register(told)")
    assert (done.returncode, done.stdout) == (command_line.BAD_INPUT, "False False\nTrue True\n")


def test_who_imports_the_package_keeps_his_own_hook_and_collector():
    code = (
        "import gc, sys; from galm_tf import command_line; print(sys.excepthook is sys.__excepthook__, gc.isenabled())"
    )
    assert _python(code).stdout == "True True\n"


def test_main_returns_its_own_status():
    with pytest.raises(SystemExit) as stop:
        command_line.run(lambda rest: len(rest), ["main", "image.jpg"])
    assert stop.value.code == 2


def test_a_bug_keeps_its_traceback():
    def main(_):
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        command_line.run(main, ["main"])


def _python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


def test_a_reader_that_stops_early_is_no_error():
    code = "from galm_tf import command_line\ncommand_line.run(lambda _: print('x\\n' * 10**6, flush=True))"
    producer = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {code!r}], stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
    done = _python(producer + "p.stdout.readline(); p.stdout.close(); print(p.stderr.read().decode(), p.wait())")
    assert done.stdout.strip() == "0" and not done.stderr


def _redirected(redirection, *arguments):
    """A Python of which a shell redirects the standard streams."""
    if not os.path.exists("/dev/full"):
        pytest.skip("a disk that is full")
    command = ["sh", "-c", f'exec "$0" "$@" {redirection}', sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


_FULL = "error: Expected to write standard output. Received: No space left on device; make room there, or send it elsewhere.\n"


@pytest.mark.parametrize("size", [1, 10**6])
@pytest.mark.parametrize("end", ["return 0", "return 1", "raise command_line.UserError('Expected a.')", "--help"])
def test_what_cannot_be_written_is_no_success(size, end):
    code = f"from galm_tf import command_line\ndef main(_):\n  print({size} * 'x')\n  {end.replace('--help', 'pass')}\ncommand_line.run(main)"
    arguments = ("-c", code, *[end] * (end == "--help"))
    done = _redirected(">/dev/full", *arguments)
    assert done.returncode == 2 and done.stderr in (_FULL, f"error: Expected a.\n{_FULL}")
    both = _redirected(">/dev/full 2>&1", *arguments)
    assert (both.returncode, both.stdout, both.stderr) == (2, "", "")


def test_another_file_that_cannot_be_written_is_not_taken_for_standard_output():
    done = _python(
        "from galm_tf import command_line\ndef main(_):\n  raise OSError(28, 'No space left on device')\ncommand_line.run(main, ['x'])"
    )
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_takes_what_is_told(closed):
    done = _redirected(closed, "-m", "galm_tf.report", "no such run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == done.stderr.startswith("error: Expected") == (closed == ">&-")


def test_notices_of_tensorflows_start_are_held_back_and_nothing_else():
    lines = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\nI0000 00:00:17.1 7 port.cc:153] on\nE0000 00:00 trouble\n"
    code = f"import os\nfrom galm_tf import quiet_start\nwith quiet_start.without_notices():\n    os.write(2, {lines.encode()!r})\nos.write(2, b'after')"
    assert _python(code).stderr == "E0000 00:00 trouble\nafter"
    failing = code.replace("os.write(2, b'after')", "    1 / 0")
    assert _python(failing).stderr.startswith("E0000 00:00 trouble\nTraceback")
    assert (
        _python(
            "import os\nos.close(2)\nfrom galm_tf import quiet_start\nwith quiet_start.without_notices():\n    print('closed')"
        ).stdout
        == "closed\n"
    )


def test_what_is_held_back_follows_a_failure_alone():
    for error, shown in (("ValueError", "noise"), ("KeyboardInterrupt", ""), (None, "")):
        fails = f"raise {error}" if error else "pass"
        code = f"""import os
from galm_tf import quiet_start
try:
    with quiet_start.held_back():
        os.write(2, b'noise')
        {fails}
except BaseException:
    pass"""
        assert _python(code).stderr == shown


def test_standard_error_is_back_after_threads_held_it_back():
    code = """import os, threading
from galm_tf import quiet_start
first, second, left = threading.Event(), threading.Event(), threading.Event()
def one():
    with quiet_start.held_back():
        first.set()
        second.wait(0.3)
    left.set()
def other():
    first.wait()
    with quiet_start.held_back():
        second.set()
        left.wait()
threads = [threading.Thread(target=target) for target in (one, other)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
os.write(2, b'after')"""
    assert _python(code).stderr == "after"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_a_process_that_is_forked_off_while_a_thread_holds_back_has_its_standard_error():
    code = """import os, threading, time
from galm_tf import quiet_start
held = threading.Event()
def hold():
    with quiet_start.held_back():
        held.set()
        time.sleep(0.2)
threading.Thread(target=hold).start()
held.wait()
if not os.fork():
    with quiet_start.held_back():
        os.write(2, b'noise')
    os.write(2, b'forked')
    os._exit(0)
os.wait()
os.write(2, b' after')"""
    assert _python("import warnings\nwarnings.simplefilter('ignore')\n" + code).stderr == "forked after"


_NO_FOLDER = "import os, tempfile\ntempfile._candidate_tempdir_list = list\n"  # that can be written to


def test_tensorflow_starts_where_no_folder_can_be_written_to():
    code = "from galm_tf import command_line, quiet_start\nquiet_start.import_tensorflow()\nquiet_start.start_xla()"
    environment = {name: value for name, value in os.environ.items() if name != "TEST_TMPDIR"}
    told = _python(_NO_FOLDER + code, env=environment)
    assert (told.returncode, told.stderr) == (0, "")


def test_what_cannot_be_held_back_is_told_at_once():
    code = "vars(os).pop('memfd_create', None)\nfrom galm_tf import quiet_start\nwith quiet_start.held_back():\n    os.write(2, b'noise')"
    told = _python(_NO_FOLDER + code)
    assert (told.returncode, told.stderr) == (0, "noise")


def test_a_command_that_writes_temporary_files_asks_for_a_folder():
    code = "from galm_tf import command_line\ncommand_line.run(lambda _: tempfile.mkdtemp())"
    told = _python(_NO_FOLDER + code)
    assert told.returncode == 2
    assert told.stderr.startswith("error: Expected a folder for temporary files. Received: No usable")
    told = _python("from galm_tf import command_line\ncommand_line.run(lambda _: open('none/x'))")
    assert told.returncode == 1 and told.stderr.startswith("Traceback")


def test_a_working_folder_that_was_deleted_is_told_where_it_is_needed(tmp_path):
    code = "import os, sys\nfrom galm_tf import command_line\nos.chdir(sys.argv.pop())\nos.rmdir(os.getcwd())\ncommand_line.run(lambda _: {})"
    for done, status, told in (
        ("print('x')", 0, ""),
        ("os.path.abspath('x') and 0", 2, "error: Expected a working folder"),
    ):
        (tmp_path / "gone").mkdir()
        ended = _python(code.format(done), str(tmp_path / "gone"))
        assert ended.returncode == status and ended.stderr.startswith(told) and ended.stderr.count("\n") == bool(told)


def test_help_lists_every_setting():
    code = "from galm_tf import command_line, config; config.define_flags(); command_line.run(print)"
    told = _python(code, "--help")
    assert told.returncode == 0 and "Flags of this command" not in told.stdout
    shown = re.findall(r"^  --(?:\[no\])?(\w+)", told.stdout, re.MULTILINE)
    assert shown == [name for names in config_lib.grouped().values() for name in names] == list(Config().to_json())
    titles = re.findall(r"^(\w.*):$", told.stdout, re.MULTILINE)
    assert titles == list(config_lib.GROUPS) == list(config_lib.grouped())


@pytest.mark.parametrize("command", [predict, evaluate, deploy])
def test_exit_statuses_are_told_with_that_of_an_interruption(command):
    assert f"{command_line.INTERRUPTED} when interrupted" in command.__doc__


def test_help_says_once_how_to_give_several_and_what_a_tuning_leaves():
    told = _python("import runpy, sys; sys.argv[1:] = ['--help']; runpy._run_module_as_main('galm_tf.tune')").stdout
    assert "Folder for trials.csv, tune.json" in told
    assert "What is tuned; repeat this option to specify a list of values\n" in told
    assert "How many settings are tried, besides the settings as they are.\n" in told


def test_help_shows_a_commands_own_flags_first_and_none_of_libraries_which_start_without_a_word():
    start = "quiet_start.import_tensorflow()\nquiet_start.start_xla()\nquiet_start.start_xla()\n"
    told = _python(
        f"from galm_tf import command_line, quiet_start\n{start}from galm_tf import predict\npredict.define_flags()\ncommand_line.run(print)",
        "--help",
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert re.findall(r"^  --(?:\[no\])?(\w+)", told.stdout, re.MULTILINE) == [
        field.name for field in dataclasses.fields(predict.Options)
    ]
    assert (
        "Flags of this command:\n  --model\n      The saved_model folder" in told.stdout
        and "Data:" not in told.stdout
        and "(default: table)" in told.stdout
    )


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, tmp_path):
    from galm_tf import main, pipeline

    def stopped(config, folder, make_strategy):
        raise KeyboardInterrupt

    path = str(tmp_path / "run")
    monkeypatch.setattr(pipeline, "run", stopped)
    with pytest.raises(KeyboardInterrupt, match=f"--resume --run_dir={path}$"):
        main.run(Config(), path)
    assert os.path.exists(os.path.join(path, "config.json"))


def test_the_package_lists_its_commands():
    done = _python("import runpy; runpy._run_module_as_main('galm_tf')")
    assert done.returncode == 0 and done.stderr == ""
    told = re.findall(r"^  python -m galm_tf\.(\w+) +[A-Z]", done.stdout, re.MULTILINE)
    names = {
        p.stem for p in pathlib.Path(galm_tf.__file__).parent.glob("*.py") if "command_line.run(main)" in p.read_text()
    }
    names |= {p.parent.name for p in pathlib.Path(galm_tf.__file__).parent.glob("*/__main__.py")}
    assert set(told) == names - {"command_line"}


def test_a_resumed_run_knows_its_own_settings(tmp_path, monkeypatch):
    path = str(tmp_path / "run")
    config = Config(domain=("mine",), data_dir=("/data/zoo",), rounds=3, augment_flip=False)
    RunFolder.create(path, config)
    same = main_flags.settings("--resume", f"--run_dir={path}")
    assert same == dataclasses.replace(config, resume=True, run_dir=path)
    other = main_flags.settings("--resume", f"--run_dir={path}", "--rounds=4")
    with pytest.raises(
        UserError,
        match="Expected the settings of the run in .*run. Received: rounds=4 now, 3 in the run; leave such flags out beside --resume.* or give --rounds=3",
    ):
        RunFolder.resume(path, other)
    with pytest.raises(UserError, match="Expected a run folder with a config.json"):
        main_flags.settings("--resume", f"--run_dir={path}-2")


def test_a_mistake_found_before_anything_was_made_leaves_no_folder(monkeypatch, tmp_path):
    from galm_tf import main

    path = str(tmp_path / "run")
    for _ in range(2):
        with pytest.raises(UserError, match="nowhere"):
            main.run(Config(data_dir=("nowhere",)), path)
    assert not os.path.exists(path)


def test_a_source_that_is_none_leaves_no_folder_that_would_refuse_the_right_one(tmp_path):
    from galm_tf import main

    path = str(tmp_path / "run")
    with (
        few_images(4),
        pytest.raises(
            UserError,
            match="Expected a run folder with a config.json. Received: --source_run=none/such [(]No such file",
        ),
    ):
        main.run(Config(image_size=32, cache_dir=str(tmp_path / "cache"), source_run=("none/such",)), path)
    assert not os.path.exists(path)


def test_a_frozen_trunk_needs_a_source(monkeypatch):
    from absl import flags
    from absl.testing import flagsaver

    from galm_tf import command_line, config, main

    if "image_size" not in flags.FLAGS:
        config.define_flags()
    with flagsaver.flagsaver():
        command_line.parse_flags(["galm_tf.main", "--freeze_trunk"])
        with pytest.raises(UserError, match="Expected a --source_run beside --freeze_trunk.*Received: none;"):
            main.settings(flags.FLAGS)


def test_help_tells_the_bounds_of_numbers():
    code = "from galm_tf import command_line, config; config.define_flags(); command_line.run(print)"
    text = " ".join(_python(code, "--help").stdout.split())
    assert "a multiple of 32; between 32 and 256." in text and "for depth" not in text
    assert "0 leaves it out (paper); between 0.0 and 1.0." in text


def test_float32_is_float32_on_a_gpu_too():
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(True)
    quiet_start.import_tensorflow()
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
