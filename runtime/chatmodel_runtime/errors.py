"""How a command of the runtime can end badly: reason, message, exit code.

    Failure
    ├── ConfigError   64  the configuration contradicts itself or is not known
    ├── BadModel      65  the model cannot serve, here or anywhere: never tried again
    └── TryAgain      75  something outside: hub, disk, Secret

Raised at edges (settings, hub, model files, engines), written once by `endings` as termination
message. Any other exception is a crash, 70. The reasons are the operator's
(`docs/reasons.md`); a contract test keeps the two lists in step.
"""

import json

EXIT_CRASH = 70
EXIT_TERMINATED = 143  # 128 and SIGTERM, as shells count
MESSAGE_LIMIT = 4000

BAD_MODEL_REASONS = frozenset(
    {
        "ModelNotFound",
        "RevisionNotFound",
        "UnsafeModelContent",
        "IntegrityError",
        "ChatTemplateMissing",
        "EngineUnsupported",
        "ModelLoadFailed",
        "InsufficientMemory",
    }
)
TRY_AGAIN_REASONS = frozenset(
    {
        "HubUnauthorizedOrNotFound",
        "ModelGated",
        "HubUnavailable",
        "InsufficientStorage",
        "CacheMissing",
        "ApiKeyMissing",
    }
)


class Failure(Exception):
    """A command ends with a reason; the message holds nothing secret and nothing of a patient."""

    exit_code = EXIT_CRASH
    retryable = False

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message

    def report(self) -> str:
        """Return the termination message: one JSON object of at most 4,000 bytes."""
        text = self.message
        while True:
            body = {"reason": self.reason, "message": text, "retryable": self.retryable}
            report = json.dumps(body, ensure_ascii=False)
            if len(report.encode()) <= MESSAGE_LIMIT:
                return report
            text = text[: len(text) // 2]  # escaped letters take up to six bytes


class ConfigError(Failure):
    """The configuration is not one this runtime understands."""

    exit_code = 64

    def __init__(self, message: str) -> None:
        super().__init__("ConfigError", message)


class BadModel(Failure):
    """The model cannot serve; `reason` is one of BAD_MODEL_REASONS."""

    exit_code = 65


class TryAgain(Failure):
    """Something outside the model is in the way; `reason` is one of TRY_AGAIN_REASONS."""

    exit_code = 75
    retryable = True
