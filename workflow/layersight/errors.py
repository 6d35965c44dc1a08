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
    """Training cannot go on, or there is nothing to learn."""


class DivergenceError(TrainingError):
    """Training diverged: the loss or the gradient is not finite, or the loss is beyond hope.

    Args:
        message: for people.
        step: the optimiser step that was not taken, counted from 0.
        learning_rate: of the language model's parameters at that step.
        connector_learning_rate: of the connector at that step.
    """

    def __init__(
        self, message: str, *, step: int, learning_rate: float, connector_learning_rate: float
    ) -> None:
        super().__init__(message)
        self.step = step
        self.learning_rate = learning_rate
        self.connector_learning_rate = connector_learning_rate
