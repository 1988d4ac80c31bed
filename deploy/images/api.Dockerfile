# A scorer, or with another command the process that follows the registry: only what those import.
# Build it at the top of the checkout: docker build -f deploy/images/api.Dockerfile .
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements/api.txt requirements/bootstrap.txt requirements/
COPY scripts/bootstrap.py scripts/fetch_uv.py scripts/pip_settings.py scripts/image_environment.py scripts/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 scripts/image_environment.py packages api /opt/sentinel
COPY pyproject.toml README.md LICENSE ./
COPY src src
# Kernels are compiled for this kind of processor, and nobody who serves may write them: they are pickles.
RUN python3 scripts/image_environment.py project /opt/sentinel \
    && NUMBA_CACHE_DIR=/opt/sentinel/kernels /opt/sentinel/bin/python -m sentinel.scoring.compile_kernels

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Sentinel scoring API" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/sentinel sentinel \
    && install -d -m 0700 -o sentinel -g sentinel \
       /var/lib/sentinel /var/lib/sentinel/models
COPY --from=build /opt/sentinel /opt/sentinel
ENV PATH=/opt/sentinel/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    SENTINEL_LOGS__FORMAT=json \
    NUMBA_CACHE_DIR=/opt/sentinel/kernels \
    SENTINEL_WORKSPACE=/var/lib/sentinel \
    SENTINEL_API__HOST=0.0.0.0
WORKDIR /var/lib/sentinel
USER 10001:10001
EXPOSE 8000
# On another kind of processor than the build's, each start compiles kernels, for a minute or more.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-m", "sentinel.cli.ask", "http://127.0.0.1:8000/readyz"]
ENTRYPOINT ["sentinel"]
CMD ["serve"]
