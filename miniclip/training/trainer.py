"""The training loop of one stage: steps, validation, checkpoints, and a clean end whatever happens."""

import json
import logging
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from miniclip.data.reader import SplitMissing, load_split
from miniclip.training.arguments import Arguments, DataArguments
from miniclip.training.checkpoints import CheckpointStore, TrainerState, write_atomically
from miniclip.training.depthwise import fast_depthwise_gradients
from miniclip.training.diagnostics import (
    embedding_statistics,
    gradient_norms,
    locate_non_finite,
    loss_at_reference_batch,
)
from miniclip.training.distillation import Distillation, DistillationLoss, attach_adaptors, without_adaptors
from miniclip.training.distributed import any_process, world_size
from miniclip.training.gradient_cache import LossFunction, StepResult, contrastive_backward
from miniclip.training.losses import ContrastiveLoss
from miniclip.training.optimization import (
    average_weights,
    compile_encoders,
    create_optimizer,
    create_schedule,
    freeze_text_side,
    parameter_groups,
    set_train_mode,
    warmup_steps,
)
from miniclip.training.progressive_size import side_at
from miniclip.training.setup import (
    build_model,
    build_training_data,
    cache_folder,
    create_preparer,
    joint_batch_size,
    load_training_split,
    train_image_size,
)
from miniclip.training.sharding import make_shardable, whole_model
from miniclip.training.similar_lengths import ignores_padding, texts_of_similar_length
from miniclip.training.validation import Validator
from miniclip.training.watcher import (
    Doctor,
    describe_classes,
    describe_copies,
    examine_repetitions,
    examine_words,
)
from miniclip.utils.errors import UserError
from miniclip.utils.examples import FOLDER as EXAMPLES_FOLDER
from miniclip.utils.memory import keep_freed_memory
from miniclip.utils.provenance import provenance

logger = logging.getLogger(__name__)
RESULTS_FILE = "training_results.json"


class Interrupted(Exception):
    """Training was asked to stop, and has saved a checkpoint."""


class Trainer:
    """
    One stage of training, from settings to a saved model.

    Args:
        accelerator: a new one; it decides the precision.
        arguments: settings of this stage.
        output_dir: folder of this stage. It holds the best model so far, `checkpoints/`, `logs/` and
            `training_results.json`.
        after_checkpoint: called with the step on the main process after a checkpoint has been saved.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        arguments: Arguments,
        output_dir: Path,
        after_checkpoint: Callable[[int], None] = lambda step: None,
    ):
        self.accelerator, self.arguments, self.output_dir = accelerator, arguments, output_dir
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        self.after_checkpoint = after_checkpoint
        self.provenance = provenance(accelerator.device)  # now, because the checkout may change during training
        training = arguments.training
        dataset, columns, captions = load_training_split(arguments)
        model, self.processor = build_model(arguments, captions)
        model.to(accelerator.device)
        self.prepare = create_preparer(self.processor, accelerator.device, training.per_device_train_batch_size)
        self.data = build_training_data(
            accelerator, arguments, dataset, columns, captions, model, self.processor, self.prepare
        )
        if not (columns.captions or arguments.data.unlabelled_texts):
            freeze_text_side(model)
        self.loss_function = self._create_loss(model)
        self._groups_texts = self._can_group_texts(model)
        make_shardable(accelerator, model)
        if columns.classes is not None:  # use the model with the prompts that it has learnt from
            model.config.zero_shot_templates = list(columns.classes.templates)
        self.validator = self._create_validator(model, columns)
        self.total_steps = training.max_train_steps or training.num_train_epochs * self.data.batches_per_epoch
        self.logging_interval = training.logging_steps or (10 if self.total_steps >= 100 else 1)
        self.average = average_weights(model, training.ema_decay) if training.ema_decay else None
        if training.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        if training.torch_compile:
            compile_encoders(model)
        optimizer = create_optimizer(self._parameter_groups(model), training.adam_beta2)
        schedule = create_schedule(training.lr_scheduler_type, optimizer, self.total_steps, training.warmup_ratio)
        self.model, self.optimizer, self.schedule = accelerator.prepare(model, optimizer, schedule)
        self.store = CheckpointStore(accelerator, output_dir / "checkpoints", training.checkpoints_total_limit)
        self.state, self._stop_signal, self._speed = TrainerState(total_steps=self.total_steps), None, None
        warmup = warmup_steps(training.lr_scheduler_type, self.total_steps, training.warmup_ratio)
        self.doctor = Doctor(model.config, warmup, self._say)
        if accelerator.is_main_process:
            self._tell_of_data(dataset, columns, captions)

    @property
    def unwrapped(self):
        """The model without the wrappers of distributed training."""
        return self.accelerator.unwrap_model(self.model)

    def _tell_of_data(self, dataset, columns, captions) -> None:
        if columns.classes is not None:
            self._say(describe_classes(columns))
        keys = getattr(self.data.dataset, "image_keys", None)
        if keys is not None and (text := describe_copies(dataset, columns.image, keys)):
            self._say(text)
        if not columns.captions:
            return
        words, text = examine_words(self.arguments, self.unwrapped, self.processor.tokenizer, captions)
        self._say(f"captions: {text}")
        self.doctor.tell(*words, *examine_repetitions(self.arguments, dataset, columns, captions, keys))

    def _can_group_texts(self, model) -> bool:
        """Compiled code is made for few lengths, and FSDP gathers weights in each pass."""
        device, compiled = self.accelerator.device, self.arguments.training.torch_compile
        plain = device.type == "cpu" and not compiled and not self.accelerator.is_fsdp2
        return plain and ignores_padding(model.text_model)

    def _parameter_groups(self, model) -> list[dict]:
        training = self.arguments.training
        return parameter_groups(model, training.learning_rates, training.weight_decay, training.layer_decay)

    def _create_loss(self, model) -> LossFunction:
        """The ordinary loss or, with teachers, that and theirs, for which the model gets adaptors."""
        training = self.arguments.training
        contrastive = ContrastiveLoss(training.label_smoothing, match_by_id=True)
        if not self.data.teachers:
            return contrastive
        weights = Distillation.parse(training.distillation)
        if weights.needs_adaptors:
            attach_adaptors(model, [facts.width for facts in self.data.teachers])
        return DistillationLoss(contrastive, weights, self.data.teachers)

    def _create_validator(self, model, columns) -> Validator | None:
        data = self.arguments.data
        if not data.validation_split or not columns.captions or not self.accelerator.is_main_process:
            return None
        try:
            dataset = load_split(
                data.dataset_name,
                data.validation_split,
                dataset_config_name=data.dataset_config_name,
                streaming=data.streaming,  # or else the whole training split would be downloaded as well
                image_column=data.image_column,
                caption_columns=data.caption_columns,
            )
        except SplitMissing as error:
            if data.validation_split != DataArguments.validation_split:
                raise
            self._say(f"no validation: the last model will be the best ({error})")
            return None
        precision = self.accelerator.mixed_precision
        limit = self.arguments.training.max_validation_samples
        return Validator(model, self.processor, dataset, columns, self.prepare, precision, limit)

    def fit(self) -> Path:
        """
        Train, validate and save.

        Returns:
            The folder of the best model.

        Raises:
            UserError: training diverged, or something could not be written.
            Interrupted: stopped by a signal, after saving a checkpoint.
        """
        training = self.arguments.training
        if training.existing_run not in ("stop", "replace"):
            self._resume(self.store.find(training.existing_run))
        self._announce()
        known = self.data.skipped.count  # reported already; training may find more while it decodes images
        with self._stopping_on_signals(), self._progress_bar() as progress:
            while self.state.step < self.total_steps:
                self._train_epoch(progress)
                self._end_epoch()
        self.data.stop_reading()
        if self.data.skipped.count > known:
            self._say(str(self.data.skipped))
        self._write_results()
        return self.output_dir

    def _resume(self, checkpoint: Path) -> None:
        self.state = self.store.load(checkpoint, self.average)
        if self.state.total_steps != self.total_steps:  # the rest of the learning-rate schedule would not fit
            raise UserError(
                f"{checkpoint} is from a run of {self.state.total_steps} steps, and this run has {self.total_steps}: "
                "resume with the same data, batch sizes and epochs, or start a new run from its model with "
                f"--model_name_or_path {self.output_dir} and another --output_dir"
            )

    def _train_epoch(self, progress: tqdm) -> None:
        set_train_mode(self.unwrapped, self.arguments.training.freeze_batch_norm)
        started = time.perf_counter()
        for batch in self._batches():
            result, pairs = self._train_step(batch)
            loss = result.loss.item()
            self.state.step += 1
            self.state.step_in_epoch += 1
            self.state.loss_sum += loss
            self.state.reference_loss_sum += loss_at_reference_batch(self.unwrapped, result.embeddings)
            seconds = time.perf_counter() - started
            self.state.seconds += seconds
            self._log_step(progress, result, loss, pairs / seconds)
            self._save_if_due()
            if self.state.step >= self.total_steps:
                break
            started = time.perf_counter()

    def _batches(self) -> Iterator[dict]:
        """Batches of the epoch. Ends on all processes together, because a stream may run out on one of them first."""
        batches = self.data.batches(self.state.epoch, self.state.batch_in_epoch)
        # If all images were decoded before, every batch is usable, and the processes need not ask each other.
        agree = self.data.sampler is None or cache_folder(self.arguments) is None
        while True:
            batch = next(batches, None)
            ended = batch is None
            if any_process(ended, self.accelerator.device) if agree else ended:
                return
            for row, reason in batch["unusable"]:
                self.data.skipped.add(row, reason)
            self.state.batch_in_epoch += 1
            unusable = "image_ids" not in batch
            if not (any_process(unusable, self.accelerator.device) if agree else unusable):
                yield batch

    def _train_step(self, batch: dict) -> tuple[StepResult, int]:
        accelerator, training = self.accelerator, self.arguments.training
        seed = training.seed * 1_000_003 + self.state.step
        chunks = self.prepare(batch, self._image_side())
        with self._faster_operations():
            result = contrastive_backward(accelerator, self.model, chunks, self.loss_function, seed)
        self._stop_if_not_finite(result)
        self._gradient_norms = self._measure_gradients()
        accelerator.clip_grad_norm_(self.model.parameters(), training.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.unwrapped.clamp_logit_scale()
        if self.average is not None:
            self.average.update_parameters(self.unwrapped)
        return result, max(len(result.embeddings.text), len(result.embeddings.image))

    def _faster_operations(self) -> AbstractContextManager:
        """What makes a step on a CPU faster. Compiled code has its own ways."""
        context = ExitStack()
        if not self.arguments.training.torch_compile:
            context.enter_context(fast_depthwise_gradients(self.accelerator.device))
        if self._groups_texts:
            context.enter_context(texts_of_similar_length(self.unwrapped.text_model))
        return context

    def _image_side(self) -> int:
        full = train_image_size(self.arguments, self.processor)
        return side_at(self.state.step, self.total_steps, self.arguments.data.start_image_size, full)

    def _measure_gradients(self) -> dict[str, float]:
        """Norms before clipping. In fp16, clipping removes the loss scale, so it must not be removed here."""
        if not self._is_logging_step():
            return {}
        loss_scale = self.accelerator.scaler.get_scale() if self.accelerator.scaler else 1.0
        return {part: norm / loss_scale for part, norm in gradient_norms(self.unwrapped).items()}

    def _stop_if_not_finite(self, result: StepResult) -> None:
        if not torch.isfinite(result.loss):
            culprit = locate_non_finite(self.unwrapped, result.embeddings)
            saved = self.store.all()
            remedy = f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint has been saved yet"
            raise UserError(
                f"the loss is {result.loss.item()} at step {self.state.step}: {culprit}. Lower the learning rate, or "
                f"use --mixed_precision bf16 or no; {remedy}"
            )

    def _is_logging_step(self) -> bool:
        return self.state.step % self.logging_interval == 0

    def _log_step(self, progress: tqdm, result: StepResult, loss: float, speed: float) -> None:
        rates = {group["part"]: group["lr"] for group in self.optimizer.param_groups}
        scale = self.unwrapped.logit_scale.exp().item()
        if not self.data.teachers:  # with them, no value of the loss means guessing
            self.doctor.after_step(self.state.step, loss, len(result.embeddings.image), len(result.embeddings.text))
        # A moving average, because the speed of single steps varies with the length of their captions.
        self._speed = speed if self._speed is None else 0.9 * self._speed + 0.1 * speed
        progress.update()
        progress.set_postfix_str(
            f"loss {loss:.3f}, lr {rates['heads']:.1e}, {self._speed:.0f} pairs/s, scale {scale:.1f}",
            refresh=False,
        )
        if not self._gradient_norms and self.state.step != self.total_steps:
            return
        values = {"train/loss": loss, "train/pairs_per_s": self._speed, "train/logit_scale": scale}
        values |= {f"learning_rate/{part}": rate for part, rate in rates.items()}
        values |= {f"gradient_norm/{part}": norm for part, norm in self._gradient_norms.items()}
        values |= {f"embeddings/{name}": value for name, value in embedding_statistics(result.embeddings).items()}
        self.accelerator.log(values, step=self.state.step)
        self.doctor.after_logging(values)

    def _save_if_due(self) -> None:
        steps = self.arguments.training.checkpointing_steps
        stop = any_process(self._stop_signal is not None, self.accelerator.device)
        if stop or (steps.isdigit() and self.state.step % int(steps) == 0):
            folder = self.store.save(self.state, self.average)
            if stop:
                raise Interrupted(f"stopped; continue with --existing_run resume ({folder})")
            self._checkpoint_saved()

    def _end_epoch(self) -> None:
        training = self.arguments.training
        state, finished = self.state, self.state.step >= self.total_steps
        if state.step_in_epoch == 0:
            raise UserError("an epoch had no usable batch; check the dataset")
        record = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "train_loss": state.loss_sum / state.step_in_epoch,
            "train_loss_at_batch_64": state.reference_loss_sum / state.step_in_epoch,
        }
        state.epoch, state.batch_in_epoch, state.step_in_epoch = state.epoch + 1, 0, 0
        state.loss_sum = state.reference_loss_sum = 0.0
        if finished or self.state.epoch % self._validation_interval() == 0:
            record |= self._validate(record["train_loss"])
        record["seconds"] = round(state.seconds, 1)
        state.history.append(record)
        if training.checkpointing_steps == "epoch":
            self.store.save(self.state, self.average)
            self._checkpoint_saved()

    def _validation_interval(self) -> int:
        """In epochs. While both encoders are locked, an epoch takes a second, and validation would take longer."""
        training = self.arguments.training
        if training.validation_epochs:
            return training.validation_epochs
        return 10 if training.trainable_image_layers == training.trainable_text_layers == 0 else 1

    def _checkpoint_saved(self) -> None:
        if self.accelerator.is_main_process:
            self.after_checkpoint(self.state.step)

    def _validate(self, train_loss: float) -> dict[str, float]:
        """Measure the recall of the current weights, or of their average if there is one; save the best model."""
        model = whole_model(self.accelerator, self.model) if self.average is None else self.average.module
        with self._uncompiled():
            metrics = self.validator(model) if self.validator is not None else {}
        recall = metrics.get("mean_recall@1", math.inf)  # without a validation split, the last model is the best
        if self.accelerator.is_main_process and (recall > self.state.best_recall or recall == math.inf):
            self.state.best_recall = recall if math.isfinite(recall) else -1.0
            if metrics:
                self.validator.calibrate(model)
            self._save_model(model)
            if metrics:
                self._write_examples(model)
        self.accelerator.wait_for_everyone()
        self.accelerator.log({f"validation/{name}": value for name, value in metrics.items()}, step=self.state.step)
        self._say_validation(train_loss, metrics)
        if metrics:
            self.doctor.after_validation(metrics, self.validator.num_images)
        return metrics

    def _uncompiled(self) -> AbstractContextManager:
        """Validation has other shapes than training, and compiling for them would take longer than validating."""
        compiled = self.arguments.training.torch_compile
        return torch.compiler.set_stance("force_eager") if compiled else nullcontext()

    def _save_model(self, model) -> None:
        """Replace the model's files in the run's folder one by one, each at once, so that it can always be loaded."""

        def write(part: Path) -> None:
            with without_adaptors(model):
                model.save_pretrained(part)
            self.processor.save_pretrained(part)

        staging = self.output_dir / ".model"
        write_atomically(staging, write)
        for file in sorted(staging.iterdir()):
            file.replace(self.output_dir / file.name)
        shutil.rmtree(staging)

    def _write_examples(self, model) -> None:
        """Some validation images, with words for them: the page, the card and the Space show them as examples."""
        drawn, seed = self.arguments.data.dataset_name == "shapes", self.arguments.training.seed

        def write(part: Path) -> None:
            self.validator.write_examples(model, part, drawn, seed)

        write_atomically(self.output_dir / EXAMPLES_FOLDER, write)

    def _write_results(self) -> None:
        if not self.accelerator.is_main_process:
            return
        pairs = self.total_steps * self._images_per_step()
        results = {
            "finished": True,
            "settings": self.arguments.to_dict(),
            "num_processes": world_size(),
            "steps": self.state.step,
            "training_minutes": round(self.state.seconds / 60, 2),
            "pairs_per_s": round(pairs / self.state.seconds, 1) if self.state.seconds else None,
            "final_train_loss": self.state.history[-1]["train_loss"],
            "final_train_loss_at_batch_64": self.state.history[-1]["train_loss_at_batch_64"],
            "best_validation_recall@1": self.state.best_recall if self.state.best_recall >= 0 else None,
            "skipped_rows": {"count": self.data.skipped.count, "first": self.data.skipped.first},
            "history": self.state.history,
            "provenance": self.provenance,
        }
        (self.output_dir / RESULTS_FILE).write_text(json.dumps(results, indent=1), encoding="utf-8")

    def _images_per_step(self) -> int:
        """Over all chunks and processes. If the dataset is smaller than a batch, its only batch is smaller, too."""
        size = joint_batch_size(self.arguments)
        return size if self.data.sampler is None else min(size, self.data.sampler.num_samples)

    def _announce(self) -> None:
        model, training = self.unwrapped, self.arguments.training
        learning = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
        total = sum(p.numel() for p in model.parameters()) / 1e6
        if self.data.skipped.count:
            self._say(str(self.data.skipped))
        images = len(self.data.dataset) if self.data.sampler is not None else "a stream of"
        self._say(
            f"{images} images; {self.total_steps} steps of {self._images_per_step()} images "
            f"({world_size()} processes x {training.per_device_train_batch_size} x "
            f"{training.gradient_accumulation_steps}); {learning:.1f} of {total:.1f} million weights learn; "
            f"{self.accelerator.device.type}"
        )
        if self.state.step:
            self._say(f"continuing after step {self.state.step}")

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            tqdm.write(text)

    def _say_validation(self, train_loss: float, metrics: dict[str, float]) -> None:
        if metrics:
            self._say(
                f"epoch {self.state.epoch}: train loss {train_loss:.4f}, validation recall@1 "
                f"image to text {metrics['image_to_text_recall@1']:.1%}, "
                f"text to image {metrics['text_to_image_recall@1']:.1%}"
            )
        else:
            self._say(f"epoch {self.state.epoch}: train loss {train_loss:.4f}")

    def _progress_bar(self) -> tqdm:
        hidden = not self.accelerator.is_main_process
        return tqdm(total=self.total_steps, initial=self.state.step, desc="training", unit="step", disable=hidden)

    @contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        """SIGTERM or Ctrl-C ends training after the current step, with a checkpoint; a second one ends it at once."""

        def stop(number, frame) -> None:
            if self._stop_signal is not None:
                raise KeyboardInterrupt
            self._stop_signal = number
            self._say("stopping after this step; press Ctrl-C again to stop at once")

        handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
