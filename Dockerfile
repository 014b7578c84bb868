# Two images from one file: `--target bot` is the long-running process, `--target lambda` the model.
# Both hold Python, what they import and nothing else: no shell, no package manager, no compiler.
# docs/images.md explains the stages.

# Any Debian-like image with Python 3.11 or newer. The images take its Python and C libraries.
ARG BASE_IMAGE=python:3.12-slim-bookworm

# The model of the lambda image, a .gguf file in the checkout.
ARG MODEL_FILE=lambda_inference/models/*/*.gguf

FROM ${BASE_IMAGE} AS compiler
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
COPY deploy/image/compiler.sh /build/
RUN sh /build/compiler.sh
WORKDIR /src
COPY pyproject.toml constraints.txt ./
COPY deploy/image/requirements.py /build/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/build \
    && python3 /build/requirements.py build > /build/requirements.txt \
    && /opt/build/bin/pip install --quiet --requirement /build/requirements.txt
COPY deploy/image/layers.py /build/

# What our code imports. These stages change only with the versions asked for.
FROM compiler AS lambda-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip install --quiet --no-compile --no-deps --target /layer/opt/packages \
        --constraint constraints.txt numpy tokenizers \
    && python3 /build/layers.py finish /layer

FROM compiler AS bot-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 /build/requirements.py bot postgres > /build/requirements.txt \
    && /opt/build/bin/pip install --quiet --no-compile --target /layer/opt/packages \
        --constraint constraints.txt --requirement /build/requirements.txt \
    && python3 /build/layers.py finish /layer

# Our code, with the C++ engine.
FROM compiler AS code
COPY CMakeLists.txt README.md LICENSE ./
COPY inference_client inference_client
COPY finetuning finetuning
COPY benchmarks benchmarks
COPY deploy deploy
COPY lambda_inference lambda_inference
COPY bot bot
COPY friend friend
RUN /opt/build/bin/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir /wheels .

FROM code AS lambda-code
RUN /opt/build/bin/pip install --quiet --no-compile --no-deps --target /opt/all /wheels/*.whl \
    && mkdir -p /layer/opt/friend \
    && mv /opt/all/lambda_inference /layer/opt/friend/ \
    && rm -rf /layer/opt/friend/lambda_inference/models \
    && python3 /build/layers.py finish /layer

FROM code AS bot-code
RUN /opt/build/bin/pip install --quiet --no-compile --no-deps --target /layer/opt/friend \
        /wheels/*.whl \
    && python3 /build/layers.py finish /layer

# Python itself: interpreter, standard library, certificates, and the C libraries of the above.
FROM compiler AS system
COPY --from=lambda-packages /layer/opt/packages /opt/packages
COPY --from=lambda-code /layer/opt/friend /opt/friend
RUN python3 /build/layers.py system /layer --libraries-of /opt/packages /opt/friend

# The bot brings more packages: see that they need no library which is missing.
FROM compiler AS bot-data
COPY --from=bot-packages /layer/opt/packages /opt/packages
COPY --from=system /layer /system
RUN python3 /build/layers.py check /system --libraries-of /opt/packages && mkdir /data

FROM ${BASE_IMAGE} AS model
ARG MODEL_FILE
COPY ${MODEL_FILE} /layer/opt/model/
COPY deploy/image/layers.py /build/
RUN python3 /build/layers.py settle /layer

# The model server for AWS Lambda (Function URL or API Gateway v2 events). The weights come first:
# that layer stays the same, byte for byte, until the model changes.
FROM scratch AS lambda
COPY --from=model /layer/ /
COPY --from=system /layer/ /
COPY --from=lambda-packages /layer/ /
COPY --from=lambda-code /layer/ /
ENV PATH=/usr/local/bin:/usr/bin PYTHONPATH=/opt/friend:/opt/packages PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 HOME=/tmp SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    OPENBLAS_NUM_THREADS=1 FRIEND_MODEL_FILE=/opt/model
USER 993:990
ENTRYPOINT ["python3", "-m", "lambda_inference.aws.runtime"]

# The bot. Its history lives in /data; mount a volume there, the rest may be read-only.
FROM scratch AS bot
COPY --from=system /layer/ /
COPY --from=bot-packages /layer/ /
COPY --from=bot-code /layer/ /
COPY --from=bot-data --chown=993:990 /data /data
ENV PATH=/opt/friend/bin:/usr/local/bin:/usr/bin PYTHONPATH=/opt/friend:/opt/packages \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/data XDG_DATA_HOME=/data \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt FRIEND_OPS_PORT=9464
USER 993:990
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python3", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["friend"]
CMD ["run"]
