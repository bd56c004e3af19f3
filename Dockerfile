# The job and TensorBoard in one image. Build: `docker compose build`, or `docker build -t lora-job .`
# Behind a proxy or a private CA: export HTTPS_PROXY, PIP_INDEX_URL, PIP_CERT as usual and run `docker compose build`.
# The base image decides which Python is the newest of its distribution:
# hadolint global ignore=DL3008

# By its digest, so that nobody can put another image behind the name; deploy/vm/bootstrap.sh has the same one.
ARG BASE_IMAGE=nvidia/cuda:12.8.1-base-ubuntu24.04@sha256:133c78a0575303be34164d0b90137a042172bdf60696af01a3c424ab402d86e2

FROM ${BASE_IMAGE} AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*

# The lock, installed where nothing but the lock changes it. CA file and index never reach the image.
FROM python AS packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
COPY requirements.txt /
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    --mount=type=secret,id=pip_cert \
    if [ -s /run/secrets/pip_cert ]; then export PIP_CERT=/run/secrets/pip_cert; fi; \
    python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --disable-pip-version-check --require-hashes -r /requirements.txt

FROM python AS job
# Any UID works: it may write to these four folders, its home is /tmp, and USER stands in for a passwd entry.
RUN groupadd --gid 10001 job \
 && useradd --uid 10001 --gid job --no-create-home --home-dir /tmp job \
 && install --directory --owner=job --group=job --mode=1777 /data /output /logs /cache
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=job \
    HF_HOME=/cache/huggingface \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    TRITON_CACHE_DIR=/cache/triton \
    OUTPUT_DIR=/output \
    LOGS_DIR=/logs \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

COPY --from=packages /opt/venv /opt/venv
COPY entrypoint.py /app/
COPY job /app/job
# In image-variables stand the names that this image sets itself: under compose, every other one must be known to the job.
RUN python -m compileall -q /app \
 && python -c 'import os; print(*os.environ, sep="\n")' >/app/image-variables

# Last, so that a new commit does not copy the packages again. A test holds the version equal to job/__init__.py's.
ARG IMAGE_REVISION=unknown
ARG IMAGE_SOURCE=
LABEL org.opencontainers.image.title="lora-job" \
      org.opencontainers.image.description="Fine-tunes a language model with LoRA on a spreadsheet, and measures whether it helped" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.revision="${IMAGE_REVISION}" \
      org.opencontainers.image.source="${IMAGE_SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"

# The working directory is / so that data/mine.xlsx in .env means the same file in the container and outside.
WORKDIR /
USER 10001:10001
ENTRYPOINT ["python", "/app/entrypoint.py"]
