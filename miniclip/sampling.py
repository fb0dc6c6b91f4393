"""The order of training: a function of seed and epoch alone, so that it survives restarts and more processes."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class ShardedBatchSampler(Sampler[list[int]]):
    """
    This process's share of each joint batch of a shuffled epoch.

    Joint batch k holds the same samples however many processes divide it, which accelerate's sharding of separate
    batches does not promise; and an epoch can be entered at any batch without drawing the earlier ones.

    Args:
        num_samples: size of the dataset.
        batch_size: joint batch size, over all processes.
        rank, world_size: this process among all.
        seed: of the shuffling.
        drop_last: leave out the last, smaller batch; kept all the same when it is the only one.
    """

    def __init__(
        self, num_samples: int, batch_size: int, rank: int = 0, world_size: int = 1, seed: int = 0, drop_last=True
    ):
        self.num_samples, self.batch_size = num_samples, batch_size
        self.rank, self.world_size, self.seed = rank, world_size, seed
        whole, rest = divmod(num_samples, batch_size)
        # A process left without any sample of a batch could not take part in its step.
        keep_rest = rest >= world_size and (not drop_last or whole == 0)
        self.num_batches = whole + int(keep_rest)
        self.epoch, self.start_batch = 0, 0

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """The next iteration yields `epoch` from batch `start_batch` on."""
        self.epoch, self.start_batch = epoch, start_batch

    def __len__(self) -> int:
        return self.num_batches - self.start_batch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_samples)
        for batch in range(self.start_batch, self.num_batches):
            joint = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield np.array_split(joint, self.world_size)[self.rank].tolist()
