# Builds an image that holds one model and serves it; docs/serving.md, "In a container", says how to use it.
# The model is compiled in a stage of its own, so that one command makes the whole image, and so that the MAX that
# compiles is the MAX that loads. Its code is for the processor that builds, unless TARGET names another.

ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS package
COPY pyproject.toml README.md LICENSE /source/
COPY compiler /source/compiler
COPY kernels /source/kernels
COPY probes /source/probes
COPY specs /source/specs
RUN python -m venv /opt/max-whisper && /opt/max-whisper/bin/pip install --no-cache-dir '/source[serve,vad]'

FROM package AS model
ARG SPEC=base
ARG TARGET=cpu
RUN /opt/max-whisper/bin/max-whisper build --spec "${SPEC}" --target "${TARGET}" --out /artifact

FROM python:${PYTHON}
RUN useradd --system --no-create-home --uid 10001 max-whisper
COPY --from=package /opt/max-whisper /opt/max-whisper
COPY --from=model /artifact /artifact
ENV PATH=/opt/max-whisper/bin:$PATH HOME=/tmp
USER 10001
EXPOSE 8000
# http.client, unlike urllib, does not ask a proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/health'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["max-whisper", "serve", "--host", "0.0.0.0", "--port", "8000", "--model", "whisper=/artifact"]
