# docker build -t reid-lab .                                              with CUDA; also runs on CPUs
# docker build -t reid-lab --build-arg VARIANT=cpu --build-arg TORCH_INDEX=ADDRESS .     CPU only, small
# docker run --rm -v "$PWD/runs:/work/runs" reid-lab +experiment=demo            see docs/docker.md
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG VARIANT=cuda
# an additional index with torch wheels without CUDA
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
RUN case "$VARIANT" in \
      cuda) ;; \
      cpu) test -n "$TORCH_INDEX" || { echo "VARIANT=cpu: set TORCH_INDEX to torch's CPU wheels"; exit 1; } ;; \
      *) echo "VARIANT=$VARIANT: allowed are cpu and cuda"; exit 1 ;; \
    esac \
    && python -m venv "$VIRTUAL_ENV" \
    && python -m pip install --constraint constraints.txt \
       ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch torchvision \
    && python -c "import sys, torch; sys.exit('$VARIANT' == 'cpu' and torch.version.cuda \
       and f'TORCH_INDEX has no torch {torch.__version__} without CUDA')"
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY conf conf
RUN python -m pip install --constraint constraints.txt '.[export,dashboard]'

FROM python:${PYTHON}-slim
ARG COMMIT=
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 REID_LAB_COMMIT=$COMMIT
RUN useradd --create-home --uid 1000 reid && install -d -o reid -g reid /work /work/runs
COPY --from=build /opt/venv /opt/venv
USER 1000
WORKDIR /work
ENTRYPOINT ["python", "-m", "reid_lab"]
CMD ["--help"]
