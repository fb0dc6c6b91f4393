"""From settings to a model, its processor and its training data."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import IterableDataset
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from configuration_miniclip import MiniCLIPConfig
from miniclip.data.augmentation import CropDraw, train_transform
from miniclip.data.batches import BatchPreparer
from miniclip.data.image_cache import CachedImages, DecodedImages, cache_images
from miniclip.data.pairs import ImageFeatures, PairCollator, PairDataset, StreamingPairs, find_usable_rows
from miniclip.data.reader import (
    Columns,
    SkipReport,
    dataset_templates,
    find_columns,
    find_image_column,
    load_split,
    said_back,
    understanding_of,
    usable_captions,
)
from miniclip.data.repetitions import picture_groups
from miniclip.data.sampling import ShardedBatchSampler
from miniclip.data.texts import read_texts
from miniclip.data.tokenizer import train_tokenizer
from miniclip.data.unlabelled import MixedDataset, UnpairedTexts
from miniclip.training.arguments import Arguments, json_setting
from miniclip.training.distillation import TeacherFacts
from miniclip.training.distributed import rank, world_size
from miniclip.training.feature_cache import FeatureCache
from miniclip.training.folding import fold_frozen_batch_norm
from miniclip.training.kept_text_encoder import (
    TEACHERS_OWN,
    KeptTextEncoder,
    freeze_text_projection,
)
from miniclip.training.launch import cores_per_process
from miniclip.training.optimization import freeze
from miniclip.training.teacher_cache import ImagesToEmbed
from miniclip.training.teaching import Examples, crops_to_remember, learn_of_teachers
from miniclip.utils.errors import UserError
from miniclip.utils.hub import go_offline_if_unreachable
from miniclip.utils.loading import load_model
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor

MOST_WORD_PIECES = 8000  # vocabulary of a tokenizer that is learned from the captions
FEATURE_VIEWS = {"none": 1, "light": 2, "strong": 4}  # cached features per image of a locked encoder, by augmentation
RESIDENT_SHARE = 0.25  # images may take up to this share of a GPU's free memory


@dataclass
class TrainingData:
    """
    The training examples, and the batches that this process draws from them.

    Args:
        loader: collated batches of this process; endless, except for a stream.
        dataset: the examples.
        sampler: `None` for a stream.
        skipped: unusable rows that are known before training.
        teachers: in the order in which their embeddings stand in a batch.
    """

    loader: DataLoader
    dataset: PairDataset | MixedDataset | StreamingPairs
    sampler: ShardedBatchSampler | None
    skipped: SkipReport
    teachers: list[TeacherFacts] = field(default_factory=list)
    _endless: Iterator[dict] = field(default=iter(()), init=False, repr=False)
    _next: tuple[int, int] | None = field(default=None, init=False, repr=False)  # epoch and batch

    @property
    def batches_per_epoch(self) -> int | None:
        """Number of joint batches in an epoch; `None` for a stream, whose length is unknown."""
        return None if self.sampler is None else self.sampler.num_batches

    def batches(self, epoch: int, start_batch: int = 0) -> Iterator[dict]:
        """Batches of one epoch, from `start_batch` on. Epochs that follow each other share one loader, so that the
        first batches of an epoch are read while the epoch before it ends."""
        if self.sampler is None:
            self.dataset.epoch = epoch
            yield from islice(self.loader, start_batch, None)  # a stream can only be resumed by reading it again
            return
        if self._next != (epoch, start_batch):
            self.sampler.start_at(epoch, start_batch)
            self._endless = iter(self.loader)
        for number, batch in zip(range(start_batch, self.sampler.num_batches), self._endless, strict=False):
            last = number + 1 == self.sampler.num_batches
            self._next = (epoch + 1, 0) if last else (epoch, number + 1)
            yield batch

    def stop_reading(self) -> None:
        """End the reading processes; [`batches`] starts new ones."""
        self._next, self._endless = None, iter(())


def build_model(arguments: Arguments, captions: list[list[str]]) -> tuple[MiniCLIPModel, MiniCLIPProcessor]:
    """
    Build or load the model to train, in float32 and with the encoders frozen as the settings say, and its processor.

    Args:
        captions: captions of each row; a random text encoder learns its tokenizer from them.

    Raises:
        UserError: an encoder or model cannot be loaded, or a setting is out of range.
    """
    settings, training = arguments.model, arguments.training
    kept = None
    if settings.model_name_or_path:
        model, processor = load_model(settings.model_name_or_path, **_dropout(arguments))
        model.config.zero_shot_calibration = None  # it was measured with the weights before training
    else:
        if settings.text_encoder == TEACHERS_OWN:
            kept = KeptTextEncoder(arguments)
            arguments = replace(arguments, model=replace(settings, text_encoder=kept.folder))
            settings = arguments.model
        go_offline_if_unreachable(*(settings.image_encoder, settings.text_encoder) if settings.pretrained else ())
        try:
            tokenizer = _learn_tokenizer(arguments, captions)
            model = _join_encoders(arguments, tokenizer)
            processor = MiniCLIPProcessor.from_encoders(
                settings.image_encoder,
                tokenizer or settings.text_encoder,
                image_size=settings.image_size,
                crop_mode=settings.crop_mode,
                max_length=settings.max_length,
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{str(error).strip().splitlines()[0]}") from error
    full_size = train_image_size(arguments, processor)
    _check_image_sizes(model, {processor.image_size, full_size, arguments.data.start_image_size or full_size})
    freeze(model, training.trainable_image_layers, training.trainable_text_layers)
    if kept is not None:
        kept.keep(model, processor)
    elif settings.text_encoder == TEACHERS_OWN:  # since an earlier stage
        freeze_text_projection(model)
    if training.freeze_batch_norm:
        fold_frozen_batch_norm(model.vision_model.timm_model, full_size)
    return model.to(memory_format=torch.channels_last), processor


def _check_image_sizes(model: MiniCLIPModel, sizes: set[int]) -> None:
    """Reject image sizes that a vision transformer cannot take; it would fail only in the first step."""
    patches = getattr(model.vision_model.timm_model, "patch_embed", None)
    if not getattr(patches, "strict_img_size", False) or not patches.img_size:
        return
    side = patches.img_size[0]
    if sizes != {side}:
        raise UserError(
            f"this image encoder takes images of {side} pixels only: leave out --image_size, --train_image_size and "
            "--start_image_size, or allow other sizes with --vision_config '{\"dynamic_img_size\": true}'"
        )


def _learn_tokenizer(arguments: Arguments, captions: list[list[str]]) -> PreTrainedTokenizerBase | None:
    """A tokenizer for a text encoder that has none, because it starts from random weights; otherwise `None`."""
    settings = arguments.model
    if settings.pretrained or Path(settings.text_encoder).is_dir():
        return None
    if not any(captions):
        raise UserError("a tokenizer cannot be learnt without captions: give a --text_encoder that has one")
    vocab_size = json_setting(settings.text_config, "text_config").get("vocab_size", MOST_WORD_PIECES)
    return train_tokenizer(chain.from_iterable(captions), vocab_size, settings.max_length)


def _join_encoders(arguments: Arguments, tokenizer: PreTrainedTokenizerBase | None) -> MiniCLIPModel:
    settings = arguments.model
    text_config = json_setting(settings.text_config, "text_config")
    if tokenizer is not None:
        text_config |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return MiniCLIPModel.from_encoders(
        settings.image_encoder,
        settings.text_encoder,
        pretrained=settings.pretrained,
        vision_config=json_setting(settings.vision_config, "vision_config"),
        text_config=text_config,
        image_size=settings.image_size,
        projection_dim=settings.projection_dim,
        projection_head=settings.projection_head,
        image_pooling=settings.image_pooling,
        text_pooling=settings.text_pooling,
        loss=settings.loss,
        logit_scale_init_value=arguments.training.logit_scale_init_value,
        **_dropout(arguments),
    )


def _dropout(arguments: Arguments) -> dict[str, float]:
    """
    The dropout settings that the user gave.

    Raises:
        UserError: a value is out of range. It is checked here because loading a model does not check it.
    """
    names = ("projection_dropout", "feature_dropout")
    values = {name: getattr(arguments.model, name) for name in names}
    values = {name: value for name, value in values.items() if value is not None}
    try:
        MiniCLIPConfig(**values)
    except ValueError as error:
        raise UserError(str(error)) from error
    return values


def load_training_split(arguments: Arguments):
    """
    Load the training split.

    Returns:
        The dataset, its columns, and the captions of every row; of a stream, the captions of the first 10,000 rows.

    Raises:
        UserError: the dataset is not found, or it has no images or no captions.
    """
    data = arguments.data
    if data.dataset_name == "none":
        return load_unlabelled_images(arguments)
    dataset = load_split(
        data.dataset_name,
        data.train_split,
        dataset_config_name=data.dataset_config_name,
        streaming=data.streaming,
        image_column=data.image_column,
        caption_columns=data.caption_columns,
    )
    templates = data.caption_templates or dataset_templates(data.dataset_name)
    columns = find_columns(dataset, data.image_column, data.caption_columns, templates)
    rows = islice(dataset, 10_000) if data.streaming else dataset
    if rank() == 0:
        print(said_back(data.dataset_name, dataset, columns), flush=True)
    captions = [captions for _, captions in usable_captions(rows, columns)]
    if not any(captions):
        raise UserError(f"the caption column {', '.join(columns.captions)} is empty in every row")
    return dataset, columns, captions


def load_unlabelled_images(arguments: Arguments):
    """
    The photos without captions: all of them or, of a dataset that has splits of its own, its training split.

    Returns:
        As [`load_training_split`], every list of captions empty.

    Raises:
        UserError: not found, or no images in it.
    """
    data, name = arguments.data, arguments.data.unlabelled_images
    understanding = understanding_of(name, image_column=data.image_column) if name != "shapes" else None
    whole = understanding is not None and understanding.drawn and name != data.dataset_name
    dataset = load_split(name, "all" if whole else "train", image_column=data.image_column)
    columns = Columns(find_image_column(dataset, data.image_column), ())
    if rank() == 0:
        print(f"{name}: {len(dataset):,} images to learn from the teacher alone", flush=True)
    return dataset, columns, [[] for _ in range(len(dataset))]


def create_preparer(processor: MiniCLIPProcessor, device: torch.device, chunk_size: int) -> BatchPreparer:
    """Create the object that splits collated batches into chunks and normalises them as the processor does."""
    images = processor.image_processor
    return BatchPreparer(device, images.image_mean, images.image_std, chunk_size)


def build_training_data(
    accelerator: Accelerator,
    arguments: Arguments,
    dataset,
    columns: Columns,
    captions: list[list[str]],
    model: MiniCLIPModel,
    processor: MiniCLIPProcessor,
    prepare: BatchPreparer,
) -> TrainingData:
    """
    Create the loader for this process's share of each joint batch.

    Raises:
        UserError: no row is usable, or there are fewer usable rows than processes.
    """
    data, training, image_size = arguments.data, arguments.training, train_image_size(arguments, processor)
    transform = None if data.augmentation == "none" else train_transform(image_size, data.augmentation)
    shared = {"transform": transform, "captions_per_image": data.captions_per_image, "seed": training.seed}
    if augments_on_device(accelerator.device, data.augmentation):
        shared["transform"] = CropDraw(transform, image_size)
    if data.streaming:
        return _stream(arguments, dataset, columns, processor, shared)
    sources = [(dataset, columns, captions)]
    if data.unlabelled_images and columns.captions:
        sources.append(load_unlabelled_images(arguments))
    texts = read_texts(data.unlabelled_texts) if data.unlabelled_texts else []
    with accelerator.main_process_first():  # the other processes then read its cache
        parts = [_examples(accelerator, arguments, source, model, processor, prepare, shared) for source in sources]
        text_features = _text_features(accelerator, arguments, model, processor, prepare, texts)
    skipped = SkipReport()
    for part in parts:
        skipped.extend(part.skipped)
    pairs, teachers = parts[0].pairs, []
    if training.teacher_name_or_path:
        folder, workers = features_folder(arguments), num_workers(arguments)
        read = partial(_text_cache(accelerator, arguments, model, prepare).text_features, processor.tokenizer)
        teachers, taught_texts = learn_of_teachers(accelerator, training, parts, texts, folder, workers, read)
        if len(parts) > 1 or texts or not columns.captions:
            unpaired = UnpairedTexts(texts, taught_texts, text_features) if texts else None
            pairs = MixedDataset([part.pairs for part in parts], unpaired)
    if pairs is parts[0].pairs and fits_on_device(pairs.images, accelerator.device, data.augmentation):
        prepare.resident, pairs.images = pairs.images.on_device(accelerator.device), None
    sampler = ShardedBatchSampler(len(pairs), joint_batch_size(arguments), rank(), world_size(), training.seed)
    if sampler.num_batches == 0:
        raise UserError(f"{len(pairs)} usable pairs are fewer than the {world_size()} processes that share them")
    loader = DataLoader(
        pairs, batch_sampler=sampler, collate_fn=PairCollator(processor.tokenizer), **_loader_options(arguments)
    )
    return TrainingData(loader, pairs, sampler, skipped, teachers)


def _examples(accelerator, arguments: Arguments, source: tuple, model, processor, prepare, shared: dict) -> Examples:
    """The usable rows of a dataset, with the outputs of locked encoders, and what of them the teachers are to see."""
    dataset, columns, captions = source
    size, crop_mode = train_image_size(arguments, processor), processor.crop_mode
    images, rows, skipped = _readable_images(arguments, dataset, columns, captions, processor)
    key = f"{dataset._fingerprint} {columns} {size} {crop_mode} {prepare.mean.tolist()} {prepare.std.tolist()}"
    features = FeatureCache(model, prepare, features_folder(arguments), key, accelerator.mixed_precision)
    extra = {
        "image_keys": _picture_keys(arguments, images, dataset, columns),
        "one_meaning": columns.classes is not None,
    }
    crops, transform = crops_to_remember(arguments, len(dataset)), shared["transform"]
    transform = transform.transform if isinstance(transform, CropDraw) else transform
    extra |= _cached_features(arguments, features, model, processor, images, rows, captions, transform, crops)
    pairs = PairDataset(rows, extra.pop("images", images), captions, **shared, **extra)
    return Examples(pairs, ImagesToEmbed(dataset, columns.image, crop_mode, rows, crops), skipped)


def _text_features(accelerator, arguments, model, processor, prepare, texts: list[str]) -> torch.Tensor | None:
    """Of the unpaired texts, by a locked text encoder."""
    if arguments.training.trainable_text_layers != 0 or not texts:
        return None
    return _text_cache(accelerator, arguments, model, prepare).text_features(processor.tokenizer, texts)


def _text_cache(accelerator, arguments, model, prepare) -> FeatureCache:
    return FeatureCache(model, prepare, features_folder(arguments), "", accelerator.mixed_precision)


def augments_on_device(device: torch.device, augmentation: str) -> bool:
    """Whether images are cropped on the GPU, which takes milliseconds instead of seconds of CPU time."""
    return device.type == "cuda" and augmentation == "light"


def fits_on_device(images, device: torch.device, augmentation: str) -> bool:
    """Whether all decoded images fit into the GPU's memory, so that batches need no transfer."""
    if device.type != "cuda" or augmentation == "strong" or not isinstance(images, CachedImages):
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return images.pixels.nbytes <= RESIDENT_SHARE * free


def train_image_size(arguments: Arguments, processor: MiniCLIPProcessor) -> int:
    """
    Side of the training images in pixels; by default the size at which the model is used.

    Objects look larger in random crops than in the whole images that the model sees later. Training at a somewhat lower
    resolution makes up for that (FixRes, Touvron et al., 2019).
    """
    return arguments.data.train_image_size or processor.image_size


def cache_folder(arguments: Arguments) -> Path | None:
    """Folder for decoded images and encoder outputs; `None` if images are decoded in every epoch."""
    folder = arguments.training.cache_dir
    return None if folder == "none" else Path(folder).expanduser()


def joint_batch_size(arguments: Arguments) -> int:
    """Number of images in a batch, over all chunks and processes."""
    training = arguments.training
    return training.per_device_train_batch_size * training.gradient_accumulation_steps * world_size()


def features_folder(arguments: Arguments) -> Path:
    """Where outputs of encoders and teachers are kept."""
    return cache_folder(arguments) or Path(arguments.training.output_dir).expanduser() / "features"


def num_workers(arguments: Arguments) -> int:
    """Processes that read images beside each training process."""
    workers = arguments.training.dataloader_num_workers
    if workers is None:
        workers = min(16, cores_per_process()) if torch.cuda.is_available() else 0
    return workers


def _loader_options(arguments: Arguments) -> dict:
    workers = num_workers(arguments)
    # Workers persist for streams too: an epoch of a short stream takes no longer than starting the workers.
    return {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": torch.cuda.is_available()}


def _stream(arguments, dataset: IterableDataset, columns, processor, shared) -> TrainingData:
    pairs = StreamingPairs(
        dataset,
        columns,
        train_image_size(arguments, processor),
        processor.crop_mode,
        shuffle_buffer_size=arguments.training.shuffle_buffer_size,
        rank=rank(),
        world_size=world_size(),
        **shared,
    )
    loader = DataLoader(
        pairs,
        batch_size=joint_batch_size(arguments) // world_size(),
        drop_last=True,
        collate_fn=PairCollator(processor.tokenizer),
        **_loader_options(arguments),
    )
    return TrainingData(loader, pairs, None, SkipReport())


def _readable_images(arguments, dataset, columns, captions, processor):
    data, size, crop_mode = arguments.data, train_image_size(arguments, processor), processor.crop_mode
    folder = cache_folder(arguments)
    if folder is not None:
        images = cache_images(dataset, columns.image, size, folder, crop_mode)
        rows, skipped = find_usable_rows(captions, images.unreadable, bool(columns.captions))
    else:
        images = DecodedImages(dataset, columns.image, size, crop_mode)
        rows, skipped = find_usable_rows(captions, {}, bool(columns.captions))
    if not rows:
        raise UserError(f"dataset {data.dataset_name!r} has no usable row: {skipped}")
    return images, rows, skipped


def _picture_keys(arguments, images, dataset, columns) -> np.ndarray | None:
    """Equal for equal pictures; without an image cache they are taken from the pixels as training reads them."""
    if isinstance(images, CachedImages):
        return images.keys
    if arguments.training.trainable_image_layers == 0:  # no pixels are read any more once features are cached
        return picture_groups(dataset, columns.image, cache_folder(arguments))
    return None


def _cached_features(
    arguments, features: FeatureCache, model, processor, images, rows, captions, transform, crops
) -> dict:
    training, extra = arguments.training, {}
    if training.trainable_text_layers == 0:
        extra["text_features"] = features.text_features(processor.tokenizer, list(chain.from_iterable(captions)))
    if training.trainable_image_layers == 0:
        number = training.feature_views or FEATURE_VIEWS[arguments.data.augmentation]
        views = features.image_features(images, rows, number, transform, training.seed, crops)
        extra["images"] = ImageFeatures(views)
    return extra
