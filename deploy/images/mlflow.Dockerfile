# The MLflow server: tracking and registry in PostgreSQL, files behind it in S3.
# Build it at the top of the checkout: docker build -f deploy/images/mlflow.Dockerfile .
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements/mlflow.txt requirements/bootstrap.txt requirements/
COPY scripts/bootstrap.py scripts/fetch_uv.py scripts/pip_settings.py scripts/image_environment.py scripts/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 scripts/image_environment.py packages mlflow /opt/sentinel
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python3 scripts/image_environment.py project /opt/sentinel

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Sentinel MLflow server" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/sentinel sentinel \
    && install -d -m 0700 -o sentinel -g sentinel /var/lib/sentinel
COPY --from=build /opt/sentinel /opt/sentinel
ENV PATH=/opt/sentinel/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    SENTINEL_LOGS__FORMAT=json \
    HOME=/tmp \
    SENTINEL_WORKSPACE=/var/lib/sentinel \
    SENTINEL_MLFLOW__HOST=0.0.0.0
WORKDIR /var/lib/sentinel
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "sentinel.cli.ask", "http://127.0.0.1:5000/health"]
ENTRYPOINT ["sentinel"]
CMD ["mlflow"]
