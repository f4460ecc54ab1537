# mien serve, or any other verb: docker run --rm mien predict --help
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE LICENSE-WEIGHTS.md MANIFEST.in ./
COPY mien mien
RUN python -m venv /app && /app/bin/pip install --no-cache-dir '.[web]'

FROM python:3.13-slim
COPY --from=build /app /app
RUN useradd --system --no-create-home --shell /usr/sbin/nologin mien
USER mien
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Beyond 127.0.0.1 the server wants a token: docker run -e MIEN_TOKEN=…
ENTRYPOINT ["mien"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
