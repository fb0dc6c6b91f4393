"""Whether captions belong to their images, asked of encoders that have never seen the two together."""

import torch


def pairing_z_score(
    image_features: torch.Tensor, text_features: torch.Tensor, permutations: int = 200, seed: int = 0
) -> float:
    """
    How far the dependence of captions on images exceeds that of shuffled captions, in standard deviations.

    The shuffle test of the Hilbert-Schmidt independence criterion (Gretton et al., 2007) with linear kernels: images
    that look alike to their encoder should have captions that read alike to theirs. The two need not share a space,
    so that data can be judged before any training.

    Args:
        image_features: `(n, d)`, of any encoder.
        text_features: `(n, k)`, row i of the caption of image i.

    Returns:
        The z-score; about 0 for pairs that do not belong together, NaN where all images or all texts are the same.
    """
    image, text = _similarities(image_features), _similarities(text_features)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(text), generator=generator) for _ in range(permutations)]
    shuffled = torch.stack([(image * text[order][:, order]).sum() for order in orders])
    return ((image * text).sum().sub(shuffled.mean()) / shuffled.std()).item()


def _similarities(features: torch.Tensor) -> torch.Tensor:
    """Cosines around the mean, each dimension weighted alike: `(n, n)`, rows and columns summing to 0."""
    features = features.detach().cpu().double()  # MPS has no float64
    features = (features - features.mean(dim=0)) / features.std(dim=0).clamp(min=1e-12)
    cosines = torch.nn.functional.normalize(features, dim=1) @ torch.nn.functional.normalize(features, dim=1).t()
    centred = cosines - cosines.mean(dim=0)
    return centred - centred.mean(dim=1, keepdim=True)
