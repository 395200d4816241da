# One image for web, worker and sweeper; compose.yaml says which runs what.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

RUN useradd --uid 10001 --create-home tally
WORKDIR /app

COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt

COPY . .
# var/ holds what is written: collected static files and uploads. A named volume takes its owner over from here.
RUN install -d -o tally -g tally var/media \
    && SECRET_KEY=only-for-collectstatic python manage.py collectstatic --noinput

USER tally
EXPOSE 8000
CMD ["uvicorn", "config.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
     "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--timeout-graceful-shutdown", "5"]
