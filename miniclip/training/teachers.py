"""Teachers: frozen dual encoders whose embeddings a student learns from."""

import hashlib
import json

import torch
from PIL import Image

from miniclip.embeddings.dual_encoder import DualEncoder
from miniclip.embeddings.encode import inference
from miniclip.training.feature_cache import fingerprint


class Teacher(DualEncoder):
    """A frozen dual encoder. Its processor crops nothing away, because the student may see all of an image."""

    use = "a teacher"
    whole_images = True

    def fingerprint(self) -> str:
        """Hash of the weights and of what the processor does, so that another teacher's embeddings are never used."""
        images = json.dumps(self.processor.image_processor.to_dict(), sort_keys=True, default=str)
        tokenizer = self.processor.tokenizer
        words = json.dumps(tokenizer.get_vocab(), sort_keys=True)
        text = f"{fingerprint(self.model)} {images} {words} {self.processor.longest_text} {type(tokenizer).__name__}"
        return hashlib.sha256(text.encode()).hexdigest()

    def embed_inputs(self, inputs: dict[str, torch.Tensor], mixed_precision: str) -> torch.Tensor:
        """Unit vectors `(n, width)` of what `processor.images` returned, float32, on the CPU."""
        with inference(self.model, mixed_precision):
            return self.encode_image(**inputs).cpu()

    def encode_images(self, images: list[Image.Image], mixed_precision: str) -> torch.Tensor:
        """Unit vectors `(n, width)` of square RGB images, float32, on the CPU."""
        return self.embed_inputs(self.processor.images(images), mixed_precision)

    def encode_texts(self, texts: list[str], mixed_precision: str) -> torch.Tensor:
        """Unit vectors `(n, width)`, float32, on the CPU."""
        with inference(self.model, mixed_precision):
            return self.encode_text(**self.processor.texts(texts)).cpu()


def teacher_names(names: str) -> list[str]:
    """Those in a comma-separated list."""
    return [name.strip() for name in names.split(",") if name.strip()]


def load_teacher(name: str, device: torch.device | str = "cpu") -> Teacher:
    """
    One teacher from a folder or the Hub. Code that lies beside the weights is never run.

    Raises:
        UserError: not found, not a dual encoder, without processor, or with weights missing.
    """
    return Teacher.from_pretrained(name, device)
