"""The captions as their own teacher: which of them mean nearly the same, and for which images."""

import numpy as np
import torch

from miniclip.training.caption_teacher import caption_teacher

WORDS = ("dog", "runs", "grass", "cat", "sleeps", "sofa")


def bag_of_words(texts: list[str]) -> torch.Tensor:
    """Beside the words, a large number that all texts share, as the vectors of many encoders do."""
    return torch.tensor([[float(word in text) for word in WORDS] + [20.0] for text in texts])


def test_captions_that_say_the_same_fit_images_with_like_captions():
    captions = [["a dog runs", "a dog on grass"], ["a dog runs on grass"], [], ["a cat sleeps", "a cat on a sofa"]]
    facts, images, texts = caption_teacher(captions, bag_of_words)
    assert (images.shape, texts.shape, facts.width) == ((4, 7), (5, 7), 7)
    assert images.dtype == texts.dtype == np.float16
    assert not images[2].any()
    fits = images @ texts.T
    assert fits[0, 2] > 0.7  # the dog of the second image
    assert (fits[0, 3:] < 0).all()
    assert (fits[3, :3] < 0).all()
    assert (fits.argmax(axis=0)[[2, 3, 4]] == [1, 3, 3]).all()
