"""What can go wrong in contrastive training. Each function turns figures into a finding in plain words, or `None`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from miniclip.data.readability import Readability

REPORTED_LOSSES = 10  # averaged, because single steps are noisy


@dataclass(frozen=True)
class Finding:
    """
    Args:
        symptom: a short name; training reports each symptom once.
        seen: the observation, with figures.
        remedy: what to do about it.
    """

    symptom: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.symptom}: {self.seen}. {self.remedy}."


def stuck_at_chance(losses: Sequence[float], lowest: float, chance: float) -> Finding | None:
    """
    The loss has stopped falling and is no better than guessing.

    Args:
        losses: of the last steps, some tens of them, all after the warm-up.
        lowest: the lowest moving average of the loss so far.
        chance: the loss of guessing, from `LOSSES`.
    """
    half = len(losses) // 2
    earlier, later = fmean(losses[:half]), fmean(losses[half:])
    if later < 0.98 * chance or later < 0.99 * earlier:
        return None
    seen = f"the loss has been {later:.2f} for {len(losses)} steps, and guessing gives {chance:.2f}"
    if lowest < 0.9 * chance:
        seen += f", though it had been down to {lowest:.2f}"
        return Finding("learning lost", seen, "Lower the learning rates")
    return Finding(
        "loss stuck at chance",
        seen,
        "Raise the learning rates tenfold, or lower them tenfold if the loss jumped up at the start; let more layers "
        "learn (--trainable_image_layers, --trainable_text_layers); and run --doctor to see whether captions belong to "
        "their images",
    )


def diverging(losses: Sequence[float], first: float, chance: float) -> Finding | None:
    """
    The loss has risen far above its first value and above guessing.

    Args:
        losses: of the last steps, at least `REPORTED_LOSSES`.
        first: the loss before the first update.
    """
    recent = fmean(losses[-REPORTED_LOSSES:])
    if recent <= 1.2 * max(first, chance):
        return None
    return Finding(
        "learning rate too high",
        f"the loss has risen from {first:.2f} to {recent:.2f}, and guessing gives {chance:.2f}",
        "Divide the learning rates by ten (--learning_rate, --image_encoder_learning_rate, "
        "--text_encoder_learning_rate)",
    )


def exploding_gradient(norms: Sequence[float]) -> Finding | None:
    """
    The norm of the gradient has jumped.

    Args:
        norms: norms of the whole gradient before clipping, oldest first, at least six.
    """
    *earlier, latest = norms
    usual = median(earlier)
    if latest <= 100 * usual:
        return None
    return Finding(
        "gradient exploding",
        f"the norm of the gradient is {latest:.3g}, and was usually {usual:.3g} before",
        "Lower the learning rates; in half precision try --mixed_precision bf16 or no",
    )


def collapsed(statistics: dict[str, float]) -> Finding | None:
    """
    All image embeddings, or all text embeddings, are almost the same.

    Args:
        statistics: from [`~miniclip.training.diagnostics.embedding_statistics`], for a model that has trained for a
            while. A uniformity of -0.4 is a mean cosine of 0.9; dropout alone spreads equal inputs by about as much.
    """
    kinds = [kind for kind in ("image", "text") if statistics.get(f"{kind}_uniformity", -1) > -0.4]
    if not kinds:
        return None
    return Finding(
        "collapsed embeddings",
        f"all {' and all '.join(kinds)} embeddings of a batch point the same way (uniformity "
        f"{max(statistics[f'{kind}_uniformity'] for kind in kinds):.3f}, healthy below -1)",
        "Lower the learning rates, and check that the inputs differ: images must not be blank, and captions must be "
        "in a language that the text encoder knows",
    )


def logit_scale_astray(scale: float, bound: float) -> Finding | None:
    """
    The logit scale has reached its upper bound, or has become so small that the cosines no longer matter.

    Args:
        scale: the factor on the cosines, not its logarithm.
        bound: the value at which training clamps it.
    """
    if scale < 0.1:
        return Finding(
            "learning rate too high",
            f"the logit scale has fallen to {scale:.1g}, so the embeddings no longer matter",
            "Divide --learning_rate by ten",
        )
    if scale < 0.999 * bound:
        return None
    return Finding(
        "temperature at its bound",
        f"the logit scale has reached its upper bound, {bound:.0f}",
        "Lower --learning_rate. If the loss is low as well, the model is memorising the pairs: train for fewer epochs, "
        "or use more --augmentation, --projection_dropout or --weight_decay",
    )


def no_better_than_shuffled(train_loss: float, chance: float, median_rank: float, num_images: int) -> Finding | None:
    """
    The model learns the training pairs, but validation captions find their images no better than shuffled captions.

    With shuffled captions, the rank of the right image is uniform, so the median rank among N images is N/2. Its
    standard deviation is N/(2 sqrt(N)) if the captions of one image rank alike. Three deviations are allowed for.
    """
    shuffled = num_images / 2 * (1 - 3 / math.sqrt(num_images))
    if num_images < 100 or train_loss > 0.8 * chance or median_rank < shuffled:
        return None
    return Finding(
        "captions do not fit their images",
        f"the training loss is {train_loss:.2f}, where guessing gives {chance:.2f}, but validation images have a "
        f"median rank of {median_rank:.0f} among {num_images}, as with shuffled captions",
        "Look at some pairs of both splits: file names and captions may be out of step. If the pairs are right, the "
        "model only memorises the training pairs: use more of them",
    )


def unrelated_pairs(z_score: float, num_pairs: int) -> Finding | None:
    """
    Images that look alike do not have similar captions.

    Args:
        z_score: from [`~miniclip.doctor.pairing.pairing_z_score`].
        num_pairs: number of pairs behind that score.
    """
    if z_score > 3:
        return None
    return Finding(
        "captions do not fit their images",
        f"among {num_pairs} pairs, the captions of similar images are no more alike than shuffled ones "
        f"({z_score:.1f} standard deviations; pairs that fit have far more than 3)",
        "Look at some pairs: file names and captions may be out of step, or sorted differently",
    )


def equal_captions(pairs: float, batch_size: int, example: str, share: float) -> Finding | None:
    """
    Many images share a caption.

    Args:
        pairs: expected number of equal pairs in a batch.
        batch_size: size of the joint batch.
        example: the most frequent caption.
        share: share of the images that have it.
    """
    if 2 * pairs < 0.05 * batch_size:
        return None
    return Finding(
        "equal captions",
        f"on average, a batch of {batch_size} holds {pairs:.1f} pairs of images with the same caption; the most "
        f'frequent one, "{example}", belongs to {share:.1%} of the images',
        "Training counts each of these captions as right for all of these images, so they teach little: give the "
        "images captions of their own, or drop them",
    )


def equal_images(pairs: float, batch_size: int) -> Finding | None:
    """
    Many rows have the same image.

    Args:
        pairs: expected number of equal pairs in a batch.
        batch_size: size of the joint batch.
    """
    if 2 * pairs < 0.005 * batch_size:
        return None
    return Finding(
        "equal images",
        f"on average, a batch of {batch_size} holds {pairs:.1f} pairs of rows with the same image",
        "Training counts them as one image, but evaluation does not: put all captions of an image into one row (as a "
        "list, or in several columns), or drop the copies",
    )


def hard_to_read(readability: Readability, vocab_size: int, is_learnt: bool) -> Finding | None:
    """
    The text encoder does not know the words of the captions.

    Args:
        vocab_size: size of the tokenizer's vocabulary. Tokenizers for a hundred languages have 100,000 pieces or more,
            and they split the words of some languages into two or three even though they know them.
        is_learnt: the tokenizer was trained on these captions.
    """
    most = 3.0 if is_learnt or vocab_size >= 100_000 else 1.5
    if readability.unknown <= 0.03 and readability.tokens_per_word <= most:
        return None
    seen = (
        f"the text encoder does not know {readability.unknown:.1%} of the captions' tokens, and a word takes "
        f'{readability.tokens_per_word:.1f} tokens (1.0 to 1.3 is usual), as in "{readability.example}"'
    )
    if is_learnt:
        return Finding("captions hard to read", seen, "Raise --vocab_size")
    return Finding(
        "captions hard to read",
        seen,
        "If the captions are in another language than the text encoder's, use an encoder for that language or a "
        "multilingual one, such as --text_encoder distilbert-base-multilingual-cased",
    )


def captions_cut(readability: Readability, longest: int | None) -> Finding | None:
    """
    Many captions are longer than the text encoder reads.

    Args:
        longest: number of tokens that the text encoder can read, if it has a limit.
    """
    if readability.cut <= 0.03:
        return None
    limit = readability.max_length
    seen = f"{readability.cut:.1%} of the captions are longer than {limit} tokens and are cut off there"
    if longest is not None and longest - 2 <= limit:  # RoBERTa's limit includes two positions that it cannot use
        return Finding("captions cut", seen, "Put what matters first, or use a text encoder that reads more tokens")
    return Finding("captions cut", seen, "Raise --max_length")


def not_finite(culprit: str, step: int) -> Finding:
    """
    The loss is NaN or infinite.

    Args:
        culprit: from [`~miniclip.training.diagnostics.locate_non_finite`].
        step: counted from 1.
    """
    return Finding(
        "not finite",
        f"the loss on one small batch is not finite at step {step}: {culprit}",
        "Lower the learning rates, or use --mixed_precision bf16 or no",
    )


def nothing_to_tell_apart() -> Finding:
    """No two sampled pairs differ in both image and caption."""
    return Finding(
        "nothing to tell apart",
        "no two of the sampled pairs differ in both image and caption",
        "Name the right columns with --image_column and --caption_columns",
    )


def unsuited_learning_rates(losses: Sequence[float], chance: float, is_wrecked: bool) -> Finding | None:
    """
    The learning rates fail on one small batch that a model can learn with other rates. They are too high if the loss
    jumps up or the model breaks down, and too low if the loss hardly falls.

    Args:
        losses: loss of each step.
        is_wrecked: the embeddings have collapsed, or the logit scale is out of range.
    """
    first, end = losses[0], fmean(losses[-REPORTED_LOSSES:])
    if end < 0.9 * min(first, chance):
        return None
    if is_wrecked or max(losses) > 1.2 * max(first, chance):
        return Finding(
            "learning rate too high",
            f"on one small batch, the loss rises from {first:.2f} to {max(losses):.2f} and is {end:.2f} after "
            f"{len(losses)} steps; guessing gives {chance:.2f}",
            "Divide the learning rates by ten (--learning_rate, --image_encoder_learning_rate, "
            "--text_encoder_learning_rate)",
        )
    return Finding(
        "learning rate too low",
        f"on one small batch, the loss only falls from {first:.2f} to {end:.2f} in {len(losses)} steps",
        "Raise the learning rates (--learning_rate 1e-3 suits most heads), or let more layers learn",
    )


def cannot_overfit(losses: Sequence[float], num_pairs: int) -> Finding:
    """The model cannot memorise a small batch, even with learning rates that suit most models."""
    return Finding(
        "a small batch cannot be learnt",
        f"the model cannot memorise {num_pairs} pairs in {len(losses)} steps (loss {losses[0]:.2f} to "
        f"{losses[-1]:.2f})",
        "Check that the images and captions differ; let more layers learn (--trainable_image_layers, "
        "--trainable_text_layers); try other encoders",
    )
