"""Published checkpoints whose sizes are known here, so that a study can be priced before fetching.

Each is what the checkpoint's own config.json says (a test compares their numbers of parameters with
the published ones). A checkpoint that is on disk is always read itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PublishedLanguageModel:
    """A language model on the hub.

    Attributes:
        family: its `model_type`.
        layers, width, intermediate, query, key_value, vocabulary, tied: as
            `study_backbone.LanguageShape`.
        chat: whether its tokenizer brings a chat template.
        gated: whether its authors ask for an account that they have let in.
    """

    family: str
    layers: int
    width: int
    intermediate: int
    query: int
    key_value: int
    vocabulary: int
    tied: bool = False
    chat: bool = True
    gated: bool = False

    @property
    def shape(self) -> dict[str, Any]:
        """The sizes, as a study file has them."""
        keys = ("layers", "width", "intermediate", "query", "key_value", "vocabulary", "tied")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class PublishedVisionEncoder:
    """A vision encoder on the hub; attributes as `study_backbone.VisionShape`."""

    family: str
    layers: int
    width: int
    intermediate: int
    patch: int
    size: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    gated: bool = False

    @property
    def shape(self) -> dict[str, Any]:
        """The sizes, as a study file has them."""
        keys = ("layers", "width", "intermediate", "patch", "size")
        return {key: getattr(self, key) for key in keys} | {
            "mean": list(self.mean),
            "deviation": list(self.deviation),
        }


_LLM = PublishedLanguageModel
LANGUAGE_MODELS = {
    "lmsys/vicuna-7b-v1.5": _LLM("llama", 32, 4096, 11008, 4096, 4096, 32_000, chat=False),
    "lmsys/vicuna-13b-v1.5": _LLM("llama", 40, 5120, 13824, 5120, 5120, 32_000, chat=False),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": _LLM("llama", 22, 2048, 5632, 2048, 256, 32_000),
    "HuggingFaceTB/SmolLM2-135M-Instruct": _LLM(
        "llama", 30, 576, 1536, 576, 192, 49_152, tied=True
    ),
    "HuggingFaceTB/SmolLM2-360M-Instruct": _LLM(
        "llama", 32, 960, 2560, 960, 320, 49_152, tied=True
    ),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": _LLM(
        "llama", 24, 2048, 8192, 2048, 2048, 49_152, tied=True
    ),
    "microsoft/phi-2": _LLM("phi", 32, 2560, 10240, 2560, 2560, 51_200, chat=False),
    "microsoft/Phi-3-mini-4k-instruct": _LLM("phi3", 32, 3072, 8192, 3072, 3072, 32_064),
    "Qwen/Qwen2-0.5B": _LLM("qwen2", 24, 896, 4864, 896, 128, 151_936, tied=True),
    "Qwen/Qwen2-1.5B": _LLM("qwen2", 28, 1536, 8960, 1536, 256, 151_936, tied=True),
    "Qwen/Qwen2-7B": _LLM("qwen2", 28, 3584, 18944, 3584, 512, 152_064),
    "Qwen/Qwen2-0.5B-Instruct": _LLM("qwen2", 24, 896, 4864, 896, 128, 151_936, tied=True),
    "Qwen/Qwen2-1.5B-Instruct": _LLM("qwen2", 28, 1536, 8960, 1536, 256, 151_936, tied=True),
    "Qwen/Qwen2-7B-Instruct": _LLM("qwen2", 28, 3584, 18944, 3584, 512, 152_064),
    "Qwen/Qwen3-0.6B": _LLM("qwen3", 28, 1024, 3072, 2048, 1024, 151_936, tied=True),
    "Qwen/Qwen3-8B": _LLM("qwen3", 36, 4096, 12288, 4096, 1024, 151_936),
    "mistralai/Mistral-7B-v0.1": _LLM("mistral", 32, 4096, 14336, 4096, 1024, 32_000, chat=False),
    "mistralai/Mistral-7B-Instruct-v0.2": _LLM("mistral", 32, 4096, 14336, 4096, 1024, 32_000),
    "google/gemma-2b": _LLM(
        "gemma", 18, 2048, 16384, 2048, 256, 256_000, tied=True, chat=False, gated=True
    ),
    "google/gemma-2b-it": _LLM("gemma", 18, 2048, 16384, 2048, 256, 256_000, tied=True, gated=True),
    "google/gemma-2-2b": _LLM(
        "gemma2", 26, 2304, 9216, 2048, 1024, 256_000, tied=True, chat=False, gated=True
    ),
    "stabilityai/stablelm-2-1_6b": _LLM(
        "stablelm", 24, 2048, 5632, 2048, 2048, 100_352, chat=False
    ),
}

_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_ENCODER = PublishedVisionEncoder
VISION_ENCODERS = {
    "openai/clip-vit-base-patch32": _ENCODER("clip", 12, 768, 3072, 32, 224, *_CLIP),
    "openai/clip-vit-base-patch16": _ENCODER("clip", 12, 768, 3072, 16, 224, *_CLIP),
    "openai/clip-vit-large-patch14": _ENCODER("clip", 24, 1024, 4096, 14, 224, *_CLIP),
    "openai/clip-vit-large-patch14-336": _ENCODER("clip", 24, 1024, 4096, 14, 336, *_CLIP),
    "google/siglip-base-patch16-224": _ENCODER("siglip", 12, 768, 3072, 16, 224, *_HALVES),
    "google/siglip-so400m-patch14-384": _ENCODER("siglip", 27, 1152, 4304, 14, 384, *_HALVES),
    "facebook/dinov2-base": _ENCODER("dinov2", 12, 768, 3072, 14, 224, *_IMAGENET),
    "facebook/dinov2-large": _ENCODER("dinov2", 24, 1024, 4096, 14, 224, *_IMAGENET),
}


@dataclass(frozen=True)
class PublishedPair:
    """A released vision-language model on the hub, and the base that it was tuned from.

    Attributes:
        base: the language model it was tuned from, one of `LANGUAGE_MODELS`.
    """

    base: str

    @property
    def family(self) -> str:
        """Architecture of its language model."""
        return LANGUAGE_MODELS[self.base].family

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of its language model that do not depend on its vocabulary."""
        known = LANGUAGE_MODELS[self.base]
        return {"layers": known.layers, "width": known.width, "intermediate": known.intermediate}


RELEASED = {
    "llava-hf/llava-1.5-7b-hf": PublishedPair("lmsys/vicuna-7b-v1.5"),
    "llava-hf/llava-1.5-13b-hf": PublishedPair("lmsys/vicuna-13b-v1.5"),
}
