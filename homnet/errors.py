"""The errors a user can cause. Each message says what was found, where, and what to do."""


class HomNetError(Exception):
    """Base of every error that a user of the platform can cause."""


class CohortError(HomNetError):
    """A cohort on disk does not follow the format; the message names file, row and column."""


class ManifestError(HomNetError):
    """An image manifest is wrong; the message names file and row."""


class CheckpointError(HomNetError):
    """A checkpoint is incomplete, altered or not of this format."""


class ConfigError(HomNetError):
    """Settings that cannot work together, or not on this machine."""


class DataError(HomNetError):
    """The data given cannot support what was asked, for example a split without patients."""


class DivergedError(DataError):
    """A training run came to numbers that are none; its learning rate was too high."""


class RegistryError(HomNetError):
    """The registry has no such model, or does not allow what was asked."""
