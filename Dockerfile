# The image of crypto-trigger: the program in a virtual environment, all bytecode compiled, on an official Python image.

# It needs python3, 3.11 or later, and its venv module. The tag moves with each release of Python 3.13; a digest does
# not: --build-arg PYTHON_IMAGE=docker.io/library/python@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS python
# The official images hold no bytecode of the standard library. A container with a read-only root would compile it on
# every run. `unchecked-hash`: builders round the times of files, and bytecode that is checked by time is then stale.
# Python's own tests, some of which cannot be compiled, and the base image's pip are left out.
RUN python3 -m compileall -q -f -j 0 -x 'site-packages|/tests?/' --invalidation-mode unchecked-hash \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

FROM python AS dependencies
# pip stays in this stage.
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/crypto-trigger
COPY requirements.txt /source/
# The secret is optional: settings of pip, such as a package index of your own.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /pip/bin/pip --python /opt/crypto-trigger/bin/python3 install --no-cache-dir --no-compile \
    --require-hashes -r /source/requirements.txt \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/crypto-trigger

FROM dependencies AS program
COPY . /source
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /pip/bin/pip --python /opt/crypto-trigger/bin/python3 install --no-cache-dir --no-compile \
    --no-deps --prefix /program /source \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /program

FROM python
# Two layers, so that a new version of the program is a small one.
COPY --from=dependencies /opt/crypto-trigger /opt/crypto-trigger
COPY --from=program /program /opt/crypto-trigger
ENV PATH=/opt/crypto-trigger/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["/opt/crypto-trigger/bin/crypto-trigger"]
CMD ["publish"]
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="crypto-trigger" \
      org.opencontainers.image.description="Publish one {\"trigger\":\"update\"} to NATS per time slot, and exit with a status that means something" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
