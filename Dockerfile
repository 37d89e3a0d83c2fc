# Both commands in a container, installed from the wheel.
#   docker build -t cia .                                  CPU
#   docker build --build-arg TORCH=cu126 -t cia:cuda .     GPU; run it with --gpus all
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" -v cia-cache:/cache cia cia-extract --dataset demo --flow dis
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY extract extract
COPY adapt adapt
COPY data/manifests data/manifests
RUN python -m pip install --no-cache-dir build==1.6.1 && python -m build --wheel --outdir /dist .

FROM python:${PYTHON}-slim
# A build of torch in https://download.pytorch.org/whl: cpu, cu126, … It brings CUDA's libraries; the host needs the driver alone.
ARG TORCH=cpu
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /dist /dist
RUN python -m pip install --no-cache-dir -c /tmp/constraints.txt torch --index-url "https://download.pytorch.org/whl/${TORCH}" \
    && python -m pip install --no-cache-dir -c /tmp/constraints.txt --find-links /dist "cia-video[openvino]" \
    && rm -r /dist /tmp/constraints.txt \
    && mkdir /work /cache \
    && chmod 1777 /work /cache
# Downloaded weights; HOME for users without an entry in /etc/passwd.
ENV CIA_CACHE=/cache HOME=/work
WORKDIR /work
USER nobody
CMD ["cia-extract", "--help"]
