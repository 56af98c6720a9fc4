import numpy as np
import pytest

from galm_tf import search_space
from galm_tf.errors import UserError
from galm_tf.search_space import Architecture


def test_counts_are_those_of_the_paper():
    skips, configurations = 4 * 8 * 2, 2 * 2 * 3 * 3
    assert search_space.NUM_ARCHITECTURES == skips * configurations == 2304
    assert len(np.unique(search_space.all_indices(), axis=0)) == 2304


def test_distinct_networks_are_counted_by_their_canonical_form():
    forms = {Architecture.from_number(n).canonical() for n in range(2304)}
    assert len(forms) == search_space.NUM_DISTINCT == 1536 == len(np.unique(search_space.canonical_numbers()))


def test_a_canonical_number_names_the_same_network():
    for number, twin in enumerate(search_space.canonical_numbers()):
        assert Architecture.from_number(number).canonical() == Architecture.from_number(twin).canonical()


def test_rows_are_the_architectures_in_order():
    indices = search_space.all_indices()
    for number in (0, 1, 777, 2303):
        architecture = Architecture.from_number(number)
        assert architecture.indices == tuple(indices[number])
        assert architecture.number == number
        assert Architecture.from_indices(indices[number]) == architecture


@pytest.mark.parametrize("number", [0, 5, 1234, 2303])
def test_json_round_trip(number):
    architecture = Architecture.from_number(number)
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert Architecture.from_json(architecture.canonical().to_json()) == architecture.canonical()


def test_description_names_open_skips_only():
    architecture = Architecture(True, False, 5, False, True, True, 3, 128, 64, "fc1")
    assert architecture.describe() == "c4:5x5+1 c5:3x3+23 fc:128"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"conv4_kernel": 7}, r"architecture.conv4_kernel to be one of \[3, 5\]. Received: conv4_kernel=7"),
        ({"fc1_width": 0}, "fc1_width=0"),
        ({"fc3_input": "fc3"}, "fc3_input='fc3'"),
        ({"conv1_conv4": 1}, "conv1_conv4=1"),
        ({"fc2_width": 0, "fc3_input": "fc2"}, "fc2_width=0"),
    ],
)
def test_values_outside_table_1_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        Architecture.from_json({**Architecture.from_number(0).to_json(), **change})


def test_missing_fields_and_wrong_indices_are_refused():
    with pytest.raises(UserError, match="Expected an architecture with the fields"):
        Architecture.from_json({"conv4_kernel": 3})
    with pytest.raises(UserError, match="Expected 10 choice indices"):
        Architecture.from_indices([0] * 9)
    with pytest.raises(UserError, match="Expected 10 choice indices"):
        Architecture.from_indices([2] + [0] * 9)
