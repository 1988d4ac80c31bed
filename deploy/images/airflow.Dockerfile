# Airflow with Sentinel's jobs beside it, from Airflow's own lock.
# Build it at the top of the checkout: docker build -f deploy/images/airflow.Dockerfile .
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements/airflow.txt requirements/bootstrap.txt requirements/
COPY scripts/bootstrap.py scripts/fetch_uv.py scripts/pip_settings.py scripts/image_environment.py scripts/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 scripts/image_environment.py packages airflow /opt/sentinel
COPY pyproject.toml README.md LICENSE ./
COPY src src
# Kernels are compiled for this kind of processor, and nobody who serves may write them: they are pickles.
RUN python3 scripts/image_environment.py project /opt/sentinel \
    && NUMBA_CACHE_DIR=/opt/sentinel/kernels /opt/sentinel/bin/python -m sentinel.scoring.compile_kernels

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Sentinel on Airflow" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/sentinel sentinel \
    && install -d -m 0700 -o sentinel -g sentinel \
       /var/lib/sentinel /var/lib/sentinel/models /opt/airflow /opt/airflow/logs
COPY --from=build /opt/sentinel /opt/sentinel
COPY feature_store /opt/feature_store
COPY airflow_dags /opt/airflow/dags
ENV PATH=/opt/sentinel/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    SENTINEL_LOGS__FORMAT=json \
    NUMBA_CACHE_DIR=/opt/sentinel/kernels \
    MPLCONFIGDIR=/tmp/matplotlib \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    SENTINEL_WORKSPACE=/var/lib/sentinel \
    SENTINEL_FEATURE_STORE=/opt/feature_store
WORKDIR /opt/airflow
USER 10001:10001
EXPOSE 8080
# One image, several processes: each service of Compose has its own check.
HEALTHCHECK NONE
ENTRYPOINT ["airflow"]
CMD ["api-server"]
