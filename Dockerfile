# Two images from one file: `--target bot` is the long-running process, `--target lambda` the model.
# BASE_IMAGE is any Debian-like image with Python 3.11 or newer.
ARG BASE_IMAGE=docker.io/library/python:3.12-slim-bookworm

# The C++ engine and both sets of packages are built here; no compiler reaches an image.
FROM ${BASE_IMAGE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --quiet build
COPY pyproject.toml constraints.txt CMakeLists.txt README.md ./
COPY lambda_inference lambda_inference
COPY inference_client inference_client
COPY bot bot
COPY friend friend
COPY finetuning finetuning
RUN /opt/build/bin/python -m build --wheel --outdir /wheels .

FROM build AS lambda-packages
RUN python3 -m venv --without-pip /opt/friend \
    && /opt/build/bin/pip --python /opt/friend/bin/python install --quiet \
        --constraint constraints.txt awslambdaric numpy tokenizers \
    && /opt/build/bin/pip --python /opt/friend/bin/python install --quiet --no-deps /wheels/*.whl \
    && cd /opt/friend/lib/python3*/site-packages && rm -rf bot friend inference_client finetuning

FROM build AS bot-packages
RUN python3 -m venv --without-pip /opt/friend \
    && /opt/build/bin/pip --python /opt/friend/bin/python install --quiet \
        --constraint constraints.txt "$(echo /wheels/*.whl)[postgres]"

# The model server for AWS Lambda (Function URL or API Gateway v2 events).
FROM ${BASE_IMAGE} AS lambda
ENV PATH=/opt/friend/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=lambda-packages /opt/friend /opt/friend
USER 993:990
ENTRYPOINT ["python", "-m", "awslambdaric"]
CMD ["lambda_inference.handler.handler"]

# The bot. Its history lives in /data; mount a volume there, the rest may be read-only.
FROM ${BASE_IMAGE} AS bot
ENV PATH=/opt/friend/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data XDG_DATA_HOME=/data FRIEND_OPS_PORT=9464
RUN mkdir /data && chown 993:990 /data
COPY --from=bot-packages /opt/friend /opt/friend
USER 993:990
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["friend"]
CMD ["run"]
