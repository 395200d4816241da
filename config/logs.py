"""Logs: one JSON line per event on standard error, so that no text of a user can forge a line of its own."""

import logging
import logging.config
from typing import Any

import structlog

# What people send by accident, by the name of Django's exception: their page says what to do, and nobody else has to.
UNREAD = ("RequestDataTooBig", "TooManyFieldsSent", "TooManyFilesSent")


class OnlyAWarning(logging.Filter):
    """Django calls it an error, with a traceback that leads through its own code."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
        return True


def logging_config(*, debug: bool) -> None:
    """Set up standard logging and structlog together. Safe to call once per process."""
    stamps: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "json": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        structlog.processors.format_exc_info,
                        structlog.processors.JSONRenderer(ensure_ascii=True),
                    ],
                    "foreign_pre_chain": stamps,
                },
            },
            "filters": {"only_a_warning": {"()": OnlyAWarning}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"handlers": ["stderr"], "level": "INFO"},
            "loggers": {
                # At DEBUG the SDK logs whole request bodies, that is, what people write.
                "anthropic": {"level": "INFO"},
                "httpx2": {"level": "WARNING"},
                "celery": {"level": "INFO"},
                # One line per task and per request would drown the line per provider call.
                "celery.app.trace": {"level": "WARNING"},
                "celery.worker.strategy": {"level": "WARNING"},
                **{f"django.security.{name}": {"filters": ["only_a_warning"]} for name in UNREAD},
                "django.db.backends": {"level": "INFO" if debug else "WARNING"},
            },
        }
    )
    structlog.configure(
        processors=[*stamps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
