"""The cost of an addition beside that of its search: tables of labels, what is run, and what is told of it."""

import os

import numpy as np
import pandas as pd
import pytest

from benchmarks import addition_cost
from galm_tf.config import Config
from galm_tf.domains import label_file, load_domains
from galm_tf.errors import UserError
from small_domains import few_images


@pytest.fixture(autouse=True)
def small():
    with few_images(4):
        yield


def _left_out(domain, columns):
    keep = np.ones(len(domain.attributes), bool)
    keep[columns] = False
    return domain.select_attributes(keep)


def _expect_the_same_labels(domain, columns, path):
    addition_cost.label_table(domain, columns).to_csv(path, index=False)
    found = label_file.with_labels(_left_out(domain, columns), str(path))
    assert found.attributes[-len(columns) :] == tuple(domain.attributes[column] for column in columns)
    np.testing.assert_array_equal(found.labels[:, -len(columns) :], domain.labels[:, columns])


def test_labels_of_any_domain_are_those_of_the_data(tmp_path):
    _expect_the_same_labels(load_domains(Config(domain=("sun", "awa"))), [22, 3], tmp_path / "both.csv")
    (tmp_path / "images").mkdir()
    rows = ["image,left,top,right,bottom,red,dark,wide", "a.png,0,0,9,9,1,0,1", "a.png,9,0,18,9,0,,1", "b.png,,,,,,,0"]
    for name in "ab":
        (tmp_path / "images" / f"{name}.png").write_bytes(name.encode())
    (tmp_path / "attributes.csv").write_text("\n".join(rows), encoding="utf-8")
    domain = load_domains(Config(domain=("mine",), data_dir=(str(tmp_path),)))
    assert len(domain.paths) == 3
    _expect_the_same_labels(domain, [0, 1], tmp_path / "boxes.csv")


def test_a_search_without_them_and_additions_are_run_once(tmp_path, monkeypatch):
    calls = []

    def timed(arguments, run_dir):
        calls.append((arguments, os.path.basename(run_dir)))
        if run_dir.endswith("search"):
            (tmp_path / "out" / "cache" / "maps.npy").write_text("of the search", encoding="utf-8")
        else:
            assert os.path.exists(f"{run_dir.replace('addition', 'cache')}/maps.npy")
        return {"processor_seconds": {"search": 60.0, "addition0": 2.0}.get(calls[-1][1], 3.0), "seconds": 4.0}

    monkeypatch.setattr(addition_cost, "timed", timed)
    config, out = Config(domain=("sun",), image_size=32, leave_out=("sun/lake",)), str(tmp_path / "out")
    for repeats in (1, 3):  # the second goes on
        table, names = addition_cost.measure(config, ["trees", "sun/night"], repeats, out)
    assert [name for _, name in calls] == ["search", "addition0", "addition1", "addition2"]
    assert names == ["sun/trees", "sun/night"]
    with open(os.path.join(out, "search.flags"), encoding="utf-8") as file:
        assert "--leave_out=sun/lake,sun/trees,sun/night\n" in file.read()
    labels = os.path.join(out, "labels.csv")
    assert list(pd.read_csv(labels)) == ["image", "sun/trees", "sun/night"]
    assert calls[1][0][:2] == [f"--add_attribute={labels}", f"--source_run={os.path.join(out, 'search')}"]
    assert table["ratio"].tolist()[1:] == [30.0, 20.0, 20.0] and np.isnan(table["ratio"][0])
    told = "the search 60.0 s, adding sun/trees and sun/night 2.0, 3.0 and 3.0 s: 20.0 times less (20.0 to 30.0)"
    assert told in addition_cost.summary(table, names)
    with pytest.raises(UserError, match="Received: tree; did you mean trees"):
        addition_cost.measure(config, ["tree"], 1, out)
    with pytest.raises(UserError, match="Received: none; name some"):
        addition_cost.measure(config, [], 1, out)


def test_a_process_is_timed_and_its_failure_told(tmp_path):
    with pytest.raises(UserError, match="Received: exit status 2; .*x.log says why"):
        addition_cost.timed(["--image_size=-1"], str(tmp_path / "x"))
    assert "image_size" in (tmp_path / "x.log").read_text(encoding="utf-8")
    assert addition_cost.timed(["--help"], str(tmp_path / "y"))["processor_seconds"] > 0.0
