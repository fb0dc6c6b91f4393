"""What can be wrong with contrastive training, in plain words: from figures to a finding, or to none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from miniclip.data.readability import Readability

REPORTED_LOSSES = 10  # averaged where single steps are too noisy


@dataclass(frozen=True)
class Finding:
    """
    Args:
        symptom: its short name; training tells each once.
        seen: what was seen, with figures.
        remedy: what to do about it.
    """

    symptom: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.symptom}: {self.seen}. {self.remedy}."


def chance_loss(kind: str, num_images: int, num_texts: int) -> float:
    """
    Loss of a model that cannot tell the pairs of a joint batch apart.

    For InfoNCE that is ln(batch); for the sigmoid loss, summed over images, that of giving every pair its base rate.

    Args:
        kind: `"infonce"` or `"sigmoid"`.
        num_images, num_texts: of the joint batch, over all chunks and processes.
    """
    if kind == "sigmoid":
        others = num_images - 1
        return math.log(num_images) + (others * math.log(num_images / others) if others else 0.0)
    return (math.log(num_images) + math.log(num_texts)) / 2


def stuck_at_chance(losses: Sequence[float], lowest: float, chance: float) -> Finding | None:
    """
    The loss of the last steps neither falls nor is better than guessing.

    Args:
        losses: of some tens of steps, all after the warm-up.
        lowest: mean loss in the best stretch so far.
        chance: from [`chance_loss`].
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
        "learn (--trainable_image_layers, --trainable_text_layers); and see with --doctor whether captions belong to "
        "their images",
    )


def diverging(losses: Sequence[float], first: float, chance: float) -> Finding | None:
    """
    The loss has risen far above both its start and guessing.

    Args:
        losses: of the last steps, at least `REPORTED_LOSSES`.
        first: before the first update.
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
    Args:
        norms: of the whole gradient before clipping, in order, at least six.
    """
    *earlier, latest = norms
    usual = median(earlier)
    if latest <= 100 * usual:
        return None
    return Finding(
        "gradient exploding",
        f"the gradient's norm is {latest:.3g}, and {usual:.3g} was usual before",
        "Lower the learning rates; in half precision try --mixed_precision bf16 or no",
    )


def collapsed(statistics: dict[str, float]) -> Finding | None:
    """
    Embeddings of one kind are all but the same.

    Args:
        statistics: from [`~miniclip.training.diagnostics.embedding_statistics`], of a model that has learnt for a
            while. Uniformity -0.4 is a mean cosine of 0.9; dropout alone tells equal inputs apart by about as much.
    """
    kinds = [kind for kind in ("image", "text") if statistics[f"{kind}_uniformity"] > -0.4]
    if not kinds:
        return None
    return Finding(
        "collapsed embeddings",
        f"all {' and all '.join(kinds)} embeddings of a batch point the same way (uniformity "
        f"{max(statistics[f'{kind}_uniformity'] for kind in kinds):.3f}, healthy below -1)",
        "Lower the learning rates, and look whether the inputs differ at all: pictures that are not blank, captions "
        "in a language that the text encoder knows",
    )


def logit_scale_astray(scale: float, bound: float) -> Finding | None:
    """
    The temperature is held at its bound, or has made the cosines count for nothing.

    Args:
        scale: factor on the cosines, not its logarithm.
        bound: where training clamps it.
    """
    if scale < 0.1:
        return Finding(
            "learning rate too high",
            f"the logit scale has fallen to {scale:.1g}, so that the embeddings no longer count",
            "Divide --learning_rate by ten",
        )
    if scale < 0.999 * bound:
        return None
    return Finding(
        "temperature at its bound",
        f"the logit scale has reached {bound:.0f}, where it is held",
        "Lower --learning_rate or --logit_scale_init_value; if the loss is low as well the pairs are being learnt by "
        "heart: fewer epochs, more --augmentation, --projection_dropout or --weight_decay",
    )


def no_better_than_shuffled(train_loss: float, chance: float, median_rank: float, num_images: int) -> Finding | None:
    """
    Training pairs are being learnt, and validation captions find their images as if captions had been shuffled.

    Under shuffling a caption's image ranks uniformly, so that the median rank of N images is N/2, give or take
    N/(2 sqrt(N)) (its standard deviation where the captions of one image rank alike); three of those are allowed for.
    """
    shuffled = num_images / 2 * (1 - 3 / math.sqrt(num_images))
    if num_images < 100 or train_loss > 0.8 * chance or median_rank < shuffled:
        return None
    return Finding(
        "captions do not fit their images",
        f"the training loss is {train_loss:.2f} of {chance:.2f} by guessing, but validation images have a median rank "
        f"of {median_rank:.0f} among {num_images}, as with shuffled captions",
        "Look at some pairs of both splits: file names and captions may be out of step; if they fit, the training "
        "pairs are only learnt by heart: use more of them",
    )


def unrelated_pairs(z_score: float, num_pairs: int) -> Finding | None:
    """
    Args:
        z_score: from [`~miniclip.doctor.pairing.pairing_z_score`].
        num_pairs: that it was taken from.
    """
    if z_score > 3:
        return None
    return Finding(
        "captions do not fit their images",
        f"among {num_pairs} pairs, images that look alike have captions no more alike than after shuffling "
        f"({z_score:.1f} standard deviations, where fitting pairs have far more than 3)",
        "Look at some pairs: file names and captions may be out of step, or sorted differently",
    )


def equal_captions(pairs: float, batch_size: int, example: str, share: float) -> Finding | None:
    """
    Args:
        pairs: equal pairs expected in a batch.
        batch_size: of the joint batch.
        example: the most frequent caption.
        share: of the images that have it.
    """
    if 2 * pairs < 0.05 * batch_size:
        return None
    return Finding(
        "equal captions",
        f"a batch of {batch_size} holds {pairs:.1f} pairs of images with the same caption on average; the most "
        f'frequent, "{example}", is on {share:.1%} of the images',
        "Training takes them for captions of each other's images, so that they teach little: give these images "
        "captions of their own, or drop them",
    )


def equal_images(pairs: float, batch_size: int) -> Finding | None:
    """
    Args:
        pairs: equal pairs expected in a batch.
        batch_size: of the joint batch.
    """
    if 2 * pairs < 0.005 * batch_size:
        return None
    return Finding(
        "equal images",
        f"a batch of {batch_size} holds {pairs:.1f} pairs of rows with the same image on average",
        "Training takes them for one image, but evaluation does not: put all captions of an image into one row (a "
        "list, or several columns), or drop the copies",
    )


def hard_to_read(readability: Readability, vocab_size: int, is_learnt: bool) -> Finding | None:
    """
    The text encoder does not know the words of the captions.

    Args:
        vocab_size: of the tokenizer. Those for a hundred languages have 100,000 pieces and more, and break words of
            some languages they know into two or three.
        is_learnt: the tokenizer was learnt from these captions.
    """
    most = 3.0 if is_learnt or vocab_size >= 100_000 else 1.5
    if readability.unknown <= 0.03 and readability.tokens_per_word <= most:
        return None
    seen = (
        f"{readability.unknown:.1%} of the captions' tokens are unknown to the text encoder, and a word takes "
        f'{readability.tokens_per_word:.1f} tokens (1.0 to 1.3 is usual), as in "{readability.example}"'
    )
    if is_learnt:
        return Finding("captions hard to read", seen, "Raise --vocab_size")
    return Finding(
        "captions hard to read",
        seen,
        "If they are in another language than the text encoder's, take a multilingual one, such as --text_encoder "
        "distilbert-base-multilingual-cased, or one of that language",
    )


def captions_cut(readability: Readability, longest: int | None) -> Finding | None:
    """
    Args:
        longest: tokens that the text encoder could read, if it has a limit.
    """
    if readability.cut <= 0.03:
        return None
    limit = readability.max_length
    seen = f"{readability.cut:.1%} of the captions are longer than {limit} tokens, and cut there"
    if longest is not None and longest - 2 <= limit:  # RoBERTa and its kin count two positions that they cannot use
        return Finding("captions cut", seen, "Put what matters first, or take a text encoder that reads more tokens")
    return Finding("captions cut", seen, "Raise --max_length")


def not_finite(culprit: str, step: int) -> Finding:
    """
    Args:
        culprit: from [`~miniclip.training.diagnostics.locate_non_finite`].
        step: counted from 1.
    """
    return Finding(
        "not finite",
        f"the loss is not finite at step {step} on one small batch: {culprit}",
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
    The learning rates of a run on one small batch that other rates learn: too high if the loss leaps up or the model is
    wrecked, too low if neither happens and the loss hardly falls.

    Args:
        is_wrecked: its embeddings have collapsed, or its logit scale has gone astray.
    """
    first, end = losses[0], fmean(losses[-REPORTED_LOSSES:])
    if end < 0.9 * min(first, chance):
        return None
    if is_wrecked or max(losses) > 1.2 * max(first, chance):
        return Finding(
            "learning rate too high",
            f"on one small batch the loss goes from {first:.2f} up to {max(losses):.2f} and is {end:.2f} after "
            f"{len(losses)} steps; guessing gives {chance:.2f}",
            "Divide the learning rates by ten (--learning_rate, --image_encoder_learning_rate, "
            "--text_encoder_learning_rate)",
        )
    return Finding(
        "learning rate too low",
        f"on one small batch the loss only goes from {first:.2f} to {end:.2f} in {len(losses)} steps",
        "Raise the learning rates (--learning_rate 1e-3 suits most heads), or let more layers learn",
    )


def cannot_overfit(losses: Sequence[float], num_pairs: int) -> Finding:
    """A small batch was not learnt by heart at learning rates that suit most models."""
    return Finding(
        "a small batch cannot be learnt",
        f"{num_pairs} pairs are not learnt by heart in {len(losses)} steps (loss {losses[0]:.2f} to {losses[-1]:.2f})",
        "Look whether the pictures and captions differ at all; let more layers learn (--trainable_image_layers, "
        "--trainable_text_layers); try other encoders",
    )
