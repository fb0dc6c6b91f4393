"""Tests whether captions belong to their images, with encoders that have never seen the two together."""

import torch


def pairing_z_score(
    image_features: torch.Tensor, text_features: torch.Tensor, permutations: int = 200, seed: int = 0
) -> float:
    """
    How much more the captions depend on the images than shuffled captions do, in standard deviations.

    This is the permutation test of the Hilbert-Schmidt independence criterion (Gretton et al., 2007) with linear
    kernels: images that are similar to the image encoder should have captions that are similar to the text encoder. The
    encoders need not share a space, so the data can be judged before any training.

    Args:
        image_features: `(n, d)`, from any encoder.
        text_features: `(n, k)`, from any encoder; row i belongs to the caption of image i.

    Returns:
        The z-score. It is about 0 if the pairs do not belong together, and NaN if all images or all texts are equal.
    """
    image, text = _similarities(image_features), _similarities(text_features)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(text), generator=generator) for _ in range(permutations)]
    shuffled = torch.stack([(image * text[order][:, order]).sum() for order in orders])
    return ((image * text).sum().sub(shuffled.mean()) / shuffled.std()).item()


def _similarities(features: torch.Tensor) -> torch.Tensor:
    """Cosines of the standardised features, `(n, n)`; rows and columns sum to 0."""
    features = features.detach().cpu().double()  # MPS has no float64
    features = (features - features.mean(dim=0)) / features.std(dim=0).clamp(min=1e-12)
    cosines = torch.nn.functional.normalize(features, dim=1) @ torch.nn.functional.normalize(features, dim=1).t()
    centred = cosines - cosines.mean(dim=0)
    return centred - centred.mean(dim=1, keepdim=True)
