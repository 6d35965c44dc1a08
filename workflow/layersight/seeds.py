"""One study seed, many independent generators."""

import hashlib


def derive_seed(study_seed: int, name: str) -> int:
    """Seed of one named step, from the study's seed.

    The first eight bytes of the SHA-256 digest of `"<study_seed>:<name>"` in UTF-8, read as a
    big-endian integer, without the sign bit. Unlike `hash`, it is the same in every process and on
    every platform, and a new step leaves the seeds of the others as they are.

    Args:
        study_seed: the study's seed, any integer.
        name: what the seed is for, such as `"bootstrap/presence/test"`.

    Returns:
        An integer in 0..2**63-1, which NumPy and torch both take as a seed.

    Raises:
        TypeError: `study_seed` is not an integer.
    """
    if isinstance(study_seed, bool) or not isinstance(study_seed, int):
        raise TypeError(f"study_seed is {study_seed!r}; an integer is needed")
    digest = hashlib.sha256(f"{study_seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)
