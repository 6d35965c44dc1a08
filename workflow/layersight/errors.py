"""Errors meant for people: what is wrong, where, and what would be right."""


class UserError(Exception):
    """A mistake a user can mend. Shown as one message without a traceback; the exit code is 1."""


class StudyError(UserError):
    """A study file, or an override of it, is not what the study model allows."""


class AssetError(UserError):
    """An asset could not be fetched, does not match its digest, or is not safe to unpack."""


class DataError(UserError):
    """A table, picture or activation file is missing, truncated or not what it should be."""


class TrainingError(UserError):
    """Training cannot go on: the loss is not finite, or there is nothing to learn from."""
