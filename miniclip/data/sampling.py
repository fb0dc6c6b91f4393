"""The order of training. It depends only on seed and epoch, not on restarts or the number of processes."""

from collections.abc import Iterator
from itertools import count

import numpy as np
from torch.utils.data import Sampler


class ShardedBatchSampler(Sampler[list[tuple[int, int]]]):
    """
    This process's share of each joint batch, as (epoch, sample), for one epoch after another without end.

    Because it never ends, workers need not stop at the end of an epoch while a GPU waits for the next batch. Joint
    batch k holds the same samples for any number of processes, which accelerate's own sharding does not guarantee.
    Training can start at any batch of an epoch without drawing the earlier ones.

    Args:
        num_samples: size of the dataset.
        batch_size: joint batch size, over all processes.
        rank, world_size: index of this process, and number of processes.
        seed: seed of the shuffling.
        drop_last: leave out the last, smaller batch, unless it is the only one.
    """

    def __init__(
        self, num_samples: int, batch_size: int, rank: int = 0, world_size: int = 1, seed: int = 0, drop_last=True
    ):
        self.num_samples, self.batch_size = num_samples, batch_size
        self.rank, self.world_size, self.seed = rank, world_size, seed
        whole, rest = divmod(num_samples, batch_size)
        # A process without a sample of a batch could not take part in its step.
        keep_rest = rest >= world_size and (not drop_last or whole == 0)
        self.num_batches = whole + int(keep_rest)
        self.start_at(0)

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Begin the next iteration here."""
        self.start_epoch, self.start_batch = epoch, batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in count(self.start_epoch):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
            first = self.start_batch if epoch == self.start_epoch else 0
            for batch in range(first, self.num_batches):
                joint = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                share = np.array_split(joint, self.world_size)[self.rank].tolist()
                yield [(epoch, sample) for sample in share]
