"""One file, top to bottom. Every value from the environment is checked here; a wrong one stops the start.

`make run` writes what a clone needs into var/local.env; the real environment wins over that file.
"""

from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from django.utils.csp import CSP
from environs import Env, EnvError

from config.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = BASE_DIR / "var"

env = Env()
env.read_env(str(VAR / "local.env"), recurse=False)


def positive(name: str, default: float) -> float:
    """A number from the environment that makes no sense at zero or below."""
    value = env.float(name, default)
    if value <= 0:
        raise ImproperlyConfigured(f"{name} must be above zero, not {value}.")
    return value


try:
    # Who we are -------------------------------------------------------------------------------
    SECRET_KEY = env.str("SECRET_KEY", "")
    DEBUG = env.bool("DEBUG", False)
    HTTPS = env.bool("HTTPS", True)
    ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
    TIME_ZONE = env.str("TIME_ZONE", "UTC")
    PRODUCT = "Tally"

    # Where things are -------------------------------------------------------------------------
    DATABASE_URL = env.str("DATABASE_URL", f"sqlite:///{VAR / 'tally.sqlite3'}")
    REDIS_URL = env.str("REDIS_URL", "redis://127.0.0.1:6379/0")
    ANTHROPIC_API_KEY = env.str("ANTHROPIC_API_KEY", "")
    ANTHROPIC_ADMIN_KEY = env.str("ANTHROPIC_ADMIN_KEY", "")
    ANTHROPIC_BASE_URL = env.str("ANTHROPIC_BASE_URL", "").rstrip("/")
    SANDBOX = env.bool("SANDBOX", False)
    FAIL_AT = env.str("FAIL_AT", "")
    SITE_URL = env.str("SITE_URL", "http://127.0.0.1:8000").rstrip("/")
    EMAIL_URL = env.str("EMAIL_URL", "console://")
    DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", "tally@localhost")
    METRICS_TOKEN = env.str("METRICS_TOKEN", "")

    WEB_THREADS = env.int("WEB_THREADS", 8)

    # A turn, in seconds -----------------------------------------------------------------------
    LEASE_SECONDS = positive("LEASE_SECONDS", 30)
    SWEEP_SECONDS = positive("SWEEP_SECONDS", 2)
    RING_AGAIN_SECONDS = positive("RING_AGAIN_SECONDS", 5)
    CHECKPOINT_SECONDS = positive("CHECKPOINT_SECONDS", 2)
    GATHER_SECONDS = positive("GATHER_SECONDS", 0.06)
    NO_PROGRESS_SECONDS = positive("NO_PROGRESS_SECONDS", 60)
    TURN_DEADLINE_SECONDS = positive("TURN_DEADLINE_SECONDS", 900)
    RETRY_PATIENCE_SECONDS = positive("RETRY_PATIENCE_SECONDS", 20)

    # Models and money -------------------------------------------------------------------------
    MODELS: list[str] = env.list("MODELS", [])
    DEFAULT_MODEL = env.str("DEFAULT_MODEL", "claude-sonnet-5-5")
    TITLE_MODEL = env.str("TITLE_MODEL", "claude-haiku-5-5")
    SUMMARY_MODEL = env.str("SUMMARY_MODEL", "claude-haiku-5-5")
    SUMMARISE_AT_PERCENT = env.int("SUMMARISE_AT_PERCENT", 75)
    INFERENCE_GEO = env.str("INFERENCE_GEO", "")
    SEARCHES_PER_ANSWER = env.int("SEARCHES_PER_ANSWER", 3)
    DEFAULT_LIMIT = env.decimal("DEFAULT_LIMIT", Decimal(20))
    CALL_CEILING_DOLLARS = env.decimal("CALL_CEILING_DOLLARS", Decimal(5))
    CALL_CEILING_TOKENS = env.int("CALL_CEILING_TOKENS", 500000)

    # Files that people attach ----------------------------------------------------------------
    MEDIA_ROOT = Path(env.str("MEDIA_ROOT", str(VAR / "media")))
    LARGEST_FILE_MB = env.int("LARGEST_FILE_MB", 20)
    FILES_PER_MESSAGE = env.int("FILES_PER_MESSAGE", 20)
    UNSENT_FILES = env.int("UNSENT_FILES", 100)
    UNSENT_FILES_MB = env.int("UNSENT_FILES_MB", 100)
    UNSENT_FILE_DAYS = positive("UNSENT_FILE_DAYS", 7)
except EnvError as error:
    raise ImproperlyConfigured(f"A setting in the environment is wrong: {error}") from error

if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. `make run` makes one for this clone; in production put a long random "
            "value into the environment."
        )
    SECRET_KEY = "only-for-debugging-on-this-machine-0123456789-0123456789"  # noqa: S105
if urlsplit(REDIS_URL).scheme not in {"redis", "rediss", "unix"}:
    raise ImproperlyConfigured(f"REDIS_URL must start with redis://, rediss:// or unix://, not {REDIS_URL!r}.")
if ANTHROPIC_BASE_URL and urlsplit(ANTHROPIC_BASE_URL).scheme not in {"http", "https"}:
    raise ImproperlyConfigured(f"ANTHROPIC_BASE_URL must start with http:// or https://, not {ANTHROPIC_BASE_URL!r}.")
if urlsplit(SITE_URL).scheme not in {"http", "https"} or not urlsplit(SITE_URL).netloc:
    raise ImproperlyConfigured(f"SITE_URL must be where people find this site, https://…, not {SITE_URL!r}.")
if FAIL_AT and not SANDBOX:
    raise ImproperlyConfigured("FAIL_AT ends processes on purpose. It is for tests, and needs SANDBOX.")
if WEB_THREADS < 1:
    raise ImproperlyConfigured(f"WEB_THREADS must be one or more, not {WEB_THREADS}.")
if INFERENCE_GEO not in {"", "global", "us"}:
    raise ImproperlyConfigured(f"INFERENCE_GEO must be global, us or empty, not {INFERENCE_GEO!r}.")
# Five is as far as the worst case of a call goes: chat/pricing.py.
if not 0 <= SEARCHES_PER_ANSWER <= 5:
    raise ImproperlyConfigured(f"SEARCHES_PER_ANSWER must be from 0 (nobody searches) to 5, not {SEARCHES_PER_ANSWER}.")
if DEFAULT_LIMIT <= 0:
    raise ImproperlyConfigured(f"DEFAULT_LIMIT must be above zero dollars a month, not {DEFAULT_LIMIT}.")
if CALL_CEILING_DOLLARS <= 0:
    raise ImproperlyConfigured(f"CALL_CEILING_DOLLARS must be above zero, not {CALL_CEILING_DOLLARS}.")
if not 0 <= SUMMARISE_AT_PERCENT <= 95:
    raise ImproperlyConfigured(f"SUMMARISE_AT_PERCENT must be from 0 (never) to 95, not {SUMMARISE_AT_PERCENT}.")
if CALL_CEILING_TOKENS < 1:
    raise ImproperlyConfigured(f"CALL_CEILING_TOKENS must be one or more, not {CALL_CEILING_TOKENS}.")
for name in ("LARGEST_FILE_MB", "FILES_PER_MESSAGE", "UNSENT_FILES", "UNSENT_FILES_MB"):
    if globals()[name] < 1:
        raise ImproperlyConfigured(f"{name} must be one or more, not {globals()[name]}.")
if LARGEST_FILE_MB > 20:
    raise ImproperlyConfigured(f"LARGEST_FILE_MB must be 20 or less, as Claude takes no more, not {LARGEST_FILE_MB}.")

INSTALLED_APPS = [
    "chat",
    "allauth",
    "allauth.account",
    "chat.adminsite.TallyAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "chat.middleware.PrivatePages",
    "chat.middleware.OldPages",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "chat.context.product",
            ],
        },
    }
]

# The database -----------------------------------------------------------------------------------
try:
    DATABASES = {"default": dj_database_url.parse(DATABASE_URL)}
except (ValueError, dj_database_url.UnknownSchemeError) as error:
    raise ImproperlyConfigured(f"DATABASE_URL is not one that Tally can use: {error}") from error
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    if Path(DATABASES["default"]["NAME"]).parent == VAR:
        VAR.mkdir(mode=0o700, exist_ok=True)
    DATABASES["default"]["ENGINE"] = "config.sqlite"
    DATABASES["default"]["OPTIONS"] = {
        # Two readers that both want to write would otherwise deadlock and fail with "database is locked".
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA mmap_size=134217728;"
            "PRAGMA journal_size_limit=67108864;PRAGMA cache_size=-20000;"
        ),
    }
    DATABASES["default"]["CONN_MAX_AGE"] = 600
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"]["ENGINE"] = "config.postgres"
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)
else:
    raise ImproperlyConfigured("DATABASE_URL must name SQLite or PostgreSQL.")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis: live text and the doorbell. Nothing here is the truth. ----------------------------------
CELERY_BROKER_URL = (
    REDIS_URL.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=")
    if REDIS_URL.startswith("unix://")
    else REDIS_URL
)
# Without these a hung Redis would block the request that rings the doorbell, without end.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "max_retries": 0,
    "visibility_timeout": 3600,
}
CELERY_TASK_PUBLISH_RETRY = False
# Redis without room refuses what a worker notes about its messages. It should come back, not leave for good.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_POOL_LIMIT = 4
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "chat"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TIMEZONE = TIME_ZONE

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache",
    }
}

# Accounts ---------------------------------------------------------------------------------------
AUTH_USER_MODEL = "chat.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "conversation-list"
ACCOUNT_ADAPTER = "chat.accounts.AccountAdapter"
ACCOUNT_FORMS = {"login": "chat.accounts.LoginForm"}
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""

# Mail: console://, smtp://user:password@host:port, smtps://…
mail = urlsplit(EMAIL_URL)
try:
    mail_port = mail.port or (465 if mail.scheme == "smtps" else 587)
except ValueError as error:
    raise ImproperlyConfigured(f"EMAIL_URL has a port that is none: {error}.") from error
if mail.scheme not in {"console", "smtp", "smtps"}:
    raise ImproperlyConfigured(f"EMAIL_URL must start with console://, smtp:// or smtps://, not {mail.scheme}://.")
MAILERS: dict[str, dict] = {
    "default": (
        {"BACKEND": "django.core.mail.backends.console.EmailBackend"}
        if mail.scheme == "console"
        else {
            "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "OPTIONS": {
                "host": mail.hostname or "localhost",
                "port": mail_port,
                "username": mail.username or "",
                "password": mail.password or "",
                "use_ssl": mail.scheme == "smtps",
                "use_tls": mail.scheme == "smtp" and bool(mail.username),
                # The sweeper sends mail between its rounds.
                "timeout": 10,
            },
        }
    )
}

# What the browser may do --------------------------------------------------------------------------
# No inline script or style anywhere, so there is no nonce that could leak.
SECURE_CSP: dict[str, list[str]] = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "blob:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
    "object-src": [CSP.NONE],
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_HSTS_SECONDS = 63_072_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-sessionid" if HTTPS else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken" if HTTPS else "csrftoken"
SESSION_COOKIE_AGE = 7 * 24 * 3600
CSRF_FAILURE_VIEW = "chat.views.errors.csrf_failure"
# Bytes. The longest message is 400,000 characters, and a form writes some of them in twelve bytes each.
LARGEST_REQUEST = DATA_UPLOAD_MAX_MEMORY_SIZE = 5_500_000
# With files, from somebody who is signed in: as much as they may have waiting, and a long message.
LARGEST_UPLOAD = UNSENT_FILES_MB * 1_000_000 + LARGEST_REQUEST

# Files --------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", str(VAR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
# Straight onto the disk, for its owner alone; nobody is served from there but by our views.
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]
FILE_UPLOAD_PERMISSIONS, FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o600, 0o700
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "config.bundles.BundlingStorage"},
}

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
LOGGING_CONFIG = None
logging_config(debug=DEBUG)
