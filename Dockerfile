# The server, with a model that is mounted:
#
#   make export
#   docker build -t kaznews .
#   docker run -p 127.0.0.1:5001:5001 -v "$PWD/kaznews.npz:/model/kaznews.npz:ro" kaznews
#
# Checked by hadolint (make lint).
FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /venv
# Packages first: they change less often than the source.
COPY requirements.lock .
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY src src
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --no-index .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin kaznews \
    && mkdir /model
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001
WORKDIR /model
EXPOSE 5001
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5001/ping', timeout=3)"]
# In a container loopback is the container's own: -p says who may reach it.
CMD ["kaznews", "serve", "--model", "/model/kaznews.npz", "--host", "0.0.0.0", "--port", "5001"]
