# impasto on a CPU, as an ordinary user:
#
#   docker build -t impasto .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" \
#     impasto photo.jpg painting.jpg -o out.png
#
# Other commands: docker run --rm --entrypoint impasto impasto doctor

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
# PyTorch's own index has the CPU build, a tenth of PyPI's.
RUN python -m venv --without-pip /opt/impasto \
    && pip --python /opt/impasto/bin/python install --no-cache-dir \
    --extra-index-url https://download.pytorch.org/whl/cpu . \
    # Headers and tests of PyTorch, which only compilers and its authors need.
    && rm -r /opt/impasto/lib/python3.12/site-packages/torch/include \
    /opt/impasto/lib/python3.12/site-packages/torch/test

FROM python:3.12-slim
COPY --from=build /opt/impasto /opt/impasto
# Weights that are asked for are kept here; mount a volume to keep them longer.
ENV PATH=/opt/impasto/bin:$PATH IMPASTO_HOME=/tmp/impasto
RUN useradd --no-create-home --uid 1000 impasto
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["impasto", "stylize"]
CMD ["--help"]
