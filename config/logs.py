"""Logs: one JSON line per event on standard error, so that no text of a user can forge a line of its own."""

import logging.config
from typing import Any

import structlog


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
