"""Adapters that PEFT does not have, as PEFT methods: it trains, saves and loads them like its own.

To load one outside the library, call `register_all()` before `peft.PeftModel.from_pretrained`.
"""


def register_all() -> None:
    """Let PEFT know every adapter of this package. Calling it again changes nothing."""
    # Each module registers its adapter when it is first imported.
    from layersight.adapters import block_rotation, bottleneck, steering  # noqa: F401
