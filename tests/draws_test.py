import itertools

import numpy as np

from galm_tf.draws import Stream, generator, tensor_seed


def test_draws_are_functions_of_seed_stream_and_step():
    first = generator(1, Stream.BATCHES, 5).random(4)
    np.testing.assert_array_equal(first, generator(1, Stream.BATCHES, 5).random(4))
    for other in ((2, Stream.BATCHES, 5), (1, Stream.NOISE, 5), (1, Stream.BATCHES, 6)):
        assert not np.array_equal(first, generator(*other).random(4))


def test_tensor_seeds_are_non_negative_and_differ():
    drawn = itertools.product((3, 4), (Stream.NOISE, Stream.CONTROLLER), range(100))
    seeds = np.stack([tensor_seed(seed, stream, step) for seed, stream, step in drawn])
    assert seeds.dtype == np.int32 and (seeds >= 0).all()
    assert len(np.unique(seeds, axis=0)) == 400
